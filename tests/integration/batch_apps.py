"""Both workers' apps for batches without guests: ``celery -A batch_apps:work`` and ``batch_apps:root``.

A VM is a stub in the real jail, and its guest a directory on the host: the stages of a batch are the real
ones, and what they say over ssh is said to a shell on this host, with the guest's few paths put in that
directory. A command that ends with 255 is a connection that was lost, as ssh has it. A box has its copy of
this file, since the worker's user need not see the tests.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import stub_vmm

_DIRECTORY = Path(os.environ["BANGER_TEST_GUESTS"])


def _here(vm_id: str, text: str) -> str:
    """Return what a guest is told with its paths in the directory that stands for it."""
    place = _DIRECTORY / vm_id
    return text.replace("/run/banger", f"{place}/run").replace("/root/work", f"{place}/work")


def _argv(_keys: Any, vm_id: str, _address: str, command: Sequence[str], **_: Any) -> tuple[str, ...]:
    (_DIRECTORY / vm_id).mkdir(exist_ok=True)
    return ("/bin/sh", "-c", _here(vm_id, shlex.join(command)))


@contextlib.contextmanager
def _session(keys: Any, vm_id: str, address: str, command: Sequence[str]) -> Iterator[Any]:
    from banger.ssh import GuestSession

    yield GuestSession(_argv(keys, vm_id, address, command), Path(os.devnull))


def _work() -> Any:
    from workers import app, decisions, farmhand, guest_commands, settling, stages
    from workers.stages import collect, upload, work

    farmhand._RECONCILE_S = 0.5  # what is lost is to be found again within a test
    decisions._STILL_S = 2.0
    settling._LOST_S = 2.0
    settling._HOST_GONE_S = 3.0
    stages.EFFECTS["wait_ready", "do"] = lambda _request, _ctx: None
    stages.EFFECTS["guest_shutdown", "do"] = lambda _request, _ctx: {"graceful": False}
    guest_commands.guest_session = _session  # type: ignore[assignment]
    for stage in (upload, work, collect):
        stage.ssh_argv = _argv  # type: ignore[attr-defined]
    run_in_guest = guest_commands.run_in_guest

    def run_here(ctx: Any, vm_id: str, address: str, argv: Any, *, stdin: bytes = b"", **how: Any) -> Any:
        return run_in_guest(ctx, vm_id, address, argv, stdin=_here(vm_id, stdin.decode()).encode(), **how)

    work.run_in_guest = run_here  # type: ignore[attr-defined]
    return app.app


def __getattr__(name: str) -> Any:
    if name in ("work", "root"):
        app = globals()[name] = {"work": _work, "root": stub_vmm.root_app}[name]()
        return app
    raise AttributeError(name)
