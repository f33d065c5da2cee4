"""Queue and task names: the words by which the apps know each other without importing each other."""

from __future__ import annotations

from typing import Final, Literal

Direction = Literal["do", "undo"]

CONTROL: Final = "banger.control"
RESERVE: Final = "banger.control.reserve"
BATCH: Final = "banger.control.batch"
FETCH: Final = "banger.work.fetch"
BEGIN: Final = "banger.work.begin"
UNWIND: Final = "banger.work.unwind"
RECONCILE: Final = "banger.work.reconcile"


def work_queue(host: str) -> str:
    """Return the unprivileged queue of a host."""
    return f"banger.work.{host}"


def root_queue(host: str) -> str:
    """Return the root-only queue of a host."""
    return f"banger.root.{host}"


def task_name(side: str, stage: str, direction: Direction) -> str:
    """Return a stage's Celery task name, such as ``banger.root.tap`` or ``banger.root.tap.undo``."""
    return f"banger.{side}.{stage}" + (".undo" if direction == "undo" else "")
