"""What the matrix consists of: each place of each pipeline, and where in it a process can be killed."""

from __future__ import annotations

from typing import NamedTuple

from crash_points import At

from banger.contracts.stages import STAGES, Side
from banger.contracts.states import State
from banger.pipelines import PIPELINES, Pipeline

UNWINDING = "unwinding"  # of a create that fails at its last row
PREPARED_RUNNING = ("stop", "kill", "restart", "delete", "sweep")
EPHEMERAL = ("run", "batch", "batch-keep")
FORGOTTEN = "sweep"  # nobody orders it: reconcile does, of what nobody knows any more


class Place(NamedTuple):
    """One step of a pipeline, or the order before its steps, as the crash points call it."""

    pipeline: str
    step: str
    stage: str
    direction: str
    service: str

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.step} {self.stage} {self.direction}".rstrip()


class Cell(NamedTuple):
    """A place and a point in it, and what is killed when it is reached; with a real guest or a stub."""

    place: Place
    at: At
    victims: tuple[str, ...]
    guest: bool = False

    @property
    def title(self) -> str:
        """What people read."""
        words = [self.place.pipeline, self.place.title, str(self.at), "+".join(self.victims)]
        return " / ".join(words + ["real guest"] * self.guest)


def pipeline_of(name: str) -> Pipeline:
    """Return the pipeline whose job it is."""
    return PIPELINES["create" if name == UNWINDING else name]


def is_new(name: str) -> bool:
    """Tell whether the pipeline makes its VM."""
    return ("do", "reserve") in pipeline_of(name).rows


def after(name: str) -> State:
    """Return the state in which the pipeline leaves its VM, come what may."""
    return State.ERROR if name == UNWINDING else pipeline_of(name).after


def starts(name: str) -> int:
    """Return how often a VMM is started in the VM's life, from its creation to the pipeline's end."""
    return {"create-stopped": 0, "set": 0, "restart": 2}.get(name, 1)


def places(name: str) -> list[Place]:
    """Return the places of a pipeline, in order."""
    if name == UNWINDING:
        undone = [_place(name, f"u{n:02d}", s, "undo") for n, s in enumerate(pipeline_of(name).unwinding)]
        return [Place(name, "unwind", "", "", "worker"), *undone]
    order = Place(name, "reserve" if is_new(name) else "begin", "", "", "worker")
    rows = [
        _place(name, step, row.stage, row.direction)
        for step, row in pipeline_of(name).steps.items()
        if row.stage != "file_sync" and row != ("do", "reserve")
    ]
    return [order, *rows]


def all_places() -> list[Place]:
    """Return the matrix's rows."""
    return [place for name in (*PIPELINES, UNWINDING) for place in places(name)]


def last_do(name: str) -> str:
    """Return the step of a pipeline's last place."""
    return places(name)[-1].step


def points(place: Place, events: list[str]) -> list[At]:
    """Return all points of a place: those around it, and one before each event in it."""
    around: list[At] = ["before", *range(1, len(events) + 1), "after"]
    return around if place.step in ("reserve", "begin", "unwind") else ["taken", *around, "reported"]


def tools(events: list[str]) -> list[int]:
    """Return the points at which a tool runs."""
    return [number for number, event in enumerate(events, 1) if event == "started"]


def _place(name: str, step: str, stage: str, direction: str) -> Place:
    side = STAGES[stage].side
    return Place(name, step, stage, direction, "worker" if side is Side.WORK else "root-worker")
