"""One verb for several VMs: at the same time, told in the order given, and the good ones proceed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence

import typer

from banger.cli.failure import say_error
from banger.cli.interrupt import Followed, OnEvent
from banger.cli.progress import stage_view
from banger.contracts.errors import BangerError, as_banger_error

Verb = Callable[[str, OnEvent], str]
"""Does the verb to one VM and returns what to say about it."""

_AT_ONCE = 32


def each(
    refs: Sequence[str], verb: Verb, *, quiet: bool = False, names: Mapping[str, str] | None = None
) -> int:
    """Do a verb to every VM and return the worst exit code. A single VM has its stages shown.

    A VM is called as it was asked for, or by its name in ``names``. What was begun goes on in the workers
    when the process is interrupted, and that is said.
    """
    refs = list(dict.fromkeys(refs))
    names, followed = {ref: ref for ref in refs} | dict(names or {}), Followed()
    if len(refs) == 1:
        (ref,) = refs
        with stage_view(quiet=quiet, keep=False) as view, followed.left_by_ctrl_c(view.note):
            said = verb(ref, followed.hearing(names[ref], view.event))
        typer.echo(f"{names[ref]}: {said}")
        return 0
    gate = threading.BoundedSemaphore(_AT_ONCE)
    with followed.left_by_ctrl_c(lambda text: typer.echo(text, err=True)):
        hearing = {ref: followed.hearing(names[ref], lambda _event: None) for ref in refs}
        pending = [(names[ref], _begin(verb, ref, gate, hearing[ref])) for ref in refs]
        worst = 0
        for name, outcome in pending:
            result = outcome.get()
            followed.ended(name)
            if isinstance(result, BangerError):
                say_error(result, about=name)
                worst = max(worst, result.exit_code)
            else:
                typer.echo(f"{name}: {result}")
    return worst


def _begin(
    verb: Verb, ref: str, gate: threading.BoundedSemaphore, on_event: OnEvent
) -> queue.SimpleQueue[str | BangerError]:
    """Start the verb in a thread that an interrupted process does not wait for."""
    outcome: queue.SimpleQueue[str | BangerError] = queue.SimpleQueue()

    def work() -> None:
        try:
            with gate:
                outcome.put(verb(ref, on_event))
        except Exception as error:
            outcome.put(as_banger_error(error))

    threading.Thread(target=work, name=ref, daemon=True).start()
    return outcome
