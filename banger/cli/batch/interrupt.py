"""Ctrl-C in `banger batch run`: the first cancels the batch, the second leaves that to the workers.

SIGTERM is heeded alike: it is how a CI system stops what it has started.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import typer

from banger.contracts.errors import BangerError, ConflictError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Hears that a batch shall be stopped, before it is submitted as after.

    ``cancel`` is called with the batch, in a thread.
    """

    def __init__(self, cancel: Callable[[str], None]) -> None:
        self._cancel = cancel
        self._batch: str | None = None
        self._pressed = 0
        self._over = False
        self._say: Callable[[str], None] = lambda text: typer.echo(text, err=True)

    def heard_at(self, say: Callable[[str], None]) -> None:
        """Say from now on here what there is to say: a view is on the screen."""
        self._say = say

    @property
    def asked(self) -> bool:
        """Whether the batch was to be stopped."""
        return self._pressed > 0

    @property
    def going_on(self) -> str:
        """What goes on when we leave."""
        return "not all files were fetched" if self._over else "the workers go on removing what is at work"

    def ended(self) -> bool:
        """Note that there is nothing to cancel any more: the next signal leaves. Return ``asked``."""
        self._over = True
        return self.asked

    def submitted(self, batch: str) -> None:
        """Take note of the batch; it is cancelled at once where that was asked for before."""
        self._batch = batch
        if self.asked:
            self._begin()

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """While in the block, signals are heard; KeyboardInterrupt upon the second."""
        before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, _signal: int, _frame: FrameType | None) -> None:
        self._pressed += 1
        if self._over or self._pressed > 1:
            raise KeyboardInterrupt
        if self._batch is not None:
            self._begin()

    def _begin(self) -> None:
        # In a thread: the signal may have come in the middle of a Redis command of the main one.
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        self._say("cancelling; what is at work is being removed (Ctrl-C again leaves it to the workers)")
        try:
            self._cancel(str(self._batch))
        except ConflictError:
            return  # it has just ended
        except BangerError as error:
            self._say(f"the batch could not be cancelled: {error.brief}")
