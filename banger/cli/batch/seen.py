"""A batch as a front has seen it, from where on it follows what changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from banger.batch.state import JobState

if TYPE_CHECKING:
    from banger.batch.client import BatchClient
    from banger.batch.expand import JobPlan
    from banger.batch.state import BatchInfo

_LOOKS = 10


class Seen(NamedTuple):
    """A batch and its jobs as they were after an event of its stream."""

    info: BatchInfo
    jobs: Sequence[JobState]
    after: str

    @classmethod
    def new(cls, info: BatchInfo, jobs: Sequence[JobPlan]) -> Seen:
        """Return a batch that has just been submitted: all of its jobs wait."""
        waiting = [JobState(index=job.index, title=job.title, matrix=job.matrix) for job in jobs]
        return cls(info, waiting, "0")

    @classmethod
    def now(cls, batches: BatchClient, batch: str) -> Seen:
        """Return a batch as it is, read anew while it changes meanwhile: else changes would be told twice."""
        store = batches.store
        for _ in range(_LOOKS):
            after = store.last_event(batch)
            seen = cls(store.find(batch), store.jobs(batch), after)
            if store.last_event(batch) == after:
                break
        return seen
