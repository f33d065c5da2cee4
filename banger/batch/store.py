"""Batches in the farm's memory. Everything that decides runs in workers; the front reads.

banger:batches               sorted set  all batches, by when they were submitted
banger:batches:active        set         those that have not ended
banger:batch:BATCH           hash        the batch: what it is, its plan, how many jobs are at what
banger:batch:BATCH:jobs      hash        index -> the job's state
banger:batch:BATCH:waiting   list        the indexes of the jobs that wait, in order
banger:batch:BATCH:going     set         the indexes of those that are at work
banger:batch:BATCH:events    stream      each change of a job, and of the batch
banger:batch-times:NAME      hash        what took how long in batches of this name, in seconds
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from banger.batch.judging import over
from banger.batch.plan import LAST, Plan
from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.transactions import (
    AGAIN,
    CANCEL,
    FORGET,
    GIVE_BACK,
    PLACED,
    SAY_WHY,
    SETTLE,
    SUBMIT,
    TAKE,
)
from banger.batch_keys import ACTIVE_BATCHES, ALL_BATCHES, batch_events_key, batch_key, times_key
from banger.connection import FarmRedis
from banger.contracts.errors import BangerError, CancelledError, ConflictError, NotFoundError
from banger.contracts.journal import ENDED_TTL_S, cancel_key, job_key
from banger.contracts.names import is_id

_TIMES_TTL_S = 90 * 24 * 3600
_MAX_TIMES = 5_000
_UNKNOWN_TTL_S = 3600  # of what is told of a batch that is not there
_COUNT = "n:"
# Without the plan, which may be large, and is read alone.
_FIELDS = (
    *(name for name in BatchInfo.model_fields if name != "counts"),
    *(_COUNT + phase for phase in ("waiting", "starting", "running", *Verdict)),
)


class Batches:
    """Reads and changes batches. What changes a job is given the state that it had when it was read.

    A change that comes second changes nothing, and is told so: False.
    """

    def __init__(self, client: FarmRedis) -> None:
        self.redis: Any = client

    # --- reading ---------------------------------------------------------------------------------

    def get(self, batch: str) -> BatchInfo | None:
        """Return a batch, or None where it is not known (any more)."""
        return next(iter(self._infos([batch])), None)

    def find(self, ref: str) -> BatchInfo:
        """Return the batch with this id, or the youngest with this name; NotFoundError naming some.

        ``last`` is the youngest of all.
        """
        info = self.get(ref) if is_id(ref) else None
        if info is None:
            known = self.all()
            info = next((one for one in reversed(known) if ref in (one.name, LAST)), None)
            if info is None:
                raise NotFoundError(
                    f"there is no batch {ref!r}",
                    details="batches: " + (", ".join(one.id for one in known[-10:]) or "none"),
                    resolution="`banger batch list` shows all; one is known for a week after its end.",
                )
        return info

    def all(self) -> list[BatchInfo]:
        """Return all batches that are known, the oldest first."""
        return self._infos(self.redis.zrange(ALL_BATCHES, 0, -1))

    def active(self) -> list[BatchInfo]:
        """Return the batches that have not ended, the oldest first."""
        found = self._infos(self.redis.smembers(ACTIVE_BATCHES))
        return sorted(found, key=lambda info: (info.created_at, info.id))

    def plan(self, batch: str) -> Plan:
        """Return what a batch is to do; NotFoundError where it is not known (any more)."""
        text = self.redis.hget(batch_key(batch), "plan")
        if text is None:
            raise NotFoundError(f"there is no batch {batch}")
        return Plan.model_validate_json(text)

    def job(self, batch: str, index: int) -> JobState:
        """Return a job of a batch; NotFoundError where there is none of this number."""
        text = self.redis.hget(f"{batch_key(batch)}:jobs", index)
        if text is None:
            raise NotFoundError(
                f"batch {batch} has no job {index}", resolution=f"`banger batch status {batch}` shows them."
            )
        return JobState.model_validate_json(text)

    def jobs(self, batch: str) -> list[JobState]:
        """Return all jobs of a batch, in order."""
        states = [JobState.model_validate_json(text) for text in self.redis.hvals(f"{batch_key(batch)}:jobs")]
        return sorted(states, key=lambda job: job.index)

    def going(self, batch: str) -> list[JobState]:
        """Return those that are at work."""
        return self._of(
            batch, sorted(int(index) for index in self.redis.smembers(f"{batch_key(batch)}:going"))
        )

    def waiting(self, batch: str, limit: int = 1) -> list[JobState]:
        """Return the first of those that wait."""
        return self._of(batch, self.redis.lrange(f"{batch_key(batch)}:waiting", 0, limit - 1))

    def is_over(self, batch: str, index: int, vm: str, now: float) -> bool:
        """Tell whether a VM that has been a batch's is kept for nobody any more."""
        key = batch_key(batch)
        text = self.redis.hget(f"{key}:jobs", index)
        keep_ttl_s = self.redis.hget(key, "keep_ttl_s")
        if text is None or keep_ttl_s is None:
            return False
        return over(JobState.model_validate_json(text), vm, float(keep_ttl_s), now)

    def last_event(self, batch: str) -> str:
        """Return the id of the newest event; what comes after it is news."""
        newest = self.redis.xrevrange(batch_events_key(batch), count=1)
        return str(newest[0][0]) if newest else "0"

    def times(self, name: str) -> dict[str, float]:
        """Return how long what took in earlier batches of this name, in seconds."""
        return {key: float(text) for key, text in self.redis.hgetall(times_key(name)).items()}

    def _of(self, batch: str, indexes: Sequence[Any]) -> list[JobState]:
        if not indexes:
            return []
        texts = self.redis.hmget(f"{batch_key(batch)}:jobs", indexes)
        return [JobState.model_validate_json(text) for text in texts if text]

    def _infos(self, batches: Iterable[str]) -> list[BatchInfo]:
        pipe = self.redis.pipeline(transaction=False)
        for batch in batches:
            pipe.hmget(batch_key(batch), _FIELDS)
        return [info for values in pipe.execute() if (info := _info(values))]

    # --- changing --------------------------------------------------------------------------------

    def submit(self, info: BatchInfo, plan: Plan, jobs: Sequence[JobState]) -> bool:
        """Write a new batch, all of whose jobs wait; False where it is there already.

        CancelledError where it was cancelled before it came.
        """
        fields = info.model_dump(mode="json", exclude={"counts"}, exclude_none=True)
        flat = [str(word) for pair in fields.items() for word in pair]
        flat += ["plan", plan.model_dump_json(), "keep_ttl_s", str(plan.keep_ttl_s)]
        states = json.dumps([job.to_json() for job in jobs])
        words = info.id, json.dumps(flat), states, info.created_at
        answer = self._run(SUBMIT, info.id, *words, more=(ALL_BATCHES,))
        if answer == "unwanted":
            raise CancelledError("the batch was cancelled before it began", details="nothing was changed")
        return answer == "ok"

    def take(self, batch: str, old: JobState, new: JobState, parallel: int) -> bool:
        """Take the first of those that wait, unless ``parallel`` are at work or it was cancelled."""
        return self._run(TAKE, batch, old.index, old.to_json(), new.to_json(), parallel) == "ok"

    def placed(self, batch: str, old: JobState, new: JobState) -> bool:
        """Note where a job that was taken is carried out."""
        return self._run(PLACED, batch, old.index, old.to_json(), new.to_json(), old.state) == "ok"

    def give_back(self, batch: str, old: JobState, new: JobState, why: str) -> bool:
        """Put a job that was taken back to the head of the line, and say why; not where it has begun."""
        job = old.job or ""
        words = old.index, old.to_json(), new.to_json(), old.state, why, ENDED_TTL_S
        return self._run(GIVE_BACK, batch, *words, more=(job_key(job), cancel_key(job))) == "ok"

    def settle(self, batch: str, old: JobState, new: JobState, now: float, stop: str = "") -> bool:
        """Write how a job ended, or that it waits again; the last one ends the batch.

        ``stop``: why no more of the batch's jobs are to be started from now on.
        """
        to = new.verdict or new.state
        words = old.index, old.to_json(), new.to_json(), old.state, to, now, ENDED_TTL_S, stop
        return self._run(SETTLE, batch, batch, *words) == "ok"

    def cancel(self, batch: str, reason: str, now: float) -> bool:
        """Start no more of a batch's jobs; those at work are their workers' to stop.

        One that is not there may be on its way still, and is refused then.
        """
        return self._run(CANCEL, batch, batch, reason, now, ENDED_TTL_S, _UNKNOWN_TTL_S) == "ok"

    def again(self, batch: str, old: JobState, new: JobState, deadline_at: float) -> bool:
        """Let a job that has ended wait once more."""
        words = old.index, old.to_json(), new.to_json(), old.verdict, deadline_at
        return self._run(AGAIN, batch, batch, *words) == "ok"

    def say_why(self, info: BatchInfo, why: str) -> None:
        """Note what the next job waits for."""
        if why != info.why:
            self._run(SAY_WHY, info.id, why)

    def remember_times(self, name: str, times: Mapping[str, float]) -> None:
        """Note how long what took: the latest counts. What there is no room for is not noted."""
        if times and self.redis.hlen(times_key(name)) + len(times) < 2 * _MAX_TIMES:
            self.redis.hset(times_key(name), mapping={key: round(took, 3) for key, took in times.items()})
            self.redis.expire(times_key(name), _TIMES_TTL_S)

    def refuse(self, batch: str, error: BangerError) -> None:
        """Tell who asked for it why a batch, or what was wanted of it, is refused."""
        self.redis.xadd(batch_events_key(batch), {"refused": json.dumps(error.to_wire())})
        if not self.redis.hexists(batch_key(batch), "id"):
            self.redis.expire(batch_events_key(batch), _UNKNOWN_TTL_S)

    def forget(self, batch: str) -> None:
        """Remove a batch that has ended. ConflictError for one that has not."""
        if self._run(FORGET, batch, batch, more=(ALL_BATCHES,)) != "ok":
            raise ConflictError(
                f"batch {batch} has not ended", resolution=f"`banger batch cancel {batch}` first."
            )

    def forget_expired(self) -> None:
        """Take those off the list whose time is over."""
        for batch in self.redis.zrange(ALL_BATCHES, 0, -1):
            if not self.redis.exists(batch_key(batch)):
                self.redis.zrem(ALL_BATCHES, batch)

    def _run(self, script: str, batch: str, *words: object, more: tuple[str, ...] = ()) -> str:
        key = batch_key(batch)
        keys = (
            key,
            f"{key}:jobs",
            f"{key}:waiting",
            f"{key}:going",
            batch_events_key(batch),
            ACTIVE_BATCHES,
            *more,
        )
        return str(self.redis.eval(script, len(keys), *keys, *words))


def _info(values: Sequence[str | None]) -> BatchInfo | None:
    fields = {name: text for name, text in zip(_FIELDS, values, strict=True) if text is not None}
    if "id" not in fields:
        return None
    counts = {key[len(_COUNT) :]: int(fields.pop(key)) for key in list(fields) if key.startswith(_COUNT)}
    return BatchInfo.model_validate(fields | {"counts": counts})
