"""The farm's own stage functions, called one after another in one process: no queue, record or events."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from banger.contracts.calls import StageCall
from banger.contracts.names import new_id
from banger.contracts.policy import Policy
from banger.contracts.queues import Direction
from banger.contracts.requests import StageRequest, UndoRequest
from banger.contracts.spec import VmSpec
from banger.contracts.stages import STAGES, Side
from banger.contracts.states import State
from banger.images.manifest import ImageManifest
from banger.pipelines import CREATE
from banger.planning import calls
from banger.records import Job, Record
from banger.settings import Settings
from root_worker.host import root_host
from root_worker.stages import EFFECTS as ROOT_EFFECTS
from workers.host import StageContext, WorkHost
from workers.intents import make_directory
from workers.stages import EFFECTS as WORK_EFFECTS

FIRST_SLOT = 200  # the farm leases from the other end


class InARow:
    """A host like the farm's beside it, on the same file system and bridge. One VM at a time in a slot."""

    def __init__(self, settings: Settings, state: Path) -> None:
        policy = Policy(
            host=settings.host,
            state_dir=state,
            run_dir=state / "run",
            network=settings.network,
            uid_base=settings.uid_base,
            worker_user="root",  # both sides' functions run in this one process
            accelerator=settings.accelerator,
        )
        self.settings = settings
        self.host = root_host(policy)
        self.host.paths.vms.mkdir()
        self.context = StageContext(
            WorkHost(policy.host, policy.paths, policy.network, policy.uid_base, settings.disk_backend)
        )

    def plan(self, image: ImageManifest, slot: int = FIRST_SLOT) -> dict[str, StageCall]:
        """Return the calls that create a VM, by stage, in order, as its begin leaves it."""
        record = Record(
            id=new_id(),
            name="row",
            state=State.CREATING,
            generation=1,
            host=self.settings.host,
            slot=slot,
            image=image.id,
            kernel=image.kernel,
            spec=VmSpec(name="row", image=image.id),
            created_at=time.time(),
        )
        job = Job(id=new_id(), vm=record.id, pipeline=CREATE.name, state="running")
        steps = calls(CREATE, record, job, self.settings.network, self.settings.uid_base)
        make_directory(self.host.paths.vm(record.id))
        return {call.stage: call for call in steps}

    def do(self, call: StageCall) -> None:
        """Do one stage."""
        self._effect(call, "do", call.parse_request())

    def undo(self, call: StageCall) -> None:
        """Undo one stage, where it has an undo."""
        if STAGES[call.stage].undo:
            self._effect(call, "undo", UndoRequest(vm_id=call.vm_id, generation=call.generation))

    def _effect(self, call: StageCall, direction: Direction, request: StageRequest) -> Any:
        if call.table_row.side is Side.ROOT:
            return ROOT_EFFECTS[call.stage, direction](request, host=self.host)
        return WORK_EFFECTS[call.stage, direction](request, self.context)
