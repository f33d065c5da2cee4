"""The Python API: the verbs of the CLI, which only calls these.

from banger import Farm

farm = Farm()
vm = farm.create("dev", image="micro")
farm.exec("dev", ["uname", "-a"])
farm.delete("dev")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banger.advice import LOOK
from banger.connection import FarmRedis, connect
from banger.contracts.errors import (
    BangerError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from banger.contracts.inventory import FoundVm
from banger.contracts.names import new_id
from banger.contracts.queues import BEGIN, CONTROL, RECONCILE, RESERVE, root_queue, work_queue
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.events import Event, Events
from banger.findings import Report
from banger.hosts import HostInfo
from banger.jobs import JobInfo, Step, job_info, steps_of
from banger.keyring import SshKeys, forget_gone, keys_of_this_user
from banger.output import Output
from banger.pipelines import (
    CREATE,
    CREATE_STOPPED,
    DELETE,
    FILES_LEFT,
    KILL,
    PIPELINES,
    RESTART,
    RUN,
    RUN_KEEP,
    SET,
    START,
    STOP,
    Pipeline,
)
from banger.placement import refuse_resize
from banger.records import GOING_ON, Job, Record, Records, wrong_state
from banger.settings import Settings, load_settings
from banger.submission import Outcome, Submission
from banger.wanted import wanted_spec

if TYPE_CHECKING:
    from celery import Celery

    from banger.batch.client import BatchClient
    from banger.guest_copy import SshArgv

OnEvent = Callable[[Event], None]
OnOutput = Callable[[Output], None]
Vms = list[Record]
Timeline = list[Event]
Hosts = list[HostInfo]
Jobs = list[JobInfo]
Steps = list[Step]

_REPORT_POLL_S = 0.1
_ANSWER_S = 2.5  # who waits at a terminal is told within 3 s that Redis is not there


class Farm:
    """A farm of hosts. Every method raises BangerError with what, why and what to do."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()

    @cached_property
    def redis(self) -> FarmRedis:
        """The line to the farm's Redis."""
        return connect(self.settings.redis(), answer_s=_ANSWER_S)

    @cached_property
    def records(self) -> Records:
        """The farm's memory."""
        return Records(self.redis)

    @cached_property
    def events(self) -> Events:
        """The farm's event streams."""
        return Events(self.redis)

    @cached_property
    def batches(self) -> BatchClient:
        """The farm's batches."""
        from banger.batch.client import BatchClient  # most commands want a VM

        return BatchClient(self.settings, self.redis, self._send)

    @cached_property
    def keys(self) -> SshKeys:
        """The SSH key of who runs this process, and the guests that it knows."""
        return keys_of_this_user(self.settings.paths)

    @cached_property
    def _app(self) -> Celery:
        from banger.dispatch import celery_app  # Celery is slow to load, and only submitting needs it

        return celery_app("banger.front", self.settings.redis())

    # --- reading ---------------------------------------------------------------------------------

    def list(self) -> Vms:
        """Return all VMs, by creation."""
        return self.records.all()

    def show(self, ref: str) -> Record:
        """Return one VM by name or id."""
        return self.records.find(ref)

    def found(self, record: Record) -> FoundVm | None:
        """Return a VM as its host's root finds it; None where that does not know it, or has not told."""
        inventory = self.records.inventory(record.host)
        return next((vm for vm in inventory.vms if vm.vm_id == record.id), None) if inventory else None

    def timeline(self, ref: str) -> Timeline:
        """Return what happened to a VM, oldest first."""
        return self.events.read(self.show(ref).id)

    def hosts(self) -> Hosts:
        """Return the hosts that joined the farm."""
        return self.records.hosts()

    def jobs(self, *, ended: bool = False) -> Jobs:
        """Return the jobs that are not over, the oldest first; with ``ended`` also those of the last week."""
        known = [job for job in self.records.jobs() if ended or job.state in GOING_ON]
        records = {record.id: record for record in self.list()}
        asked = self.records.cancelled_of([job.id for job in known])
        return [job_info(job, records.get(job.vm), cancelled=job.id in asked) for job in known]

    def job(self, job: str) -> JobInfo:
        """Return one job by its id; NotFoundError where it is not known (any more)."""
        known = self._known_job(job)
        return job_info(known, self.records.get(known.vm), cancelled=self.records.cancelled(job))

    def job_steps(self, job: str) -> Steps:
        """Return a job's steps in order: those that were begun and, while it goes on, those to come."""
        known = self._known_job(job)
        return steps_of(known, self.events.read(known.vm))

    # --- a VM's life -----------------------------------------------------------------------------

    def spec(self, name: str, **wanted: Any) -> VmSpec:
        """Return a VM's specification from what is wanted and the configured defaults.

        InvalidInputError naming each field that is not valid. None stands for the default.
        """
        return wanted_spec(self.settings, name, wanted)

    def submit_create(self, spec: VmSpec, *, start: bool = True) -> Submission:
        """Ask for a VM and return at once."""
        return self._submit_new(CREATE if start else CREATE_STOPPED, spec, {})

    def create(
        self, name: str, *, start: bool = True, on_event: OnEvent | None = None, **wanted: Any
    ) -> Record:
        """Make a VM and wait until it answers SSH (or, with ``start=False``, until its disks are there)."""
        submission = self.submit_create(self.spec(name, **wanted), start=start)
        submission.wait(on_event)
        return self.show(submission.vm_id)

    def submit_run(
        self, spec: VmSpec, argv: Sequence[str], timeout_s: float, *, keep: bool = False
    ) -> Submission:
        """Ask for a VM that runs one command, and return at once."""
        params = {"argv": list(argv), "timeout_s": timeout_s}
        return self._submit_new(RUN_KEEP if keep else RUN, spec, params)

    def run(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        timeout_s: float = 3600.0,
        keep: bool = False,
        on_event: OnEvent | None = None,
        on_output: OnOutput | None = None,
        **wanted: Any,
    ) -> Outcome:
        """Run a command in a VM of its own, which is gone afterwards unless ``keep``."""
        spec = self.run_spec(name, keep=keep, **wanted)
        return self.submit_run(spec, argv, timeout_s, keep=keep).wait(on_event, on_output)

    def run_spec(self, name: str | None = None, *, keep: bool = False, **wanted: Any) -> VmSpec:
        """Return the specification of a VM for one command; unless kept, it lives ``run_ttl_s`` at most."""
        if wanted.get("ttl_s") is None and not keep:
            wanted["ttl_s"] = self.settings.run_ttl_s
        return self.spec(name or f"run-{new_id()}", ephemeral=not keep, **wanted)

    def submit(self, pipeline: Pipeline, ref: str, **params: Any) -> Submission:
        """Ask for a pipeline of an existing VM and return at once."""
        record = self.records.find(ref)
        allowed = record.state in pipeline.before and (record.slot is not None or pipeline is DELETE)
        if record.job is None and not allowed:
            raise wrong_state(record, pipeline)
        queue = work_queue(record.host)
        self._require_served(queue, root_queue(record.host))
        after, job = self.events.last_id(record.id), new_id()
        params |= self._files_left(pipeline, job, record.host)
        message = {"vm": record.id, "job": job, "pipeline": pipeline.name, "params": params}
        send = partial(self._send, BEGIN, queue, message)
        send()
        return Submission(self.redis, record.id, job, pipeline, after, again=send)

    def start(self, ref: str, on_event: OnEvent | None = None) -> Record:
        """Boot a stopped VM and wait until it answers SSH."""
        return self._to_end(self.submit(START, ref), on_event)

    def stop(self, ref: str, timeout_s: float | None = None, on_event: OnEvent | None = None) -> Record:
        """Shut a guest down (at most ``timeout_s`` seconds, then by force); its disks are kept."""
        return self._to_end(self.submit(STOP, ref, timeout_s=self._stop_timeout(timeout_s)), on_event)

    def restart(self, ref: str, timeout_s: float | None = None, on_event: OnEvent | None = None) -> Record:
        """Stop and start a VM."""
        return self._to_end(self.submit(RESTART, ref, timeout_s=self._stop_timeout(timeout_s)), on_event)

    def kill(self, ref: str, signal: str = "KILL", on_event: OnEvent | None = None) -> Record:
        """End a VM's VMM with a signal (TERM, INT, KILL) without asking the guest; its disks are kept."""
        return self._to_end(self.submit(KILL, ref, signal=signal), on_event)

    def delete(self, ref: str, timeout_s: float = 0, on_event: OnEvent | None = None) -> None:
        """Remove a VM and all that it has. A job that is at it is cancelled first, where it can be.

        ``timeout_s`` gives the guest that long to shut down; by default it is not asked.
        """
        record = self.records.find(ref)
        if record.job is not None and self._cancel_and_wait(record) is None:
            return
        self.submit(DELETE, record.id, timeout_s=timeout_s).wait(on_event)
        forget_gone(self.settings.paths)

    def set(
        self,
        ref: str,
        *,
        vcpus: int | None = None,
        memory_mib: int | None = None,
        disk_mib: int | None = None,
        system_overlay_mib: int | None = None,
        autostart: bool | None = None,
        on_event: OnEvent | None = None,
    ) -> Record:
        """Change a stopped VM. A disk only grows."""
        record = self.records.find(ref)
        sizes = {"disk_mib": disk_mib, "system_overlay_mib": system_overlay_mib}
        asked = {"vcpus": vcpus, "memory_mib": memory_mib, **sizes, "autostart": autostart}
        changes = {key: value for key, value in asked.items() if value is not None}
        if not changes:
            raise InvalidInputError(
                "nothing to change",
                resolution="Give --vcpus, --memory, --disk, --system-disk or --autostart.",
            )
        self.spec(record.name, **record.spec.model_dump(exclude={"name"}) | changes)
        grown = {key: size for key, size in sizes.items() if size is not None}
        if grown:
            host = next((host for host in self.hosts() if host.name == record.host), None)
            refuse_resize(record.spec, grown, host)
        return self._to_end(self.submit(SET, ref, **changes), on_event)

    def cancel(self, job: str) -> None:
        """Ask a job to stop between two stages; what it did is undone.

        NotFoundError where it is not known, WrongStateError where it has ended or cannot be cancelled.
        """
        known = self._known_job(job)
        if known.state not in GOING_ON:
            raise WrongStateError(
                f"job {job} has ended already: {known.state}",
                details=f"it was a {known.pipeline} of VM {known.vm}",
                resolution=f"`banger job show {job}` tells how.",
            )
        self.records.cancel(job)

    def wait_for(self, job: str, on_event: OnEvent | None = None) -> JobInfo:
        """Follow a job to its end and return how it ended; that it failed is no error of ours.

        UnavailableError where nobody serves the queue that it waits in.
        """
        known = self._known_job(job)
        try:
            Submission(self.redis, known.vm, job, PIPELINES[known.pipeline], "0").wait(on_event)
        except BangerError:
            if self.job(job).going_on:
                raise
        return self.job(job)

    def require_running(self, ref: str) -> Record:
        """Return a VM that runs; WrongStateError otherwise."""
        record = self.records.find(ref)
        if record.state is not State.RUNNING or record.address is None:
            at_rest = record.state is State.STOPPED
            raise WrongStateError(
                f"VM {record.name} is {record.state}, not running",
                resolution=f"`banger vm start {record.name}` starts it."
                if at_rest
                else f"`banger vm show {record.name} --timeline` tells why.",
            )
        return record

    def require_here(self, record: Record) -> None:
        """Raise InvalidInputError for a VM of another host: guests are reached from their own alone."""
        if record.host != self.settings.host:
            raise InvalidInputError(
                f"VM {record.name} is on host {record.host}, and this is {self.settings.host}",
                details="guests can be reached from their own host alone",
                resolution=f"Run this command on {record.host}.",
            )

    def require_running_here(self, ref: str) -> Record:
        """Return a VM that runs on this very host; WrongStateError or InvalidInputError otherwise."""
        record = self.require_running(ref)
        self.require_here(record)
        return record

    def reconcile(
        self, host: str | None = None, *, act: bool = True, deadline_s: float = 60.0
    ) -> dict[str, Report | None]:
        """Let hosts hold what they have against what is intended; return their reports, None of the silent.

        Without ``act`` nothing is done about what is found. NotFoundError for a host that never joined.
        """
        known = {one.name: one for one in self.hosts()}
        if host is not None and host not in known:
            raise NotFoundError(
                f"there is no host {host!r}",
                details=f"hosts: {', '.join(known) or 'none'}",
                resolution="`banger host list` shows those that there are.",
            )
        asked = [host] if host else [*known]
        awaited = {name for name in asked if known[name].alive}
        look = new_id()
        for name in sorted(awaited):
            self._send(RECONCILE, work_queue(name), {"id": look, "act": act})
        deadline = time.monotonic() + deadline_s
        while awaited - (said := self.records.reports(look)).keys() and time.monotonic() < deadline:
            time.sleep(_REPORT_POLL_S)
        return {name: said.get(name) for name in asked}

    # --- inside a guest --------------------------------------------------------------------------

    def exec(
        self,
        ref: str,
        argv: Sequence[str],
        *,
        timeout_s: float = 3600.0,
        on_output: OnOutput | None = None,
    ) -> int:
        """Run a command in a running VM, word for word, and return its exit code; it has no stdin.

        GuestUnreachableError when the connection failed, StageFailedError when the time was over.
        """
        from banger.guests import run_command

        record = self.require_running_here(ref)
        return run_command(self.keys, record, argv, timeout_s, on_output)

    def copy_from(self, ref: str, source: str, target: Path, deadline_s: float = 3600.0) -> tuple[str, ...]:
        """Copy a guest's file or directory to this machine; return what was left out of it, by path."""
        from banger.guest_copy import copy_from_guest

        return copy_from_guest(self._ssh_to(ref), source, target, deadline_s=deadline_s)

    def copy_to(self, ref: str, source: Path, target: str, deadline_s: float = 3600.0) -> None:
        """Copy a file or directory of this machine into a guest."""
        from banger.guest_copy import copy_to_guest

        copy_to_guest(self._ssh_to(ref), source, target, deadline_s=deadline_s)

    # --- how -------------------------------------------------------------------------------------

    def _submit_new(self, pipeline: Pipeline, spec: VmSpec, params: dict[str, Any]) -> Submission:
        asked_for = [root_queue(host.name) for host in self.hosts() if host.name == spec.host]
        self._require_served(CONTROL, *asked_for)
        vm_id, job = new_id(), new_id()
        if left := self._files_left(pipeline, job, spec.host or self.settings.host):
            spec = spec.model_copy(update={"host": self.settings.host})
        message = {
            "vm": vm_id,
            "job": job,
            "pipeline": pipeline.name,
            "spec": spec.model_dump(mode="json"),
            "params": params | left,
        }
        send = partial(self._send, RESERVE, CONTROL, message)
        send()
        return Submission(self.redis, vm_id, job, pipeline, "0", again=send)

    def _files_left(self, pipeline: Pipeline, job: str, host: str) -> dict[str, Any]:
        """Leave what ``file_sync`` names for a job that boots a VM, and return the parameter that says so.

        InvalidInputError, with nothing left, where an entry cannot be copied, or the VM is on another host.
        """
        entries = self.settings.file_sync
        if not entries or ("do", "file_sync") not in pipeline.rows:
            return {}
        if host != self.settings.host:
            raise InvalidInputError(
                f"file_sync is configured, and its files cannot reach a VM of host {host}",
                details="they are handed to the worker of the host that this command runs on",
                resolution=f"Run this command on {host}, or without file_sync: BANGER_FILE_SYNC='[]'",
            )
        from banger.file_sync import bundle_of, leave  # most commands copy nothing

        bundle = bundle_of(entries, Path.home())
        if not bundle.files:
            return {}
        leave(bundle, self.settings.paths, job)
        return {FILES_LEFT: True}

    def _to_end(self, submission: Submission, on_event: OnEvent | None) -> Record:
        submission.wait(on_event)
        return self.show(submission.vm_id)

    def _cancel_and_wait(self, record: Record) -> Record | None:
        """Cancel the job that has the VM, wait for its end, and return what is left of the VM."""
        job = self.records.job(record.job or "")
        if job is not None:
            if PIPELINES[job.pipeline].cancellable:
                self.records.cancel(job.id)
            self.wait_for(job.id)
        return self.records.get(record.id)

    def _known_job(self, job: str) -> Job:
        known = self.records.job(job)
        if known is None:
            raise NotFoundError(
                f"there is no job {job!r}",
                details="a job is known for a week after its end",
                resolution="`banger job list --all` shows those that there are.",
            )
        return known

    def _ssh_to(self, ref: str) -> SshArgv:
        from banger.ssh import ssh_argv

        record = self.require_running_here(ref)
        return partial(ssh_argv, self.keys, record.id, str(record.address))

    def _stop_timeout(self, timeout_s: float | None) -> float:
        return self.settings.stop_timeout_s if timeout_s is None else timeout_s

    def _require_served(self, *queues: str) -> None:
        for queue in queues:
            if not self.records.serving(queue):
                raise UnavailableError(
                    f"nobody serves the queue {queue}",
                    details="nothing was submitted",
                    resolution=LOOK,
                )

    def _send(self, task: str, queue: str, payload: dict[str, Any]) -> None:
        from banger.dispatch import send  # Celery is slow to load, and only submitting needs it

        send(self._app, task, queue, payload)
