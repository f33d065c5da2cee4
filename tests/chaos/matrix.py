"""The matrix: every place of every pipeline, killed at every point, and what came of it.

Several VMs are at their points at once when a process is killed: each thread stands exactly where it was
told to, and each VM is judged for itself. One that did not get to its point (another holds the lock that it
needs) is judged as well, and its cell is tried again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from cells import (
    PREPARED_RUNNING,
    PREPARED_STOPPED,
    UNWINDING,
    Cell,
    Place,
    after,
    all_places,
    is_new,
    points,
    starts,
    tools,
)
from chaos_farm import ChaosFarm, fresh_id
from checking import delete, delivered_again, leaks, stays, tokens
from jobs import Ordered, last_row_fails, order, wait_for
from recovery import Recoveries
from snapshot import snapshot
from truth import untrue

DEADLINE_S = 60.0  # from a kill to the job's end: what is promised
_PREPARED_S = 60.0
_NO_PROGRESS_S = 1.5  # somebody holds what the others wait for
_LATE_S = 240.0  # for those that broke the promise
_TRIES = 6
_TOLD = 4
_AT_ONCE = {"worker": 12, "root-worker": 3, "redis": 4}  # root has four threads

Say = Callable[[str], None]


class Verdict(NamedTuple):
    """What came of a cell; ``wrong`` is empty where all is as it is to be."""

    cell: Cell
    wrong: tuple[str, ...]
    recovered_s: float | None


class Matrix:
    """Runs cells on one farm, and remembers what came of them."""

    def __init__(self, farm: ChaosFarm, recoveries: Recoveries, say: Say) -> None:
        self._farm = farm
        self._say = say
        self._recoveries = recoveries
        self.events: dict[Place, list[str]] = {}
        self.verdicts: list[Verdict] = []
        self.kills = 0
        self.left: list[str] = []
        self._before: set[str] = set()

    # --- the dry pass ----------------------------------------------------------------------------

    def count(self) -> None:
        """Run every pipeline once without a kill, and learn how many points each of its places has."""
        self._run([Cell(Place(name, "", "", "", ""), "", ()) for name in self._names()], dry=True)  # warm
        self._before = snapshot(self._farm.box)
        seen: dict[tuple[str, str], list[str]] = {}
        jobs = self._run([Cell(Place(name, "", "", "", ""), "", ()) for name in self._names()], dry=True)
        for one in self._farm.seen():
            seen[one["job"], one["step"]] = one["events"]
        by_name = {job.pipeline: job.job for job in jobs}
        for place in all_places():
            self.events[place] = seen.get((by_name[place.pipeline], place.step), [])
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

    # --- running ---------------------------------------------------------------------------------

    def run(self, cells: Iterable[Cell]) -> None:
        """Run cells, as many at once as can be."""
        waiting: dict[tuple[str, ...], list[tuple[Cell, int]]] = {}
        for cell in cells:
            waiting.setdefault(cell.victims, []).append((cell, 1))
        total, done = sum(map(len, waiting.values())), 0
        for victims, queue in waiting.items():
            size = min(_AT_ONCE.get(name, 4) for name in victims) if victims != ("tool",) else 4
            while queue:
                # One that was not reached waited for another's lock: it goes first, and soon alone.
                tried = queue[0][1]
                batch = [queue.pop(0) for _ in range(min(len(queue), max(1, size // tried)))]
                again = self._batch([cell for cell, _ in batch], last=tried >= _TRIES)
                tries = dict(batch)
                queue[:0] = [(cell, tries[cell] + 1) for cell in again]
                done += len(batch) - len(again)
                bad = sum(1 for verdict in self.verdicts if verdict.wrong)
                self._say(f"{done}/{total} cells, {self.kills} kills, {bad} bad; last {batch[0][0].title}")

    def finish(self) -> None:
        """Deliver again what killed workers had taken, and look once more for what is left."""
        self.left += delivered_again(self._farm)
        self.left += leaks(self._farm, self._before)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(place.pipeline for place in all_places()))

    def _run(self, cells: Sequence[Cell], *, dry: bool) -> list[Ordered]:
        assert dry
        jobs = [job for _, job in self._prepared(cells)]
        self._farm.plan([entry for job in jobs for entry in last_row_fails(job)])
        for job in jobs:
            job.send()
        late = wait_for(jobs, DEADLINE_S)
        wrong = [f"{job.pipeline} of {job.vm_id} did not end" for job in late]
        for job in jobs:
            wrong += stays(
                lambda job=job: untrue(self._farm, job.vm_id, after(job.pipeline), starts(job.pipeline))
            )
        self._farm.plan([])
        wrong += delete(self._farm, [job.vm_id for job in jobs])
        if wrong:
            raise AssertionError("without any kill:\n" + "\n".join(wrong))
        return jobs

    def _prepared(self, cells: Sequence[Cell]) -> list[tuple[Cell, Ordered]]:
        """Return a job for each cell, its VM in the state that the pipeline begins with."""
        made: list[Ordered] = []
        found = []
        for cell in cells:
            name = cell.place.pipeline
            if is_new(name):
                found.append((cell, order(self._farm, name)))
                continue
            made.append(order(self._farm, "create" if name in PREPARED_RUNNING else "create-stopped"))
            assert name in PREPARED_RUNNING + PREPARED_STOPPED, name
            job = order(self._farm, name, made[-1].vm_id)
            job.name = made[-1].name
            found.append((cell, job))
        for job in made:
            job.send()
        late = wait_for(made, _PREPARED_S)
        wrong = [job for job in made if job in late or job.state not in ("running", "stopped")]
        if wrong:
            raise AssertionError(f"a VM could not be made: {wrong}")
        return found

    def _batch(self, cells: Sequence[Cell], *, last: bool) -> list[Cell]:
        """Run these cells with one kill; return those that were not reached."""
        prepared = self._prepared(cells)
        entries = {job.job: self._entry(cell, job) for cell, job in prepared}
        failing = [entry for _, job in prepared for entry in last_row_fails(job)]
        self._farm.plan([*failing, *entries.values()])
        before = self._farm.pids()
        for _, job in prepared:
            job.send()
        killed_at = self._wait_and_kill(cells[0].victims, entries, [job for _, job in prepared], failing)
        jobs = [job for _, job in prepared]
        left_s = DEADLINE_S - (time.time() - killed_at)
        late = wait_for(jobs, max(0.0, left_s))
        if cells[0].victims != ("tool",):
            self._farm.wait_until_up({name: before[name] for name in cells[0].victims})
        self._farm.plan([])
        reached = self._farm.reached()
        return self._judge(prepared, entries, reached, late, killed_at, last=last)

    def _entry(self, cell: Cell, job: Ordered) -> dict[str, Any]:
        how = "tool" if cell.victims == ("tool",) else "hold"
        of = {"vm": job.vm_id, "job": job.job, "step": cell.place.step}
        return of | {"id": fresh_id(), "at": cell.at, "how": how}

    def _wait_and_kill(
        self,
        victims: tuple[str, ...],
        entries: dict[str, dict[str, Any]],
        jobs: Sequence[Ordered],
        failing: list[dict[str, Any]],
    ) -> float:
        """Wait until all are where they are to be killed, or no more of them get there; kill, return when."""
        wanted = {entry["id"] for entry in entries.values()}
        progress, count = time.monotonic(), -1
        while not wanted <= (reached := self._farm.reached()):
            if (now := len(wanted & reached)) != count:
                progress, count = time.monotonic(), now
            if time.monotonic() - progress > _NO_PROGRESS_S * (1 if count else 4):
                break
            time.sleep(0.02)
        if victims == ("tool",):
            return time.time()
        killed = self._farm.kill(*victims)
        self.kills += 1
        self._farm.plan(failing)  # nobody stops there a second time; the new process starts after this
        return killed.at

    def _judge(
        self,
        prepared: Sequence[tuple[Cell, Ordered]],
        entries: dict[str, dict[str, Any]],
        reached: set[str],
        late: Sequence[Ordered],
        killed_at: float,
        *,
        last: bool,
    ) -> list[Cell]:
        wrong = {}
        names = {}
        for cell, job in prepared:
            record = self._farm.box.admin.get(job.vm_id)
            names[job.job] = tokens(self._farm, job, record.slot if record else None)
            wrong[job.job] = self._wrong_with(cell, job, is_late=job in late)
        if late:
            self._say(f"{len(late)} jobs are late; waiting until they have ended, for the others' sake")
            wait_for(late, _LATE_S)
        after_all = delete(self._farm, [job.vm_id for _, job in prepared]) + leaks(self._farm, self._before)
        if after_all:
            self._before = snapshot(self._farm.box)  # told once
        for line in after_all:
            owners = [job for job, told in names.items() if any(one in line for one in told)]
            for owner in owners or list(wrong):
                wrong[owner].append(line)
        again = []
        for cell, job in prepared:
            if entries[job.job]["id"] not in reached and not wrong[job.job]:
                if not last:
                    again.append(cell)
                    continue
                wrong[job.job].append("its point was never reached")
            self._verdict(cell, wrong[job.job], job.ended - killed_at if job.ended else None)
        return again

    def _verdict(self, cell: Cell, wrong: Sequence[str], took_s: float | None) -> None:
        if took_s is not None:
            self._recoveries.add(_kind(cell), max(0.0, took_s))
        self.verdicts.append(Verdict(cell, tuple(wrong), took_s))
        for line in wrong[:_TOLD]:
            self._say(f"BAD {cell.title}: {line}")
        if len(wrong) > _TOLD:
            self._say(f"BAD {cell.title}: and {len(wrong) - _TOLD} lines more")

    def _wrong_with(self, cell: Cell, job: Ordered, *, is_late: bool) -> list[str]:
        if is_late:
            last = [f"{e.stage} {e.direction} {e.kind}" for e in job.events[-3:]]
            return [f"its job had not ended {DEADLINE_S:g} s after the kill; it got to {last}"]
        if job.refusal:
            return [f"its job was refused: {job.refusal}"]
        if cell.victims == ("tool",):
            return []  # a tool that is killed fails its stage: what must hold is that nothing stays
        name = cell.place.pipeline
        wrong = stays(lambda: untrue(self._farm, job.vm_id, after(name), starts(name)))
        if (ran := self._farm.commands().count(job.vm_id)) > 1:
            wrong.append(f"its command ran {ran} times")
        return wrong

    def failed(self) -> bool:
        """Tell whether anything was not as it is to be."""
        return bool(self.left) or any(verdict.wrong for verdict in self.verdicts)


def _kind(cell: Cell) -> str:
    if cell.victims == ("tool",):
        return "a stage's tool"
    return " and ".join({"root-worker": "root worker"}.get(name, name) for name in cell.victims)


def sample(cells: Sequence[Cell], count: int, seed: int) -> list[Cell]:
    """Return some cells, the same for the same seed; of each kind of place some."""
    return random.Random(seed).sample(list(cells), min(count, len(cells)))
