"""The VMM's proof of life: its QMP server answers a command."""

from __future__ import annotations

import socket
import time
from pathlib import Path

_NEGOTIATE = b'{"execute": "qmp_capabilities"}\n'
_DONE = b'{"return": {}}'
_MAX_ANSWER_BYTES = 4096


def answers(path: Path, deadline_s: float) -> bool:
    """Wait until the VMM answers; False as soon as it is gone.

    The greeting would not do: a thread of its own sends it, before the machine is made and the kernel
    loaded. Commands wait for the main loop. The socket listens before the VMM starts and dies with it, so
    nothing is polled. TimeoutError when neither comes within the deadline (seconds).
    """
    deadline = time.monotonic() + deadline_s
    said = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(deadline_s)
        try:
            client.connect(str(path))
            client.sendall(_NEGOTIATE)
            while _DONE not in said and len(said) < _MAX_ANSWER_BYTES:
                client.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = client.recv(_MAX_ANSWER_BYTES)
                if not chunk:
                    return False
                said += chunk
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            return False
    return _DONE in said
