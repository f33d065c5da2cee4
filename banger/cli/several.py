"""One verb for several VMs: at the same time, told in the order given, and the good ones proceed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from banger.cli.failure import say_error
from banger.cli.progress import stage_view
from banger.contracts.errors import BangerError, as_banger_error

if TYPE_CHECKING:
    from banger.events import Event

OnEvent = Callable[["Event"], None]
Verb = Callable[[str, OnEvent], str]
"""Does the verb to one VM and returns what to say about it."""

_AT_ONCE = 32


def each(
    refs: Sequence[str], verb: Verb, *, quiet: bool = False, names: Mapping[str, str] | None = None
) -> int:
    """Do a verb to every VM and return the worst exit code. A single VM has its stages shown.

    A VM is called as it was asked for, or by its name in ``names``. What was begun goes on in the workers
    when the process is interrupted.
    """
    refs = list(dict.fromkeys(refs))
    names = names or {}
    if len(refs) == 1:
        with stage_view(quiet=quiet, keep=False) as view:
            said = verb(refs[0], view.event)
        typer.echo(f"{names.get(refs[0], refs[0])}: {said}")
        return 0
    gate = threading.BoundedSemaphore(_AT_ONCE)
    pending = [(ref, _begin(verb, ref, gate)) for ref in refs]
    worst = 0
    for ref, outcome in pending:
        result = outcome.get()
        if isinstance(result, BangerError):
            say_error(result, about=names.get(ref, ref))
            worst = max(worst, result.exit_code)
        else:
            typer.echo(f"{names.get(ref, ref)}: {result}")
    return worst


def _begin(verb: Verb, ref: str, gate: threading.BoundedSemaphore) -> queue.SimpleQueue[str | BangerError]:
    """Start the verb in a thread that an interrupted process does not wait for."""
    outcome: queue.SimpleQueue[str | BangerError] = queue.SimpleQueue()

    def work() -> None:
        try:
            with gate:
                outcome.put(verb(ref, lambda _event: None))
        except Exception as error:
            outcome.put(as_banger_error(error))

    threading.Thread(target=work, name=ref, daemon=True).start()
    return outcome
