"""The matrix: every place of every pipeline, killed at every point, and what came of it.

Several VMs are at their points at once when a process is killed: each thread stands exactly where it was
told to. A VM that did not get to its point (another holds the lock that it needs) is judged as well, and its
cell is tried again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from batch import DEADLINE_S, Batch, Verdict, prepared, wait_until_prepared
from cells import FORGOTTEN, UNWINDING, Cell, Place, after, all_places, points, starts, tools
from chaos_farm import ChaosFarm
from checking import delete, delivered_again, leaks, stays
from jobs import Ordered, last_row_fails, wait_for
from recovery import Recoveries
from snapshot import snapshot
from truth import untrue

_TRIES = 6
_TOLD = 4
_AT_ONCE = {"worker": 12, "root-worker": 3, "redis": 4, "tool": 4}  # root has four threads
_GUESTS_AT_ONCE = 2
_WITH_A_GUEST = ("create", "run-keep", "restart", "stop")

Say = Callable[[str], None]


class Matrix:
    """Runs cells on one farm, and remembers what came of them."""

    def __init__(self, farm: ChaosFarm, recoveries: Recoveries, say: Say) -> None:
        self._farm = farm
        self._say = say
        self._recoveries = recoveries
        self._before: set[str] = set()
        self.events: dict[Place, list[str]] = {}
        self.verdicts: list[Verdict] = []
        self.left: list[str] = []
        self.kills = 0

    # --- what there is to kill -------------------------------------------------------------------

    def count(self) -> None:
        """Run every pipeline once without a kill, and learn how many points each of its places has."""
        ordered = {place.pipeline: None for place in all_places() if place.pipeline != FORGOTTEN}
        self._dry_pass(ordered)  # makes what the first VM makes and the last one leaves: locks, digests
        self._before = snapshot(self._farm.box)
        # Alone: what is forgotten still has the uid of a slot that others could be given.
        done = [*self._dry_pass(ordered), *self._dry_pass([FORGOTTEN])]
        jobs = {job.pipeline: job.job for job in done}
        seen = {(one["job"], one["step"]): one["events"] for one in self._farm.seen()}
        for place in all_places():
            self.events[place] = seen.get((jobs[place.pipeline], place.step), [])
        if wrong := leaks(self._farm, self._before):
            raise AssertionError("without any kill:\n" + "\n".join(wrong))

    def cells(self) -> list[Cell]:
        """Return all cells in which the process that runs a step is killed."""
        return [
            Cell(place, at, (place.service,))
            for place in all_places()
            for at in points(place, self.events[place])
        ]

    def other_cells(self) -> list[Cell]:
        """Return the cells in which something else is killed: both workers, Redis, a tool."""
        found = []
        for place in all_places():
            around = [at for at in points(place, self.events[place]) if isinstance(at, str)]
            if place.pipeline in ("create", "restart", "delete", "run", UNWINDING):
                found += [Cell(place, at, ("worker", "root-worker")) for at in around]
                found += [Cell(place, at, ("redis",)) for at in around]
            found += [Cell(place, at, ("tool",)) for at in tools(self.events[place])]
        return found

    def guest_cells(self) -> list[Cell]:
        """Return cells with real guests, where one matters: it boots, runs a command, shuts down."""
        return [
            Cell(place, at, (place.service,), guest=True)
            for place in all_places()
            if place.pipeline in _WITH_A_GUEST
            and place.stage in ("launch", "wait_ready", "exec", "guest_shutdown")
            for at in ("before", "after", "reported")
        ]

    # --- killing ---------------------------------------------------------------------------------

    def run(self, cells: Iterable[Cell]) -> None:
        """Run cells, as many at once as can be."""
        waiting: dict[tuple[tuple[str, ...], bool, bool], list[tuple[Cell, int]]] = {}
        for cell in cells:
            forgotten = cell.place.pipeline == FORGOTTEN  # is not found as soon as others begin
            waiting.setdefault((cell.victims, cell.guest, forgotten), []).append((cell, 1))
        total, done = sum(map(len, waiting.values())), 0
        for (victims, guest, _), queue in waiting.items():
            size = _GUESTS_AT_ONCE if guest else min(_AT_ONCE[name] for name in victims)
            while queue:
                # One that was not reached waited for another's lock: it goes first, and soon alone.
                tried = queue[0][1]
                tries = dict(queue[: max(1, size // tried) if tried <= _TRIES // 2 else 1])
                del queue[: len(tries)]
                again = self._kill(list(tries), last=tried >= _TRIES)
                queue[:0] = [(cell, tries[cell] + 1) for cell in again]
                done += len(tries) - len(again)
                bad = sum(1 for verdict in self.verdicts if verdict.wrong)
                self._say(f"{done}/{total} cells, {self.kills} kills, {bad} bad; {next(iter(tries)).title}")

    def finish(self) -> None:
        """Deliver again what killed workers had taken, and look once more for what is left."""
        self.left += delivered_again(self._farm)
        self.left += leaks(self._farm, self._before)

    def _kill(self, cells: Sequence[Cell], *, last: bool) -> list[Cell]:
        """Run these cells with one kill; return those that were not reached."""
        batch = Batch(self._farm, cells, self._before)
        verdicts = batch.run()
        self._before = batch.before
        self.kills += 1
        again = []
        for verdict in verdicts:
            if verdict.reached or verdict.wrong:
                self._note(verdict)
            elif last:
                self._note(verdict._replace(wrong=("its point was never reached",)))
            else:
                again.append(verdict.cell)
        return again

    def _note(self, verdict: Verdict) -> None:
        if verdict.recovered_s is not None:
            self._recoveries.add(_kind(verdict.cell), verdict.recovered_s)
        self.verdicts.append(verdict)
        for line in verdict.wrong[:_TOLD]:
            self._say(f"BAD {verdict.cell.title}: {line}")
        if len(verdict.wrong) > _TOLD:
            self._say(f"BAD {verdict.cell.title}: and {len(verdict.wrong) - _TOLD} lines more")

    def _dry_pass(self, names: Iterable[str]) -> list[Ordered]:
        jobs = [(cell, prepared(self._farm, cell)) for cell in map(_nowhere, names)]
        wait_until_prepared(self._farm, jobs)
        self._farm.plan([entry for _, job in jobs for entry in last_row_fails(job)])
        for _, job in jobs:
            job.send()
        ordered = [job for _, job in jobs]
        wrong = [f"{job.pipeline} did not end" for job in wait_for(ordered, DEADLINE_S)]
        for job in ordered:
            wrong += stays(
                lambda job=job: untrue(self._farm, job.vm_id, after(job.pipeline), starts(job.pipeline))
            )
        self._farm.plan([])
        wrong += delete(self._farm, [job.vm_id for job in ordered])
        if wrong:
            raise AssertionError("without any kill:\n" + "\n".join(wrong))
        return ordered


def sample(cells: Sequence[Cell], count: int, seed: int) -> list[Cell]:
    """Return some cells, the same for the same seed."""
    return random.Random(seed).sample(list(cells), min(count, len(cells)))


def _nowhere(pipeline: str) -> Cell:
    return Cell(Place(pipeline, "", "", "", ""), "", ())


def _kind(cell: Cell) -> str:
    names = {"root-worker": "root worker", "tool": "a stage's tool"}
    kind = " and ".join(names.get(name, name) for name in cell.victims)
    return f"{kind}, with real guests" if cell.guest else kind
