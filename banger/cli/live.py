"""The live view of a terminal: a row a stage, the one at work with a spinner and its time."""

from __future__ import annotations

import time
from typing import Self

import rich.live
from rich.console import Console, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from banger.cli.failure import printable
from banger.cli.progress import outcome, title
from banger.contracts.durations import format_duration
from banger.events import Event

_REFRESHES_A_SECOND = 8  # a guest that boots under emulation needs the processor more than we do
_STYLES = {"ok": "green", "cancelled": "yellow", "failed": "bold red"}


class Live:
    """Shows a job's stages in place. Made on entry, since a terminal's size and encoding may change."""

    def __init__(self, *, keep: bool) -> None:
        self._rows: dict[tuple[str, str, bool], Row] = {}
        self._console = Console(stderr=True, highlight=False)
        self._live = rich.live.Live(
            get_renderable=self._table,
            console=self._console,
            refresh_per_second=_REFRESHES_A_SECOND,
            transient=not keep,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: Event) -> None:
        """Show an event. While a command of the user's runs, the screen is that command's."""
        if event.kind in ("started", "finished", "failed"):
            if not self._rows:  # not before: a job that is refused has no stages, and leaves no empty line
                self._live.start()
            key = (event.stage, event.direction, event.unwinding)
            self._rows.setdefault(key, Row(event, self._console)).take(event)
        if event.stage == "exec" and event.kind == "started":
            self._live.stop()

    def note(self, text: str) -> None:
        """Print a line above the stages."""
        self._console.print(Text(printable(text)))

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for row in list(self._rows.values()):
            table.add_row(*row.cells())
        return table


class Row:
    """A stage's row, from its first event to its last."""

    def __init__(self, event: Event, console: Console) -> None:
        self._seen = time.monotonic()
        self._event = event
        self._spinner = Spinner("dots" if console.encoding == "utf-8" else "line", style="cyan")

    def take(self, event: Event) -> None:
        """Remember the stage's latest event."""
        self._event = event

    def cells(self) -> tuple[RenderableType, ...]:
        """Return mark, stage, queue and time."""
        event = self._event
        running = event.kind == "started"
        took_s = time.monotonic() - self._seen if running else (event.ms or 0) / 1000
        mark: RenderableType = self._spinner
        if not running:
            said = outcome(event)
            mark = Text(said, _STYLES[said])
        style = "yellow" if event.unwinding else ""
        return (
            mark,
            Text(title(event), style),
            Text(event.queue, "dim"),
            Text(format_duration(took_s), justify="right"),
        )
