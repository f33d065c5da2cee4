"""The farm's memory in Redis: VM records, jobs, names, leases, hosts, events.

A record is changed only here and by the journal's scripts, each one atomic. The keys:

    banger:vm:ID            hash    the record
    banger:vm:ID:events     stream  its timeline
    banger:job:JOB          hash    a run of a pipeline: state, the mark of each step
    banger:job:JOB:output   stream  what its command printed
    banger:job:JOB:cancel   string  there when it is to stop
    banger:name:NAME        string  the id of the VM with this name
    banger:host:HOST:leases hash    VM id -> slot:memory_mib:vcpus
    banger:host:HOST:seat   hash    the machine that serves under this name
    banger:hosts            hash    host -> what it last said of itself
    banger:inventory:HOST   string  the VMs that root finds on it
    banger:reconcile:LOOK   hash    host -> what it found when it was asked to look
    banger:serving:QUEUE    string  there while a worker serves the queue
    banger:events           stream  everything, for `banger events`
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from banger.connection import FarmRedis
from banger.contracts.calls import StageCall
from banger.contracts.dm_snapshot import Overlay
from banger.contracts.errors import (
    BangerError,
    CancelledError,
    ConflictError,
    NotFoundError,
    StageFailedError,
    WrongStateError,
    from_wire,
)
from banger.contracts.inventory import Inventory, inventory_key
from banger.contracts.journal import (
    CANCEL,
    ENDED_TTL_S,
    FARM_EVENTS,
    FARM_EVENTS_MAX,
    SERVING_TTL_S,
    VM_EVENTS_MAX,
    cancel_key,
    job_key,
    leases_key,
    name_key,
    serving_key,
    vm_events_key,
    vm_key,
)
from banger.contracts.names import FIRST_SLOT, is_id
from banger.contracts.queues import CONTROL, work_queue
from banger.contracts.seat import seat_key
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.events import event_json
from banger.findings import REPORT_TTL_S, Report, report_key
from banger.hosts import HostImage, HostInfo
from banger.pipelines import PIPELINES, Pipeline
from banger.placement import Used
from banger.scripts import BEGIN, LOSE, RESERVE, RESTORE, TAKE_UP, TELL_ONE, UPDATE_SPEC

log = logging.getLogger("banger.records")

HOSTS = "banger:hosts"
UNKNOWN = "0" * 12  # the image of a VM that nobody knows
GOING_ON = ("running", "unwinding")  # of a job's states
_ENDED = ("done", "failed")
_UNKNOWN_TTL_S = 3600  # of what is told of a VM without a record
_OVERTAKEN = StageFailedError(
    "the farm's memory was older than the host's: the job is not known there",
    details="what its host has stands",
)


class Record(BaseModel):
    """A VM as the farm intends it. ``created_at`` in epoch seconds; ``slot`` is None once released.

    ``rev`` counts its changes of state: of two copies of a record, the one with more is the younger.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    state: State
    generation: int
    host: str
    slot: int | None = None
    address: str | None = None
    job: str | None = None
    image: str
    kernel: str
    spec: VmSpec
    created_at: float
    error: dict[str, Any] | None = None
    rev: int = 0

    @property
    def called(self) -> str:
        """Its name; with its id, which alone leads to it, once another VM may have that name."""
        return self.name if self.slot is not None else f"{self.name} ({self.id})"

    @property
    def expires_at(self) -> float | None:
        """When its time to live is over, in epoch seconds; None where it has none."""
        return None if self.spec.ttl_s is None else self.created_at + self.spec.ttl_s


class Job(BaseModel):
    """A run of a pipeline for a VM. ``steps`` maps a step to its mark: a claim, ``done`` or ``failed``.

    ``began_ms`` (epoch, by Redis' clock as all times here; 0 where unknown) is when it got the VM,
    ``failed_ms`` when it began to be unwound, ``touched_ms`` when a step or a ring last touched it, ``rings``
    how often it was rung since the last step. ``said`` is what its stages told that the job remembers.
    ``boot`` is in which boot of its host it goes on, empty before that has taken it up.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    vm: str
    pipeline: str
    state: str
    params: dict[str, Any] = {}
    began_ms: int = 0
    failed_ms: int = 0
    touched_ms: int = 0
    rings: int = 0
    boot: str = ""
    error: dict[str, Any] | None = None
    steps: dict[str, str] = {}
    said: dict[str, dict[str, Any]] = {}

    @property
    def claims(self) -> list[str]:
        """The marks of steps that were begun and not ended: ``holder|until_ms|attempt``."""
        return [mark for mark in self.steps.values() if mark not in _ENDED]

    def left_of(self, calls: Sequence[StageCall]) -> list[StageCall]:
        """Return those of the job's calls that have not ended yet."""
        return [call for call in calls if self.steps.get(call.step) not in _ENDED]


class Records:
    """Reads and changes the farm's memory."""

    def __init__(self, client: FarmRedis) -> None:
        # redis-py annotates replies as unions of str, bytes and awaitables; ours decodes, and is synchronous.
        self.redis: Any = client

    def now(self) -> float:
        """Return the time in epoch seconds by Redis' clock: the one that all of its times are of."""
        seconds, microseconds = self.redis.time()
        return float(seconds) + float(microseconds) / 1_000_000

    # --- VMs -------------------------------------------------------------------------------------

    def get(self, vm_id: str) -> Record | None:
        """Return a VM's record, or None."""
        fields = self.redis.hgetall(vm_key(vm_id))
        return _record(fields) if fields else None

    def all(self) -> list[Record]:
        """Return all records, by creation. What is none is logged and left out: others must be seen."""
        keys = [key for key in self.redis.scan_iter(match="banger:vm:*", count=1000) if key.count(":") == 2]
        pipe = self.redis.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(key)
        records = []
        for key, fields in zip(keys, pipe.execute(), strict=True):
            try:
                records += [_record(fields)] if fields else []
            except (ValueError, KeyError) as error:
                log.warning("%s is no record: %s", key, error)
        return sorted(records, key=lambda record: (record.created_at, record.name))

    def find(self, ref: str) -> Record:
        """Return the VM of this name or id; NotFoundError naming those that there are."""
        vm_id = ref if is_id(ref) else self.redis.get(name_key(ref))
        record = self.get(str(vm_id)) if vm_id else None
        if record is None:
            records = self.all()
            record = next((r for r in reversed(records) if r.name == ref), None)
            if record is None:
                known = ", ".join(list(dict.fromkeys(r.name for r in records))[:20]) or "none"
                raise NotFoundError(
                    f"there is no VM {ref!r}",
                    details=f"VMs: {known}",
                    resolution="`banger vm list` shows all.",
                )
        return record

    def reserve(
        self,
        vm_id: str,
        job: str,
        pipeline: Pipeline,
        spec: VmSpec,
        host: HostInfo,
        image: HostImage,
        *,
        since: float | None = None,
        **params: Any,
    ) -> bool:
        """Take the name, a slot and capacity, and write record and job: all or nothing.

        False when the host has filled up meanwhile; ConflictError when the name is taken, CancelledError
        when the job was cancelled before it came. Doing it again for the same job changes nothing, also
        when its VM is gone by now. ``since`` (monotonic seconds) is when placing it began, for the timeline.
        """
        began = time.monotonic() if since is None else since
        record = {
            "id": vm_id,
            "name": spec.name,
            "generation": 1,
            "host": host.name,
            "image": image.id,
            "kernel": image.kernel,
            "spec": spec.model_dump_json(),
            "job": job,
        }
        reply = self.redis.eval(
            RESERVE,
            7,
            vm_key(vm_id),
            job_key(job),
            name_key(spec.name),
            leases_key(host.name),
            vm_events_key(vm_id),
            FARM_EVENTS,
            cancel_key(job),
            json.dumps({"id": vm_id} | _room(spec, host)),
            json.dumps(_flat(record)),
            json.dumps(
                _flat(
                    {"vm": vm_id, "pipeline": pipeline.name, "state": "running", "params": json.dumps(params)}
                )
            ),
            event_json(
                "finished",
                vm_id,
                job,
                pipeline.name,
                stage="reserve",
                host=host.name,
                queue=CONTROL,
                ms=round((time.monotonic() - began) * 1000, 1),
            ),
            str(pipeline.during),
        )
        outcome = str(reply[0])
        if outcome == "state":
            raise _illegal(vm_id, str(reply[1]), pipeline.during)
        if outcome == "cancelled":
            raise _cancelled_before(pipeline)
        if outcome == "taken":
            raise ConflictError(
                f"a VM named {spec.name!r} exists already",
                details=f"its id is {reply[1]}",
                resolution=f"Choose another name, or `banger vm delete {spec.name}` first.",
            )
        return outcome != "full"

    # --- jobs ------------------------------------------------------------------------------------

    def begin(
        self, vm_id: str, job: str, pipeline: Pipeline, params: dict[str, Any], rev: int | None = None
    ) -> Record:
        """Give the VM to a job, if its state allows, and return its record.

        Doing it again for the same job changes nothing. NotFoundError, ConflictError (another job has
        it, or its revision is not ``rev``, where that is said), WrongStateError or CancelledError (before
        it came) otherwise.
        """
        reply = self.redis.eval(
            BEGIN,
            5,
            vm_key(vm_id),
            job_key(job),
            vm_events_key(vm_id),
            FARM_EVENTS,
            cancel_key(job),
            job,
            pipeline.name,
            ",".join(sorted(pipeline.before)),
            str(pipeline.during),
            int(pipeline.starts),
            json.dumps(params),
            event_json("begun", vm_id, job, pipeline.name),
            int(pipeline.after is not State.GONE),
            "" if rev is None else rev,
        )
        outcome, detail = str(reply[0]), str(reply[1])
        record = self.get(vm_id)
        if outcome == "gone" or record is None:
            raise NotFoundError(f"there is no VM {vm_id}", resolution="`banger vm list` shows all.")
        if outcome == "busy":
            raise ConflictError(
                f"VM {record.name} is busy: job {detail} ({record.state}) has it",
                resolution=f"Wait for it (`banger events --follow {record.name}`) and try again.",
            )
        if outcome == "moved":
            raise ConflictError(f"VM {record.name} has changed since the {pipeline.name} was asked for")
        if outcome == "state":
            raise wrong_state(record, pipeline)
        if outcome == "cancelled":
            raise _cancelled_before(pipeline)
        return record

    def take_up(self, job: Job, boot: str, again: Sequence[str]) -> None:
        """Have a job go on in this boot of its host, unless it was taken up there since ``job`` was read.

        ``again`` are the steps to be done once more. The VM has a new start with them: what the boot before
        has sent is of an older one.
        """
        self.redis.eval(
            TAKE_UP,
            4,
            vm_key(job.vm),
            job_key(job.id),
            vm_events_key(job.vm),
            FARM_EVENTS,
            job.boot,
            boot,
            ",".join(again),
            event_json("rebooted", job.vm, job.id, job.pipeline),
        )

    def job(self, job: str) -> Job | None:
        """Return a job, or None where it is not known (any more)."""
        return _job(job, self.redis.hgetall(job_key(job)))

    def jobs_of(self, jobs: Sequence[str]) -> dict[str, Job]:
        """Return those of the jobs that are known, by id."""
        pipe = self.redis.pipeline(transaction=False)
        for job in jobs:
            pipe.hgetall(job_key(job))
        found = [_job(job, fields) for job, fields in zip(jobs, pipe.execute(), strict=True)]
        return {job.id: job for job in found if job}

    def jobs(self) -> list[Job]:
        """Return all jobs that are known, the oldest first: those at work, and what ended within a week."""
        keys = [key for key in self.redis.scan_iter(match=job_key("*"), count=1000) if key.count(":") == 2]
        pipe = self.redis.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(key)
        found = [_job(key.rpartition(":")[2], said) for key, said in zip(keys, pipe.execute(), strict=True)]
        return sorted((job for job in found if job), key=lambda job: (job.began_ms or job.touched_ms, job.id))

    def cancel(self, job: str) -> None:
        """Ask a job to stop: it is read at the start of each stage, then what was done is undone.

        One that is still on its way will be refused when it comes. WrongStateError for one that undoes
        things itself: cut off in the middle, a stop or a delete would leave a VM that is neither.
        """
        known = self.job(job)
        if known is not None and not PIPELINES[known.pipeline].cancellable:
            raise WrongStateError(
                f"a {known.pipeline} cannot be cancelled",
                details=f"job {job} of VM {known.vm}",
                resolution="Wait for its end.",
            )
        self.fail(job, CANCEL)

    def fail(self, job: str, reason: str) -> None:
        """Have a job fail at its next step, or in what it waits for. The first reason is heard.

        CANCEL is one: that the user wants it.
        """
        self.redis.set(cancel_key(job), reason, ex=ENDED_TTL_S, nx=True)

    def wish(self, job: str) -> str:
        """Return why a job is to stop: CANCEL where the user wants that, nothing where nobody does."""
        return str(self.redis.get(cancel_key(job)) or "")

    def rang(self, job: str) -> None:
        """Note that a job was sent again just now; the next claim of a step forgets how often."""
        self.redis.hset(job_key(job), "touched", int(self.now() * 1000))
        self.redis.hincrby(job_key(job), "rings", 1)

    def cancelled(self, job: str) -> bool:
        """Tell whether a job was asked to stop."""
        return bool(self.redis.exists(cancel_key(job)))

    def cancelled_of(self, jobs: Sequence[str]) -> set[str]:
        """Return those of the jobs that were asked to stop."""
        pipe = self.redis.pipeline(transaction=False)
        for job in jobs:
            pipe.exists(cancel_key(job))
        return {job for job, asked in zip(jobs, pipe.execute(), strict=True) if asked}

    def tell_overdue(self, job: Job, brief: str) -> bool:
        """Tell, once for each of its states, that a job takes too long; False where that was told before."""
        if not self.redis.hset(job_key(job.id), f"overdue:{job.state}", 1):
            return False
        self._tell(job.vm, event_json("overdue", job.vm, job.id, job.pipeline, error={"brief": brief}))
        return True

    def tell_found(self, vm_id: str, job: str, pipeline: str, brief: str) -> None:
        """Tell why a job that nobody asked for is about to begin."""
        self._tell(vm_id, event_json("found", vm_id, job, pipeline, error={"brief": brief}))

    def tell_overlay(self, vm_id: str, overlay: Overlay) -> None:
        """Tell that the room for a guest's changes runs out, or has."""
        brief = f"its system disk's room for changes is {overlay}"
        data = {"percent": overlay.percent}
        self._tell(vm_id, event_json(overlay.level, vm_id, "", "", data=data, error={"brief": brief}))

    def refuse(self, vm_id: str, job: str, pipeline: str, error: dict[str, Any]) -> None:
        """Tell the one who asked that a job was refused; nothing was changed."""
        self._tell(vm_id, event_json("refused", vm_id, job, pipeline, error=error), farm_max=0)

    def _tell(self, vm_id: str, event: str, farm_max: int = FARM_EVENTS_MAX) -> None:
        keys = vm_key(vm_id), vm_events_key(vm_id), FARM_EVENTS
        self.redis.eval(TELL_ONE, len(keys), *keys, event, _UNKNOWN_TTL_S, VM_EVENTS_MAX, farm_max)

    def update_spec(self, vm_id: str, spec: VmSpec) -> None:
        """Write changed settings into a record, and its lease, where it is there and holds one."""
        if (record := self.get(vm_id)) is not None:
            keys, lease = (vm_key(vm_id), leases_key(record.host)), f"{spec.memory_mib}:{spec.vcpus}"
            self.redis.eval(UPDATE_SPEC, len(keys), *keys, vm_id, spec.model_dump_json(), lease)

    def lose(self, vm_id: str, rev: int, error: BangerError) -> bool:
        """Note that a VM's host has nothing of it: its name, slot and capacity are free, its story stays.

        False, with nothing written, where the record is not at rest at this revision (any more): somebody
        acts for it. WrongStateError where it is lost already.
        """
        record = self.get(vm_id)
        if record is None:
            return False
        reply = self.redis.eval(
            LOSE,
            4,
            vm_key(vm_id),
            leases_key(record.host),
            vm_events_key(vm_id),
            FARM_EVENTS,
            rev,
            json.dumps(error.to_wire() | {"pipeline": "lose"}),
            event_json("settled", vm_id, "", "lose", state=str(State.LOST), host=record.host),
            name_key(""),
            ENDED_TTL_S,
        )
        if str(reply[0]) == "state":
            raise _illegal(vm_id, str(reply[1]), State.LOST)
        return str(reply[0]) == "ok"

    def restore(self, record: Record, over: int | None = None) -> Record | None:
        """Write the record of a VM that its host has, with its name and its lease, and return it as written.

        Redis has forgotten it, or has an older copy, whose revision is ``over``: that one is replaced, and a
        job that had it ends. None, with nothing written, where it is there, or has changed meanwhile.
        Where the name is another's by now, the VM is called by its id as well. Without a slot it holds
        nothing, neither name nor lease, and can only be in error. ConflictError where another record has its
        slot: one of them is not on this host. WrongStateError for a state that nothing can be restored to.
        """
        fields = record.model_dump(
            mode="json", exclude={"spec", "error", "job", "state", "name", "rev"}, exclude_none=True
        )
        fields |= {"spec": record.spec.model_dump_json()}
        fields |= {"error": json.dumps(record.error)} if record.error else {}
        reply = self.redis.eval(
            RESTORE,
            4,
            vm_key(record.id),
            leases_key(record.host),
            vm_events_key(record.id),
            FARM_EVENTS,
            record.id,
            record.name,
            str(record.state),
            "" if over is None else over,
            record.rev,
            "" if record.slot is None else record.slot,
            f"{record.spec.memory_mib}:{record.spec.vcpus}",
            json.dumps(_flat(fields)),
            event_json("settled", record.id, "", "restore", state=str(record.state), host=record.host),
            json.dumps(_OVERTAKEN.to_wire() | {"pipeline": "restore"}),
            name_key(""),
            ENDED_TTL_S,
        )
        match [str(word) for word in reply]:
            case ["ok", name, rev]:
                return record.model_copy(update={"name": name, "rev": int(rev), "job": None})
            case ["state", before]:
                raise _illegal(record.id, before, record.state)
            case [("slot" | "name") as what, owner]:
                taken = record.slot if what == "slot" else record.name
                raise ConflictError(
                    f"VM {record.id} cannot be restored: {what} {taken} of {record.host} is VM {owner}'s",
                    resolution=f"It is tried again; `banger vm show {owner}` tells who has it.",
                )
        return None

    # --- hosts -----------------------------------------------------------------------------------

    def publish_host(self, host: HostInfo) -> None:
        """Say what a host has."""
        self.redis.hset(HOSTS, host.name, host.model_dump_json(exclude={"alive"}))

    def publish_serving(self, queue: str) -> None:
        """Say that a worker serves this queue; it is forgotten after SERVING_TTL_S."""
        self.redis.set(serving_key(queue), "1", ex=SERVING_TTL_S)

    def serving(self, queue: str) -> bool:
        """Tell whether a worker serves this queue."""
        return bool(self.redis.exists(serving_key(queue)))

    def hosts(self) -> list[HostInfo]:
        """Return all hosts that ever joined, by name, with whether their work queue is served."""
        hosts = [HostInfo.model_validate_json(text) for text in self.redis.hvals(HOSTS)]
        return sorted(
            (host.model_copy(update={"alive": self.serving(work_queue(host.name))}) for host in hosts),
            key=lambda host: host.name,
        )

    def publish_report(self, look: str, report: Report) -> None:
        """Tell what this host found when it was asked to look."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.hset(report_key(look), report.host, report.model_dump_json())
        pipe.expire(report_key(look), REPORT_TTL_S)
        pipe.execute()

    def reports(self, look: str) -> dict[str, Report]:
        """Return what hosts have found so far, by host."""
        said = self.redis.hgetall(report_key(look))
        return {host: Report.model_validate_json(text) for host, text in said.items()}

    def redis_run_id(self) -> str:
        """Return which process Redis is: what it handed out before a restart may be lost."""
        return str(self.redis.info("server")["run_id"])

    def knows_host(self, name: str) -> bool:
        """Tell whether this host has joined; one that Redis has forgotten has not."""
        return bool(self.redis.hget(HOSTS, name))

    def seat(self, host: str) -> dict[str, str]:
        """Return which machine serves under a host's name, as ``banger.contracts.seat`` writes it."""
        return dict(self.redis.hgetall(seat_key(host)))

    def inventory(self, host: str) -> Inventory | None:
        """Return what root finds on a host; None where it has not said so for a while."""
        said = self.redis.get(inventory_key(host))
        return Inventory.model_validate_json(said) if said else None

    def used(self, host: str) -> Used:
        """Return what a host's leases hold."""
        leases = [lease.split(":") for lease in self.redis.hvals(leases_key(host))]
        return Used(
            len(leases), sum(int(lease[1]) for lease in leases), sum(int(lease[2]) for lease in leases)
        )


def _room(spec: VmSpec, host: HostInfo) -> dict[str, int]:
    """Return what the reservation's script compares: what is wanted, and what the host has in all."""
    return {
        "memory": spec.memory_mib,
        "vcpus": spec.vcpus,
        "memory_limit": host.memory_mib,
        "vcpus_limit": host.vcpus,
        "first_slot": FIRST_SLOT,
        "last_slot": host.last_slot,
        "network": int(host.network.network_address),
    }


def _illegal(vm_id: str, before: str, after: State) -> WrongStateError:
    return WrongStateError(f"VM {vm_id} is {before} and cannot become {after}", details="nothing was written")


def _cancelled_before(pipeline: Pipeline) -> CancelledError:
    return CancelledError(f"the {pipeline.name} was cancelled before it began", details="nothing was changed")


def wrong_state(record: Record, pipeline: Pipeline) -> WrongStateError:
    """Return the error of asking for a pipeline in a state that does not allow it."""
    if record.slot is None:  # a failed create keeps its record alone: see docs/decisions/0005
        if record.state is State.LOST:
            return WrongStateError(
                f"VM {record.name} is lost: its host has nothing of it",
                details=from_wire(record.error).details if record.error else "",
                resolution=f"`banger vm delete {record.id}` removes its record.",
            )
        return WrongStateError(
            f"VM {record.name} could not be created: there is nothing to {pipeline.name}",
            details=from_wire(record.error).brief if record.error else "",
            resolution=f"`banger vm delete {record.name}` removes its record; then create it again.",
        )
    allowed = ", ".join(sorted(pipeline.before)) or "none"
    return WrongStateError(
        f"VM {record.name} is {record.state}; {pipeline.name} needs it {allowed}",
        details=from_wire(record.error).brief if record.error else "",
        resolution=f"`banger vm show {record.name}` tells more.",
    )


def _record(fields: dict[str, str]) -> Record:
    error = json.loads(fields["error"]) if fields.get("error") else None
    return Record.model_validate(fields | {"spec": json.loads(fields["spec"]), "error": error})


def _job(job: str, fields: dict[str, str]) -> Job | None:
    if "state" not in fields:
        return None  # it never was, or was rung a moment after it was forgotten
    return Job(
        id=job,
        vm=fields["vm"],
        pipeline=fields["pipeline"],
        state=fields["state"],
        params=json.loads(fields.get("params", "{}")),
        began_ms=int(fields.get("began", 0)),
        failed_ms=int(fields.get("failed_at", 0)),
        touched_ms=int(fields.get("touched", 0)),
        rings=int(fields.get("rings", 0)),
        boot=fields.get("boot", ""),
        error=json.loads(fields["error"]) if "error" in fields else None,
        steps={key[2:]: mark for key, mark in fields.items() if key.startswith("s:")},
        said={key[5:]: json.loads(text) for key, text in fields.items() if key.startswith("said:")},
    )


def _flat(fields: dict[str, Any]) -> list[str]:
    return [str(word) for pair in fields.items() for word in pair]
