"""Stage ``wait_ready``: the guest answers SSH, with the host key that we made for it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from banger.contracts.errors import StageFailedError
from banger.contracts.requests import WaitReadyRequest
from banger.contracts.runner import HandOverError, stopped
from banger.shell import stream
from banger.ssh import PORT, WRONG_KEY, ssh_argv
from workers.host import StageContext

_POLL_S = 0.03
_BANNER_S = 2.0
_DIAL_S = 10
_LAST_WORDS_BYTES = 2000


def do(request: WaitReadyRequest, ctx: StageContext) -> None:
    """Return once a command has run in the guest or, where no login is asked for, its SSH server shows.

    StageFailedError, with the console's last words, after the request's timeout, and at once when somebody
    else's key answers. What ``stopped`` says, and HandOverError, when the job or the worker ends meanwhile.
    """
    console = ctx.host.paths.serial_log(request.vm_id)
    started = time.monotonic()
    said = "no connection has got as far as a key exchange"
    while (waited_s := time.monotonic() - started) < request.timeout_s:
        if wish := ctx.wish():
            raise stopped(wish, "cancelled while the guest was booting", _last_words(console))
        if ctx.host.stopping.wait(_POLL_S):
            raise HandOverError  # the guest goes on booting, and another worker waits as well as we do
        # Short, since a lost packet costs a second of TCP's own waiting; longer for guests that are slow.
        if not _shows_banner(request.address, min(1.0, max(0.2, waited_s / 20))):
            continue
        if not request.login:
            return
        refusal = _try_command(request, ctx, request.timeout_s - waited_s)
        if refusal is None:
            return
        said = refusal or said  # an attempt that was cut off says less than one before it
    raise StageFailedError(
        f"the guest did not answer SSH within {request.timeout_s:g} s",
        details=f"{said}\n{_last_words(console)}",
        resolution="A guest that is only slow needs a longer ready_timeout_s: see `banger config show`.",
    )


def _last_words(console: Path) -> str:
    """Return the end of the guest's console: a VM whose create failed is removed, and its log with it."""
    try:
        with console.open("rb") as file:
            file.seek(max(0, console.stat().st_size - _LAST_WORDS_BYTES))
            words = file.read(_LAST_WORDS_BYTES).decode(errors="replace").strip()
    except OSError as error:
        return f"its console cannot be read: {error.strerror}"
    return f"its console ends with:\n{words}" if words else "its console is empty"


def _shows_banner(address: str, connect_s: float) -> bool:
    try:
        with socket.create_connection((address, PORT), timeout=connect_s) as connection:
            connection.settimeout(_BANNER_S)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _try_command(request: WaitReadyRequest, ctx: StageContext, left_s: float) -> str | None:
    """Run ``true`` in the guest; return None when it ran, else what ssh said, nothing when it was cut off."""
    said = bytearray()
    argv = ssh_argv(ctx.host.paths, request.vm_id, request.address, ("true",), dial_s=_DIAL_S)
    result = stream(
        argv,
        deadline_s=left_s,
        emit=lambda _, chunk: said.extend(chunk[:1000]),
        stop=lambda: ctx.host.stopping.is_set() or bool(ctx.wish()),
    )
    text = said.decode(errors="replace").strip()
    if WRONG_KEY in text:
        raise StageFailedError(
            "another SSH server than the guest answers at its address",
            details=f"{request.address}: {text}",
            resolution=f"The guest's console: {ctx.host.paths.serial_log(request.vm_id)}",
        )
    return None if result.code == 0 else text
