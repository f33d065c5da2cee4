"""What is known of a batch while it runs, for whoever shows it: jobs, stages, what is left to do. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median

from banger.batch.state import TIME_OF_JOB, BatchInfo, JobState, Verdict
from banger.batch.verdict import WRONG, took_s
from banger.cli.progress import title
from banger.events import Event


class Board:
    """A batch and its jobs. ``past`` is how long what took in earlier batches of its name, in seconds."""

    def __init__(self, info: BatchInfo, jobs: Iterable[JobState], past: Mapping[str, float]) -> None:
        self.info = info
        self.jobs = {job.index: job for job in jobs}
        self.away = False
        self._counts = Counter(_phase(job) for job in self.jobs.values())
        self._past = past
        self._past_of_jobs = [seconds for what, seconds in past.items() if what.startswith(TIME_OF_JOB)]
        self._stages: dict[str, str] = {}

    def take(self, job: JobState) -> None:
        """Note a job's new state."""
        self._counts[_phase(self.jobs[job.index])] -= 1
        self._counts[_phase(job)] += 1
        self.jobs[job.index] = job

    def event(self, event: Event) -> None:
        """Note what a VM of the farm, maybe one of ours, is at."""
        if event.kind == "settled":
            self._stages.pop(event.vm, None)
        elif event.kind == "started":
            self._stages[event.vm] = title(event)

    def was_at(self, job: JobState, stage: str | None) -> None:
        """Note the stage of a job whose events were before our time."""
        if job.vm and stage:
            self._stages.setdefault(job.vm, stage)

    @property
    def done(self) -> int:
        """How many jobs have ended."""
        return sum(self._counts[verdict] for verdict in Verdict)

    def stage(self, job: JobState) -> str:
        """Return the stage that a job is in; "" where that is not known."""
        if job.state == "ended":
            return job.stage or ""
        return self._stages.get(job.vm or "", "") if job.vm else ""

    def at_work(self) -> list[JobState]:
        """Return the jobs that are at work, the longest first."""
        found = [job for job in self.jobs.values() if job.state in ("starting", "running")]
        return sorted(found, key=lambda job: (job.began_at or 0.0, job.index))

    def wrong(self) -> list[JobState]:
        """Return the jobs that did not pass, the latest first."""
        found = [job for job in self.jobs.values() if job.verdict in WRONG]
        return sorted(found, key=lambda job: job.ended_at or 0.0, reverse=True)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are waiting, at work, or have ended with each verdict."""
        return {phase: self._counts[phase] for phase in ("waiting", "at work", *Verdict)}

    def left_s(self, job: JobState, now: float) -> float | None:
        """Return how long a job that is at work will go on, by what it took in the past; None: unknown."""
        usual = self._past.get(f"{TIME_OF_JOB}{job.title}")
        if usual is None or job.began_at is None or job.state == "ended":
            return None
        return max(0.0, job.began_at + usual - now)

    def batch_left_s(self, now: float) -> float | None:
        """Return how long the batch will go on, if as many jobs stay at work as are now; None: unknown.

        A job that nothing is known of counts as the median of those that something is known of.
        """
        at_work = self.at_work()
        ended = [job for job in self.jobs.values() if job.verdict in (Verdict.PASSED, Verdict.FAILED)]
        took = self._past_of_jobs or [seconds for job in ended if (seconds := took_s(job)) is not None]
        if not took or not at_work:
            return None
        usual = median(took)
        left = [max(0.0, (job.began_at or now) + self._usual(job, usual) - now) for job in at_work]
        waiting = sum(self._usual(job, usual) for job in self.jobs.values() if job.state == "waiting")
        return max(max(left), (sum(left) + waiting) / len(at_work))

    def _usual(self, job: JobState, otherwise: float) -> float:
        return self._past.get(f"{TIME_OF_JOB}{job.title}", otherwise)


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words: ``3 passed, 1 failed, 2 at work, 34 waiting``."""
    words = {Verdict.TIMED_OUT: "timed out", Verdict.INFRA_ERROR: "infrastructure errors"}
    order = (*Verdict, "at work", "waiting")
    return ", ".join(f"{counts[key]} {words.get(key, key)}" for key in order if counts.get(key))


def _phase(job: JobState) -> str:
    if job.verdict is not None:
        return job.verdict
    return "waiting" if job.state == "waiting" else "at work"
