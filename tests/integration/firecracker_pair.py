"""Stand-ins for Firecracker and its jailer, installed where root trusts them: see the two of them."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fake_firecracker
import fake_jailer

from root_worker.host import RootHost


@contextlib.contextmanager
def installed_pair() -> Iterator[dict[str, Path]]:
    """Yield the two programs' paths by the names that the policy has for them."""
    place = Path(tempfile.mkdtemp(dir="/run", prefix="banger-test-pair-"))  # none but root may write above it
    place.chmod(0o755)
    try:
        pair = {}
        for name, module in (("firecracker", fake_firecracker), ("jailer", fake_jailer)):
            pair[name] = place / name
            text = Path(module.__file__).read_text()
            pair[name].write_text(f"#!{Path(sys.executable).resolve()} -IS\n{text}")
            pair[name].chmod(0o755)
        yield pair
    finally:
        shutil.rmtree(place)


def with_pair(host: RootHost, pair: dict[str, Path], **policy: object) -> RootHost:
    """Return the host with the pair, and KVM taken as proven: the stand-in does without."""
    changes = {**pair, "accelerator": "kvm", **policy}
    return host._replace(policy=host.policy.model_copy(update=changes))
