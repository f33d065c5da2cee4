"""The lab's disk: a copy of its Debian, with the locked dependencies where they are installed to, as ext4."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from banger.images.ext4 import make_ext4
from banger.shell import find_tool, run
from lab import recipe

_DEADLINE_S = 600.0
_FREE_MIB = 24 * 1024  # sparse: room for ten VMs, their images, and a test that fills up
_PYTHON = "3.11"  # of recipe.SUITE
_KEPT = ("vmlinuz", "initrd.img", "id_ed25519", "host_ed25519.pub")


def make_host_disk(debian: Path, target: Path) -> None:
    """Make ``target`` a directory with rootfs.ext4, and with what boots it and opens it.

    Installing some forty packages takes ten seconds here and minutes in the emulated host: they are installed
    here, into the very place, by the host's own Python. banger itself is not.
    """
    target.mkdir()
    tree = target / "tree"
    run(
        (find_tool("cp"), "--archive", "--reflink=auto", str(debian / "tree"), str(tree)),
        deadline_s=_DEADLINE_S,
    )
    wheels = tree / "root/wheels"
    _download(wheels)
    inside = (find_tool("chroot"), str(tree))
    pip = "/opt/banger/bin/pip"
    run((*inside, "/usr/bin/python3", "-m", "venv", "/opt/banger"), deadline_s=_DEADLINE_S)
    install = (
        "install",
        "--quiet",
        "--no-deps",
        "--find-links=/root/wheels",
        "--requirement=/root/wheels/lock",
    )
    run((*inside, pip, *install), deadline_s=_DEADLINE_S)
    shutil.rmtree(wheels)
    make_ext4(tree, target / "rootfs.ext4", free_mib=_FREE_MIB)
    shutil.rmtree(tree)
    for name in _KEPT:
        shutil.copy(debian / name, target / name)


def _download(wheels: Path) -> None:
    """Fetch the locked wheels for the host's Python, whichever ours is, and the lock that says which."""
    wheels.mkdir()
    lock = (recipe.ROOT / "requirements.lock").read_text()
    (wheels / "lock").write_text(lock)
    everything = wheels / "everything"  # markers are for the Python that installs, and pip would ask ours
    everything.write_text(re.sub(r" ; [^\\\n]*", " ", lock))
    argv = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
    target = ("--only-binary=:all:", f"--python-version={_PYTHON}", f"--dest={wheels}")
    run((*argv, *target, f"--requirement={everything}"), deadline_s=_DEADLINE_S)
