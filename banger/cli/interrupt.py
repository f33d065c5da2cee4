"""Ctrl-C while a job is on its way: it is cancelled, and the clean-up is the workers' affair, not ours."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError

if TYPE_CHECKING:
    from banger.submission import Submission


@contextlib.contextmanager
def cancelling(submission: Submission, say: Callable[[str], None]) -> Iterator[None]:
    """While in the block, the first Ctrl-C cancels the job and goes on following it; the second leaves.

    Leaving raises KeyboardInterrupt. What was begun is undone all the same.
    """
    pressed = 0

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            # In a thread: this handler may have come in the middle of a Redis command of the main one.
            threading.Thread(target=_cancel, args=(submission, say), daemon=True).start()
            return
        say(f"leaving; the workers go on cleaning up (job {submission.job})")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cancel(submission: Submission, say: Callable[[str], None]) -> None:
    say("cancelling; what was made is being removed (Ctrl-C again leaves it to the workers)")
    try:
        submission.cancel()
    except BangerError as error:
        say(f"the job could not be cancelled: {error.brief}")
