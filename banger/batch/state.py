"""What the farm says of a batch: its jobs, their attempts and verdicts, in Redis as in ``--json``.

A batch's *job* is one line of its plan. It is carried out by runs of a pipeline, its *attempts*, each of
which has a VM and, among the farm's jobs, an id of its own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from banger.contracts.names import BatchId, HostName, ImageId, JobId, VmId, VmName
from banger.contracts.requests import Frozen

TIME_OF_JOB = "job:"  # before a job's title, among what took how long in batches of a name


class Verdict(StrEnum):
    """How a job of a batch ended."""

    PASSED = "passed"
    FAILED = "failed"  # its command said so
    TIMED_OUT = "timed_out"  # its command took too long
    INFRA_ERROR = "infra_error"  # nobody knows what its command would have said
    CANCELLED = "cancelled"


JobPhase = Literal["waiting", "starting", "running", "ended"]
BatchPhase = Literal["running", "cancelling", "ended"]
Counts = dict[str, int]  # how many jobs are waiting, starting, running, or have ended with each verdict


class Tests(Frozen):
    """What a job's JUnit files say: counts, and the names of the first tests that did not pass."""

    __test__: ClassVar[bool] = False  # pytest takes whatever is called so for tests of its own

    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()


class Attempt(Frozen):
    """One run of a job, in a VM of its own. Times in epoch seconds."""

    number: int
    vm: VmId
    job: JobId
    host: HostName | None = None
    began_at: float
    ended_at: float | None = None
    verdict: Verdict | None = None
    exit_code: int | None = None
    stage: str | None = None
    reason: str | None = None


class JobState(Frozen):
    """A job of a batch as it is now; what of it depends on an attempt is of the last one.

    ``stage``: where the infrastructure failed, ``reason``: why, or what the command was. ``vm_kept``: its VM
    runs on for whoever looks into it; with ``keep`` it is to, whatever the plan says. ``notes``: what else
    there is to know, such as artifacts cut short.
    """

    index: int
    title: str
    matrix: dict[str, str] = {}
    state: JobPhase = "waiting"
    verdict: Verdict | None = None
    exit_code: int | None = None
    stage: str | None = None
    reason: str | None = None
    host: HostName | None = None
    vm: VmId | None = None
    vm_name: VmName | None = None
    vm_kept: bool = False
    keep: bool = False
    job: JobId | None = None
    attempts: tuple[Attempt, ...] = ()
    began_at: float | None = None
    ended_at: float | None = None
    tests: Tests | None = None
    files: dict[str, int] = {}
    notes: tuple[str, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of the last attempt, 0 where there was none yet."""
        return len(self.attempts)

    def waiting(self, attempts: tuple[Attempt, ...], *, keep: bool) -> JobState:
        """Return the job as it waits, after these attempts; nothing else of what has been is kept."""
        return JobState(index=self.index, title=self.title, matrix=self.matrix, attempts=attempts, keep=keep)

    def to_json(self) -> str:
        """Return it as Redis holds it: what is as by default is left out."""
        return self.model_dump_json(exclude_defaults=True)


class BatchInfo(Frozen):
    """A batch as it is now. ``host``: where it was submitted, which has what was uploaded.

    ``why``: what the next job waits for. ``reason``: why it was cancelled. ``parallel``: how many jobs may
    run at once.
    """

    id: BatchId
    name: str
    state: BatchPhase
    image: str
    image_id: ImageId | None = None
    host: HostName
    total: int
    counts: Counts = Field(default_factory=dict)
    parallel: int | None = None
    created_at: float
    ended_at: float | None = None
    deadline_at: float
    why: str | None = None
    reason: str | None = None

    @property
    def done(self) -> int:
        """How many jobs have ended."""
        return sum(self.counts.get(verdict, 0) for verdict in Verdict)
