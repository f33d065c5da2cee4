"""Stage ``guest_shutdown``: sync, then power off, over SSH. A courtesy: the kill that follows is certain."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from banger.contracts.names import tap_name
from banger.contracts.requests import GuestShutdownRequest
from banger.shell import stream
from banger.ssh import DENIED, OWN_FAILURE, PORT, WRONG_KEY, ssh_argv
from workers.host import StageContext

_DIAL_S = 2.0
_POLL_S = 0.1
_SILENCE_S = 0.5
_MAX_SAID = 64 * 1024  # bytes, of ssh and of the guest
# Firecracker ends when its guest restarts (by the keyboard controller, as it was told to), and a guest that
# powers itself off stays, halted. With QEMU both end it.
_COMMAND = "sync; if grep -q reboot=k /proc/cmdline; then reboot; else poweroff; fi"


def do(request: GuestShutdownRequest, ctx: StageContext) -> dict[str, Any]:
    """Return ``{"graceful": True}`` once the guest is off the network, False when the time was not enough.

    A timeout of 0 skips it. It is not cancelled with its job: what follows would lose the guest's writes.
    """
    deadline = time.monotonic() + request.timeout_s
    if request.timeout_s == 0 or not _answers(request.address, min(_DIAL_S, request.timeout_s)):
        return {"graceful": False}
    said = bytearray()
    asked = stream(
        ssh_argv(
            ctx.host.paths,
            request.vm_id,
            request.address,
            ("sh", "-c", _COMMAND),
            dial_s=max(1, round(request.timeout_s)),
        ),
        deadline_s=max(0.1, deadline - time.monotonic()),
        emit=lambda _stream, chunk: said.extend(chunk[: max(0, _MAX_SAID - len(said))]),
        stop=lambda: _is_off(request),  # a guest that is gone may not have hung up
    )
    if asked.ended == "itself" and asked.code not in (0, OWN_FAILURE):
        return {"graceful": False}  # it has no such command
    if asked.code == OWN_FAILURE and any(words.encode() in said for words in (WRONG_KEY, DENIED)):
        return {"graceful": False}  # it was not asked: its key is gone with its directory, or it is another's
    while not _is_off(request):
        if ctx.host.stopping.wait(_POLL_S) or time.monotonic() > deadline:
            return {"graceful": False}
    return {"graceful": True}


def _is_off(request: GuestShutdownRequest) -> bool:
    """Tell whether the VMM has exited or, asked twice, the guest's kernel answers no more."""
    return _vmm_exited(request.vm_id) or not (
        _answers(request.address, _SILENCE_S) or _answers(request.address, _SILENCE_S)
    )


def _vmm_exited(vm_id: str) -> bool:
    """Tell whether the tap has lost its carrier, as it does the moment the VMM closes it."""
    try:
        return Path("/sys/class/net", tap_name(vm_id), "carrier").read_text() == "0\n"
    except OSError:
        return False  # no tap to be seen from here: the guest's silence has to tell


def _answers(address: str, within_s: float) -> bool:
    """Tell whether a kernel answers at the address: a refusal, while services stop, is an answer too."""
    try:
        socket.create_connection((address, PORT), timeout=within_s).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
