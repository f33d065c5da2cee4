"""Stages as they happen: a live view on a terminal, elsewhere one plain line a stage, all on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, Self

import typer

from banger.cli.failure import printable
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.events import Event


class StageView(Protocol):
    """Shows a job's events while the block is entered."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave the screen as it is."""

    def event(self, event: Event) -> None:
        """Show an event."""

    def note(self, text: str) -> None:
        """Say something in between."""


def stage_view(*, quiet: bool = False, keep: bool = True) -> StageView:
    """Return the view that fits stderr. A live view is wiped off at its end unless ``keep``."""
    if quiet:
        return Quiet()
    if sys.stderr.isatty():
        from banger.cli.live import Live

        return Live(keep=keep)
    return Plain()


def title(event: Event) -> str:
    """Return a stage's name in a view: what is taken back is marked."""
    return f"undo {event.stage}" if event.direction == "undo" else event.stage


def outcome(event: Event) -> str:
    """Return how a stage ended, in a word: ``ok``, ``failed`` or ``cancelled``."""
    if event.kind == "finished":
        return "ok"
    return "cancelled" if (event.error or {}).get("kind") == "CancelledError" else "failed"


class Quiet:
    """Shows no stages, but says what has to be said."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def event(self, event: Event) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Print a line."""
        typer.echo(printable(text), err=True)


class Plain(Quiet):
    """One line a stage, when it has ended."""

    def event(self, event: Event) -> None:
        """Print how a stage ended."""
        if event.kind not in ("finished", "failed"):
            return
        took = "" if event.ms is None else format_duration(event.ms / 1000)
        said = outcome(event)
        if said == "failed":
            said = f"failed: {(event.error or {}).get('brief', '')}"
        self.note(f"{title(event):<23} {event.queue:<28} {took:>7}  {said}")


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __str__(self) -> str:
        return format_duration(time.monotonic() - self._started)
