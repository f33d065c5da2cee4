"""How a batch is shown while it runs: a live table on a terminal, plain lines elsewhere, all on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from banger.batch.state import JobState
    from banger.cli.batch.board import Board
    from banger.cli.batch.clock import Clock


class BatchView(Protocol):
    """Shows a board while the block is entered."""

    @property
    def stages(self) -> bool:
        """Whether it is told which stages jobs are in."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave the screen as it is."""

    def change(self, old: JobState, new: JobState) -> None:
        """Show that a job has changed; the board knows it already."""

    def tick(self) -> None:
        """Show what time brings; called about twice a second."""

    def note(self, text: str) -> None:
        """Say something in between."""


def batch_view(board: Board, clock: Clock, *, quiet: bool = False, table: bool = True) -> BatchView:
    """Return the view that fits stderr; without ``table`` one of plain lines."""
    if table and not quiet and sys.stderr.isatty():
        from banger.cli.batch.live import BatchLive

        return BatchLive(board, clock)
    from banger.cli.batch.plain import BatchPlain

    return BatchPlain(board, clock, starts=not quiet)
