"""A running VM outlives the farm's memory; one that powers itself off is noticed."""

from __future__ import annotations

import pytest
from farm_box import Box, eventually
from guests import guest, said

from banger.contracts.states import State

pytestmark = pytest.mark.real


def test_a_running_vm_is_there_again_when_redis_has_forgotten_all(box: Box) -> None:
    before = box.traces()
    made = box.farm.create("survivor", disk_mib=256)
    boot_id = said(box, "survivor", "cat", "/proc/sys/kernel/random/boot_id")
    box.admin.redis.flushall()
    eventually(lambda: box.admin.knows_host(box.settings.host))
    assert box.farm.show("survivor") == made
    assert said(box, "survivor", "cat", "/proc/sys/kernel/random/boot_id") == boot_id
    assert box.farm.create("another", start=False).slot != made.slot
    box.farm.delete("another")
    guest(box, "survivor", "sh", "-c", "(sleep 0.2; poweroff -f) >/dev/null 2>&1 &", good=None)
    stopped = eventually(lambda: (found := box.farm.show("survivor")).state is State.STOPPED and found)
    assert stopped.generation == made.generation
    box.farm.start("survivor")
    assert said(box, "survivor", "cat", "/proc/sys/kernel/random/boot_id") != boot_id
    box.farm.delete("survivor")
    assert box.traces() == before
