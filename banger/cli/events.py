"""``banger events``: what happens on the farm."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.completion import vm_names
from banger.cli.failure import printable
from banger.cli.progress import title
from banger.cli.session import session_of
from banger.contracts.durations import format_duration

if TYPE_CHECKING:
    from banger.events import Event


def events(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this VM's.", autocompletion=vm_names)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: options.Json = False,
) -> int:
    """Print events, the oldest first. With --json, a line of JSON each.

    \b
    Examples:
      banger events
      banger events --follow dev
      banger events --follow --json
    """
    farm = session_of(ctx).farm
    vm_id = None if name is None else farm.show(name).id
    names = {record.id: record.name for record in farm.list()}
    past = farm.events.read(vm_id)
    for event in past:
        _say(event, names, as_json=as_json)
    if follow:
        for news in farm.events.follow(vm_id, after=past[-1].id if past else "0"):
            if news is None:
                continue
            if news.vm not in names and (record := farm.records.get(news.vm)):
                names[news.vm] = record.name
            _say(news, names, as_json=as_json)
    return 0


def _say(event: Event, names: dict[str, str], *, as_json: bool) -> None:
    typer.echo(json.dumps(event.model_dump(mode="json")) if as_json else printable(event_line(event, names)))


def event_line(event: Event, names: dict[str, str]) -> str:
    """Return an event as a line: when, which VM (the id where no name is known), and what."""
    clock = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)) + f".{int(event.at * 1000) % 1000:03d}"
    )
    return f"{clock}  {names.get(event.vm, event.vm):<16} {event.pipeline:<15} {_what(event)}".rstrip()


def _what(event: Event) -> str:
    if event.kind == "settled":
        return f"settled: {event.state}"
    words = [title(event), event.kind] if event.stage else [event.kind]
    if event.ms is not None:
        words.append(f"after {format_duration(event.ms / 1000)}")
    if event.error:
        words.append(f": {event.error.get('brief', '')}")
    if event.unwinding:
        words.append("(unwinding)")
    return " ".join(words).replace(" : ", ": ")
