"""update_spec: write changed settings of a stopped VM into its record."""

from __future__ import annotations

from banger.contracts.requests import UpdateSpecRequest
from banger.records import Records


def do(request: UpdateSpecRequest, records: Records) -> None:
    """Replace vCPUs, memory, disks (MiB) or autostart where the request has them, for the next start."""
    record = records.get(request.vm_id)
    if record is None:
        return
    changes = request.model_dump(exclude={"vm_id", "generation"}, exclude_none=True)
    records.update_spec(request.vm_id, record.spec.model_copy(update=changes))
