"""A farm for the CLI's tests: real specifications, everything else played from what a test puts in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farm_facts import JOB, VM, record

from banger.cli.session import Session
from banger.contracts.errors import BangerError, CancelledError, NotFoundError
from banger.contracts.inventory import FoundVm
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.events import Event
from banger.farm import Farm
from banger.hosts import HostInfo
from banger.output import Output
from banger.pipelines import CREATE, Pipeline
from banger.placement import Used
from banger.records import Record
from banger.settings import Settings
from banger.submission import Outcome

DEADLINE_S = 10.0


def event(kind: str, stage: str = "", **more: Any) -> Event:
    fields = {"id": "1-0", "at": 1000.0, "kind": kind, "vm": VM, "job": JOB, "pipeline": "create"}
    return Event.model_validate(fields | {"stage": stage} | more)


class PlayedSubmission:
    """A job that goes as the test says: ``items`` first, then ``end``."""

    vm_id, job, pipeline = VM, JOB, CREATE

    def __init__(
        self,
        items: list[Event | Output] | None = None,
        end: Outcome | BangerError | None = None,
        at_work: Callable[[], None] = lambda: None,
    ) -> None:
        self._items = items or []
        self._end = end or Outcome("running")
        self._at_work = at_work
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def accepted(self) -> None:
        if isinstance(self._end, BangerError):
            raise self._end

    def wait(self, on_event: Any = None, on_output: Any = None) -> Outcome:
        for item in self._items:
            if isinstance(item, Event):
                on_event(item)
            elif on_output is not None:
                on_output(item)
        self._at_work()
        if self.cancelled.is_set():
            raise CancelledError("wait_ready failed: cancelled")
        if isinstance(self._end, BangerError):
            raise self._end
        return self._end


class PlayedRecords:
    """The few reads that the CLI makes without a verb of the farm's."""

    def __init__(self, farm: PlayedFarm) -> None:
        self._farm = farm

    def get(self, vm_id: str) -> Record | None:
        return next((r for r in self._farm.vms if r.id == vm_id), None)

    def used(self, _host: str) -> Used:
        return Used(2, 512, 3)


class PlayedFarm(Farm):
    """A farm that remembers what it was asked."""

    def __init__(self, settings: Settings, vms: list[Record] | None = None) -> None:
        super().__init__(settings)
        self.vms = vms or []
        self.known_hosts: list[HostInfo] = []
        self.past: list[Event] = []
        self.roots: dict[str, FoundVm] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.errors: dict[str, BangerError] = {}
        self.submission = PlayedSubmission()
        self.before_answer: Callable[[str], None] = lambda _ref: None

    @property
    def records(self) -> PlayedRecords:  # type: ignore[override]
        return PlayedRecords(self)

    def list(self) -> list[Record]:  # type: ignore[valid-type]
        return self.vms

    def show(self, ref: str) -> Record:
        found = next((r for r in self.vms if ref in (r.name, r.id)), None)
        if found is None:
            raise NotFoundError(f"there is no VM {ref!r}")
        return found

    def require_running(self, ref: str) -> Record:
        return self.show(ref)

    def found(self, record: Record) -> FoundVm | None:
        return self.roots.get(record.id)

    def timeline(self, ref: str) -> list[Event]:  # type: ignore[valid-type]
        return self.past

    def hosts(self) -> list[HostInfo]:  # type: ignore[valid-type]
        return self.known_hosts

    def submit_create(self, spec: VmSpec, *, start: bool = True) -> PlayedSubmission:  # type: ignore[override]
        self.asked.append(("create", spec, start))
        self.vms = [*self.vms, record(name=spec.name, spec=spec, state=State.RUNNING)]
        return self.submission

    def submit_run(  # type: ignore[override]
        self, spec: VmSpec, argv: Any, timeout_s: float, *, keep: bool = False
    ) -> PlayedSubmission:
        self.asked.append(("run", spec, list(argv), timeout_s, keep))
        return self.submission

    def submit(self, pipeline: Pipeline, ref: str, **params: Any) -> Any:
        self.asked.append((pipeline.name, ref, params))
        self.before_answer(ref)
        if ref in self.errors:
            raise self.errors[ref]
        self.vms = [
            r.model_copy(update={"state": pipeline.after}) if ref in (r.name, r.id) else r for r in self.vms
        ]
        return PlayedSubmission([event("finished", "tap", queue="banger.root.here", ms=12.0)])

    def _to_end(self, submission: Any, on_event: Any) -> Record:
        submission.wait(on_event)
        return record(state=State.RUNNING) if not self.asked else self.show(self.asked[-1][1])

    def delete(self, ref: str, timeout_s: float = 0, on_event: Any = None) -> None:
        self.asked.append(("delete", ref, timeout_s))
        if ref in self.errors:
            raise self.errors[ref]


def session(tmp_path: Path, *vms: Record) -> Session:
    """Return a session whose farm is played; its host is ``here``."""
    made = Session()
    made.settings = Settings(host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run")
    made.farm = PlayedFarm(made.settings, list(vms))
    return made
