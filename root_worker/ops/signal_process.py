"""Signal one very process and see it end, through a pidfd: never another that got its pid."""

from __future__ import annotations

import os
import select
import signal
from typing import Literal

from root_worker.ops.process import alive
from root_worker.registry import Process


def signal_and_wait(process: Process, name: Literal["TERM", "INT", "KILL"] | None, wait_s: float) -> bool:
    """Send the signal (None: just wait), wait ``wait_s`` at most, and tell whether the process is dead.

    A zombie is dead. One that was dead already, or whose pid is another's by now, gets no signal.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not alive(process):  # asked after the pidfd was opened, so the answer holds for it
            return True
        if name is not None:
            signal.pidfd_send_signal(pidfd, signal.Signals[f"SIG{name}"])
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)
