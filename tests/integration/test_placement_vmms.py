"""Of two hosts, a VM gets the one that can run it: what a worker tells, as its own user, is what is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from farm_box import Box, eventually, farm_box, without_flower
from firecracker_pair import installed_pair
from netns import inside

from banger.contracts.errors import CapacityError
from banger.contracts.journal import serving_key
from banger.contracts.queues import root_queue, work_queue
from banger.records import HOSTS

pytestmark = pytest.mark.integration

OTHER = "another"  # by name it comes before the box, and it is as empty


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A host where Firecracker is installed, and KVM taken to work."""
    with (
        installed_pair() as pair,
        farm_box("micro", change=without_flower, accelerator="kvm", **pair) as made,
        inside(made.network),
    ):
        yield made


@pytest.fixture
def other(box: Box) -> Iterator[str]:
    """A host that nobody is at, and that has no Firecracker."""
    (ours,) = box.farm.hosts()
    why = "it needs KVM, which is not proven to work on this host"
    changes = {"name": OTHER, "accelerator": "tcg", "vmm_obstacles": {"qemu": "", "firecracker": why}}
    box.admin.publish_host(ours.model_copy(update=changes))
    queues = (work_queue(OTHER), root_queue(OTHER))
    for queue in queues:
        box.admin.publish_serving(queue)
    yield why
    box.admin.redis.hdel(HOSTS, OTHER)
    box.admin.redis.delete(*map(serving_key, queues))


def test_a_worker_tells_of_a_pair_that_works(box: Box) -> None:
    (host,) = box.farm.hosts()
    assert (host.vmms, host.default_vmm, host.vmm) == (("firecracker", "qemu"), "firecracker", "auto")
    assert (host.accelerator, host.disk_backend != "auto") == ("kvm", True)


@pytest.mark.parametrize("wanted", [{"vmm": "firecracker"}, {"net_rate_mib_s": 5}])
def test_a_vm_goes_to_the_host_that_can_run_it(box: Box, other: str, wanted: dict[str, object]) -> None:
    made = box.farm.create("dev", start=False, **wanted)
    assert made.host == box.settings.host
    box.farm.delete("dev")
    with pytest.raises(CapacityError) as refused:
        box.farm.create("dev", start=False, host=OTHER, **wanted)
    assert refused.value.details.startswith("1 of 2: ")
    assert other in refused.value.details
    assert not box.farm.list()


def test_a_pair_that_was_just_replaced_is_judged_as_it_is(box: Box) -> None:
    jailer = box.settings.jailer
    try:
        jailer.chmod(0o775)
        with pytest.raises(CapacityError, match="is not what root alone can write"):
            eventually(
                lambda: box.farm.create("dev", start=False, vmm="firecracker") and box.farm.delete("dev")
            )
    finally:
        jailer.chmod(0o755)
    assert box.farm.create("dev", start=False, vmm="firecracker").host == box.settings.host
    box.farm.delete("dev")
