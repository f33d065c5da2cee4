"""A VM that nobody knows any more: it runs, and neither Redis nor root's registry nor a directory has it."""

from __future__ import annotations

import shutil
from typing import Any

from farm_box import Box

from banger.contracts.journal import leases_key, name_key, vm_key


def forget(box: Box, vm_id: str) -> None:
    """Take a VM from all memory. Its story stays: by it we learn what reconcile does, and know its cgroup."""
    client: Any = box.admin.redis
    record = box.admin.get(vm_id)
    if record is None:
        return
    with client.pipeline() as pipe:
        pipe.delete(vm_key(vm_id), name_key(record.name))
        pipe.hdel(leases_key(box.settings.host), vm_id)
        pipe.execute()
    (box.paths.registry / f"{vm_id}.json").unlink()
    shutil.rmtree(box.paths.vm(vm_id))
