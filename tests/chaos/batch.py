"""One kill: VMs of several cells brought to their points, a process killed, and each VM judged for itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from cells import FORGOTTEN, PREPARED_RUNNING, Cell, after, is_new, starts
from chaos_farm import ChaosFarm, fresh_id
from checking import delete, leaks, stays, tokens
from jobs import Ordered, last_row_fails, order, wait_for
from snapshot import snapshot
from truth import recorded, untrue

DEADLINE_S = 60.0  # from a kill to the job's end: what is promised
_PREPARED_S = 60.0
_REACHED_S = 6.0
_BOOTED_S = 40.0  # an emulated guest, beside another
_FOUND_S = 40.0  # what nobody knows is looked at twice
_NO_PROGRESS_S = 1.5  # somebody holds what the others wait for
_LATE_S = 240.0  # for those that broke the promise


class Verdict(NamedTuple):
    """What came of a cell: nothing ``wrong`` where all is as it is to be, and whether it was reached."""

    cell: Cell
    wrong: tuple[str, ...]
    recovered_s: float | None
    reached: bool = True


class Batch:
    """Cells of one kind of kill. ``before`` is what there was without their VMs."""

    def __init__(self, farm: ChaosFarm, cells: Sequence[Cell], before: set[str]) -> None:
        self._farm = farm
        self.before = before
        self._victims = cells[0].victims
        self._jobs = [(cell, prepared(farm, cell)) for cell in cells]
        wait_until_prepared(farm, self._jobs)
        self._wrong: dict[str, list[str]] = {job.vm_id: [] for _, job in self._jobs}
        self._entries = {job.vm_id: _entry(cell, job) for cell, job in self._jobs}

    def run(self) -> list[Verdict]:
        """Kill once and return what came of each cell."""
        failing = [entry for _, job in self._jobs for entry in last_row_fails(job)]
        self._farm.plan([*failing, *self._entries.values()])
        services = self._farm.pids()
        for _, job in self._jobs:
            job.send()
        self._wait_until_reached()
        if self._victims == ("tool",):
            killed_at = time.time()
        else:
            killed_at = self._farm.kill(*self._victims).at
            self._farm.plan(failing)  # nobody stops there a second time; the new process starts after this
        jobs = [job for _, job in self._jobs]
        late = wait_for(jobs, max(0.0, DEADLINE_S - (time.time() - killed_at)))
        if self._victims != ("tool",):
            self._farm.wait_until_up({name: services[name] for name in self._victims})
        self._farm.plan([])
        return self._verdicts(late, killed_at)

    def _wait_until_reached(self) -> None:
        """Wait until all are where they are to be killed, or no more of them get there."""
        wanted = {entry["id"] for entry in self._entries.values()}
        first_s = self._patience_s()
        progress, count = time.monotonic(), 0
        while not wanted <= (reached := self._farm.reached()):
            if (now := len(wanted & reached)) != count:
                progress, count = time.monotonic(), now
            patience_s = _NO_PROGRESS_S if count and not self._jobs[0][0].guest else first_s
            if time.monotonic() - progress > patience_s:
                return
            time.sleep(0.02)

    def _patience_s(self) -> float:
        cell, _ = self._jobs[0]
        if cell.guest:
            return _BOOTED_S
        return _FOUND_S if cell.place.pipeline == FORGOTTEN else _REACHED_S

    def _verdicts(self, late: Sequence[Ordered], killed_at: float) -> list[Verdict]:
        names = {}
        for cell, job in self._jobs:
            record = self._farm.box.admin.get(job.vm_id)
            names[job.vm_id] = tokens(self._farm, job, record.slot if record else None)
            self._wrong[job.vm_id] += self._wrong_with(cell, job, is_late=job in late)
        wait_for(late, _LATE_S)  # for the others' sake
        self._blame(names)
        reached = self._farm.reached()
        return [
            Verdict(
                cell,
                tuple(self._wrong[job.vm_id]),
                max(0.0, job.ended - killed_at) if job.ended else None,
                self._entries[job.vm_id]["id"] in reached,
            )
            for cell, job in self._jobs
        ]

    def _wrong_with(self, cell: Cell, job: Ordered, *, is_late: bool) -> list[str]:
        if is_late:
            last = [f"{event.stage} {event.direction} {event.kind}" for event in job.events[-3:]]
            return [f"its job had not ended {DEADLINE_S:g} s after the kill; it got to {last}"]
        if job.refusal:
            return [f"its job was refused: {job.refusal}"]
        if cell.victims == ("tool",):  # its stage fails: the record may say what it likes, if it is true
            return stays(lambda: untrue(self._farm, job.vm_id, recorded(self._farm, job.vm_id), None))
        name = cell.place.pipeline
        wrong = stays(
            lambda: untrue(self._farm, job.vm_id, after(name), None if cell.guest else starts(name))
        )
        if (ran := self._farm.commands(job.vm_id)) > 1:
            wrong.append(f"its command ran {ran} times")
        return wrong

    def _blame(self, names: dict[str, tuple[str, ...]]) -> None:
        """Delete all, and note what is left with the VM that it names; with all, where it names none."""
        lines = delete(self._farm, [job.vm_id for _, job in self._jobs]) + leaks(self._farm, self.before)
        if lines:
            self.before = snapshot(self._farm.box)  # told once
        for line in lines:
            owners = [vm_id for vm_id, told in names.items() if any(one in line for one in told)]
            for owner in owners or list(self._wrong):
                self._wrong[owner].append(line)


def prepared(farm: ChaosFarm, cell: Cell) -> Ordered:
    """Return a job for the cell, not sent yet; what its VM needs before is sent."""
    name = cell.place.pipeline
    if is_new(name):
        return order(farm, name, guest=cell.guest)
    made = order(farm, "create" if name in PREPARED_RUNNING else "create-stopped", guest=cell.guest)
    made.send()
    job = order(farm, name, made.vm_id, guest=cell.guest)
    job.name, job.needs = made.name, made
    return job


def wait_until_prepared(farm: ChaosFarm, jobs: Sequence[tuple[Cell, Ordered]]) -> None:
    """Wait until all that was sent by ``prepared`` has ended well."""
    made = [job.needs for _, job in jobs if job.needs is not None]
    late = wait_for(made, _PREPARED_S)
    if wrong := [job.told() for job in made if job in late or job.state not in ("running", "stopped")]:
        raise AssertionError(f"a VM could not be made: {wrong}")


def _entry(cell: Cell, job: Ordered) -> dict[str, Any]:
    how = "tool" if cell.victims == ("tool",) else "hold"
    of = {"vm": job.vm_id, "job": job.job or None, "step": cell.place.step}
    return of | {"id": fresh_id(), "at": cell.at, "how": how}
