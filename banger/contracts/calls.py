"""One step of a job as it crosses a queue."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from banger.contracts.errors import InvalidInputError
from banger.contracts.names import HostName, JobId
from banger.contracts.queues import Direction, root_queue, task_name, work_queue
from banger.contracts.requests import Frozen, StageRequest
from banger.contracts.stages import STAGES, Side, Stage


class StageCall(Frozen):
    """Do (or undo) one stage of one VM. It is all that a stage's message says.

    ``step`` names the step within its job. ``final`` is the state that the record gets when this, the
    last step, is over (``gone``: the record is removed); ``release`` frees name and slot with it.
    ``requires`` names steps without whose success this one is not attempted. ``fails_to`` is the state that
    the record gets when this step fails and ends the job so; None where the job is unwound then.
    """

    job: JobId
    pipeline: Annotated[str, Field(max_length=20)]
    step: Annotated[str, Field(pattern=r"^u?[0-9]{2}$")]
    stage: str
    direction: Direction
    host: HostName
    request: dict[str, Any]
    requires: tuple[str, ...] = ()
    fails_to: str | None = None
    final: str | None = None
    release: bool = False

    @model_validator(mode="after")
    def _is_about_a_vm(self) -> Self:
        StageRequest.model_validate({name: self.request.get(name) for name in StageRequest.model_fields})
        return self

    @property
    def unwinding(self) -> bool:
        """Tell whether this step belongs to the unwinding of a failed job."""
        return self.step.startswith("u")

    @property
    def table_row(self) -> Stage:
        """The stage's row in the table; InvalidInputError when there is no such stage."""
        try:
            return STAGES[self.stage]
        except KeyError:
            raise InvalidInputError(f"there is no stage {self.stage!r}") from None

    @property
    def queue(self) -> str:
        """The queue that this step runs on."""
        return root_queue(self.host) if self.table_row.side is Side.ROOT else work_queue(self.host)

    @property
    def task_name(self) -> str:
        """The Celery task that runs it."""
        return task_name(self.table_row.side, self.stage, self.direction)

    @property
    def vm_id(self) -> str:
        """The VM that it is about."""
        return str(self.request["vm_id"])

    @property
    def generation(self) -> int:
        """The start of the VM that it belongs to."""
        return int(self.request["generation"])

    @property
    def task_id(self) -> str:
        """The Celery task id: readable, and the same whenever this step is sent again."""
        return f"{self.vm_id}-{self.job}-{self.step}-{self.stage}"

    def parse_request(self) -> StageRequest:
        """Return the typed request; InvalidInputError when it does not fit the stage's model."""
        row = self.table_row
        model = row.do if self.direction == "do" else row.undo
        if model is None:
            raise InvalidInputError(f"stage {self.stage} has no {self.direction}")
        try:
            return model.model_validate(self.request)
        except ValidationError as error:
            raise InvalidInputError(
                f"the request for stage {self.stage} is not valid", details=str(error)
            ) from None
