"""Ctrl-C while jobs are on their way: what makes a VM is cancelled, all else goes on; both without us."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError

if TYPE_CHECKING:
    from banger.events import Event
    from banger.submission import Submission

OnEvent = Callable[["Event"], None]


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


class Followed:
    """The jobs that a command only follows: Ctrl-C leaves them to the workers, and says what goes on."""

    def __init__(self) -> None:
        self._last: dict[str, Event | None] = {}

    def hearing(self, name: str, on_event: OnEvent) -> OnEvent:
        """Return a listener of this VM's job that notes what it hears, and hands it on."""
        self._last[name] = None

        def heard(event: Event) -> None:
            self._last[name] = event
            on_event(event)

        return heard

    def ended(self, name: str) -> None:
        """Note that nothing of this VM's goes on."""
        self._last.pop(name, None)

    @contextlib.contextmanager
    def left_by_ctrl_c(self, say: Callable[[str], None]) -> Iterator[None]:
        """Say what goes on when Ctrl-C ends the block."""
        try:
            yield
        except KeyboardInterrupt:
            going_on = {name: last for name, last in self._last.items() if not last or last.kind != "settled"}
            for name, last in going_on.items():
                say(f"leaving; {_going_on(name, last)}")
            raise


def _going_on(name: str, last: Event | None) -> str:
    if last is None:
        return f"what was asked of {name} may still begin: `banger job list` tells"
    if last.unwinding:
        return f"the workers go on undoing the {last.pipeline} of {name} (job {last.job})"
    from banger.pipelines import PIPELINES  # not before it is needed: the command line answers at once

    undo = f"`banger job cancel {last.job}` undoes it"
    rest = undo if PIPELINES[last.pipeline].cancellable else f"job {last.job}, which cannot be cancelled"
    return f"the {last.pipeline} of {name} goes on ({rest})"
