"""Jobs as a client orders them: with ids of our own, and sent again while nothing has come of it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import kombu.exceptions
from cells import EPHEMERAL, FORGOTTEN, UNWINDING, is_new, last_do, pipeline_of
from chaos_farm import RAN, ChaosFarm
from forgotten import forget
from stub_vmm import STUB_MEMORY_MIB

from banger.contracts.errors import UnavailableError
from banger.contracts.queues import BEGIN, CONTROL, RESERVE, work_queue
from banger.events import Event, parse_event

_AGAIN_S = 30.0  # as banger.submission
_POLL_S = 0.03
DISK_MIB = 64
STUB = {"memory_mib": STUB_MEMORY_MIB, "disk_mib": DISK_MIB, "system_overlay_mib": 64}
# The stages of a batch's job are answered without its batch, which is none of the host's.
_ATTEMPT = {
    "batch": "0" * 12,
    "index": 0,
    "attempt": 1,
    "home": "box",
    "uploads": True,
    "collects": True,
}
PARAMS: dict[str, dict[str, Any]] = {
    "run": {"argv": ["true"], "timeout_s": 60.0},
    "run-keep": {"argv": ["true"], "timeout_s": 60.0},
    "batch": {"batch": _ATTEMPT, "timeout_s": 60.0},
    "batch-keep": {"batch": _ATTEMPT, "timeout_s": 60.0},
    "stop": {"timeout_s": 1.0},
    "restart": {"timeout_s": 1.0},
    "delete": {"timeout_s": 0.0},
    "set": {"vcpus": 2, "disk_mib": DISK_MIB + 32},
}
GUEST = STUB | {"memory_mib": 128}
# A command that ran twice shows on the guest's console.
_COMMAND = ["sh", "-c", f"echo {RAN} > /dev/console; sleep 1"]
GUEST_PARAMS = PARAMS | {
    "run-keep": {"argv": _COMMAND, "timeout_s": 60.0},
    "stop": {"timeout_s": 10.0},
    "restart": {"timeout_s": 10.0},
}


@dataclass
class Ordered:
    """A job that was ordered of the farm. ``ended`` (epoch seconds) and ``state`` are None until it has.

    ``job`` is empty while we do not know what reconcile has called it.
    """

    farm: ChaosFarm
    pipeline: str
    vm_id: str
    job: str
    name: str
    ended: float | None = None
    state: str | None = None
    refusal: str = ""
    guest: bool = False  # a real one
    needs: Ordered | None = None  # what made its VM
    events: list[Event] = field(default_factory=list)
    _sent: float = 0.0
    _cursor: str = "-"

    def told(self) -> str:
        """Return how far it has got, in a line."""
        events = [f"{event.stage} {event.kind}" for event in self.events[-3:]]
        return f"{self.pipeline} of {self.vm_id}: {self.state} {self.refusal} {events}"

    def send(self) -> None:
        """Send the job's first message; the same again is harmless. What is forgotten reconcile finds."""
        if self.pipeline == FORGOTTEN:
            forget(self.farm.box, self.vm_id)
            return
        self._sent = time.monotonic()
        farm, pipeline = self.farm.box.farm, pipeline_of(self.pipeline)
        message = {
            "vm": self.vm_id,
            "job": self.job,
            "pipeline": pipeline.name,
            "params": (GUEST_PARAMS if self.guest else PARAMS).get(pipeline.name, {}),
        }
        if is_new(self.pipeline):
            spec = farm.spec(
                self.name, ephemeral=self.pipeline in EPHEMERAL, nat=True, **(GUEST if self.guest else STUB)
            )
            message |= {"spec": spec.model_dump(mode="json")}
        host = self.farm.box.settings.host
        task, queue = (RESERVE, CONTROL) if is_new(self.pipeline) else (BEGIN, work_queue(host))
        with contextlib.suppress(UnavailableError, kombu.exceptions.OperationalError):  # it is sent again
            farm._send(task, queue, message)

    def look(self) -> bool:
        """Read what is new of the job and tell whether it has ended; ring again where it never began."""
        client: Any = self.farm.box.admin.redis
        for entry_id, fields in client.xrange(f"banger:vm:{self.vm_id}:events", min=self._cursor):
            self._cursor = f"({entry_id}"
            event = parse_event(entry_id, fields)
            if not self.job and event.pipeline == self.pipeline:
                self.job = event.job  # whose id we could not choose
            if not self.job or event.job != self.job:
                continue
            self.events.append(event)
            if event.kind in ("settled", "refused"):
                self.ended, self.state = event.at, event.state
                self.refusal = str((event.error or {}).get("brief", "")) if event.kind == "refused" else ""
        if self.ended is None and self._sent and not self.events and time.monotonic() - self._sent > _AGAIN_S:
            self.send()
        return self.ended is not None


def new_id() -> str:
    """Return an id as VMs and jobs have it."""
    return secrets.token_hex(6)


def order(farm: ChaosFarm, pipeline: str, vm_id: str | None = None, *, guest: bool = False) -> Ordered:
    """Return a job, not sent yet, for a VM that is there, or for a new one."""
    vm_id = vm_id or new_id()
    name = f"{'run' if pipeline == 'run' else 'vm'}-{vm_id}"
    job = "" if pipeline == FORGOTTEN else new_id()
    return Ordered(farm, pipeline, vm_id, job, name, guest=guest)


def wait_for(jobs: Sequence[Ordered], deadline_s: float) -> list[Ordered]:
    """Wait until all jobs have ended; return those that have not within the deadline. Redis may be away."""
    deadline = time.monotonic() + deadline_s
    left = list(jobs)
    while left and time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):
            left = [job for job in left if not job.look()]
        time.sleep(_POLL_S)
    return left


def last_row_fails(job: Ordered) -> list[dict[str, Any]]:
    """Return the plan by which a create fails at its end, where its unwinding is what we are after."""
    if job.pipeline != UNWINDING:
        return []
    return [
        {
            "id": new_id(),
            "vm": job.vm_id,
            "job": job.job,
            "step": last_do("create"),
            "at": "after",
            "how": "fail",
        }
    ]
