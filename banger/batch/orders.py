"""What the front orders of workers about batches.

Anybody with the CLI's password can write orders, so a worker takes only what is well-formed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from banger.batch.files_left import FileName
from banger.batch.plan import MAX_JOBS, Plan
from banger.contracts.names import BatchId, HostName, JobId
from banger.contracts.requests import Frozen

JobIndex = Annotated[int, Field(ge=0, lt=MAX_JOBS)]
_MAX_OFFSET = 1 << 40


class SubmitBatch(Frozen):
    """Make this batch. ``home`` is the host where it was submitted, which has what was ``uploaded``."""

    do: Literal["submit"] = "submit"
    batch: BatchId
    plan: Plan
    home: HostName
    uploaded: bool = False


class CancelBatch(Frozen):
    """Stop a batch: what waits is not begun, what is at work is undone."""

    do: Literal["cancel"] = "cancel"
    batch: BatchId
    reason: Annotated[str, Field(max_length=200)] = "it was cancelled"


class RetryBatch(Frozen):
    """Let jobs of a batch, which have ended, wait once more.

    ``attempts``: the number of their last attempt, by their index. A job that has not ended, or has had
    another since, is passed over: the order may come twice. ``keep``: their VMs stay however they end,
    whatever the plan says.
    """

    do: Literal["retry"] = "retry"
    batch: BatchId
    attempts: Annotated[dict[JobIndex, Annotated[int, Field(ge=0)]], Field(max_length=MAX_JOBS)]
    keep: bool = False


class ForgetBatch(Frozen):
    """Forget a batch that has ended; hosts remove its files then."""

    do: Literal["forget"] = "forget"
    batch: BatchId


BatchOrder = Annotated[SubmitBatch | CancelBatch | RetryBatch | ForgetBatch, Field(discriminator="do")]


class Fetch(Frozen):
    """Answer with a piece of a file that an attempt of a batch's job left on this host, or of its upload."""

    answer: JobId
    batch: BatchId
    index: JobIndex = 0
    attempt: Annotated[int, Field(ge=1)] = 1
    file: FileName
    offset: Annotated[int, Field(ge=0, le=_MAX_OFFSET)] = 0
