"""Which host gets a VM, and what is said when none does."""

from __future__ import annotations

from typing import Any

import pytest
from farm_facts import IMAGE, host, spec

from banger.contracts.errors import CapacityError, InvalidInputError, NotFoundError
from banger.hosts import HostInfo
from banger.placement import Used, place, refuse_resize


def test_the_emptiest_host_comes_first() -> None:
    used = {"a": Used(1, 2048, 1), "b": Used(1, 256, 1)}
    assert [c.host.name for c in place(spec(), [host("a"), host("b")], used)] == ["b", "a"]


def test_each_filter_says_how_many_hosts_it_removed() -> None:
    hosts = [
        host("a", alive=False),
        host("b", memory_mib=128),
        host("c", vcpus=0),
        host("d", disk_free_mib=10),
    ]
    with pytest.raises(CapacityError) as caught:
        place(spec(), hosts, {})
    assert caught.value.details.splitlines() == [
        "1 of 4: no worker serves it",
        "1 of 4: less than 256MiB of memory left",
        "1 of 4: less than 1 vCPUs left",
        "1 of 4: less than 8GiB of disk free",
    ]


NO_KVM = {"qemu": "", "firecracker": "it needs KVM, which is not proven to work on this host"}
BOTH = {"qemu": "", "firecracker": ""}


def names(hosts: list[HostInfo], **wanted: Any) -> list[str]:
    return [one.host.name for one in place(spec(**wanted), hosts, {})]


def test_a_vm_goes_where_its_vmm_works() -> None:
    hosts = [
        host("a", vmm="auto", vmm_obstacles=NO_KVM),
        host("b", vmm="qemu", vmm_obstacles=BOTH),
        host("c", vmm="auto", vmm_obstacles=BOTH),
        host("d", vmm="auto", vmm_obstacles=BOTH | {"qemu": "there is no /q"}),
        host("e", vmm="firecracker", vmm_obstacles=NO_KVM),
    ]
    assert names(hosts) == ["a", "b", "c", "d"]
    assert names(hosts, vmm="firecracker") == ["b", "c", "d"], "what is configured is but a default"
    assert names(hosts, vmm="qemu") == ["a", "b", "c", "e"]
    assert names(hosts, net_rate_mib_s=10) == ["c", "d"], "QEMU would run it on the others"
    assert names(hosts, net_rate_mib_s=10, vmm="firecracker") == ["b", "c", "d"]
    assert names(hosts, vcpus=32, vmm="firecracker") == ["b", "c", "d"]
    assert names([one.model_copy(update={"vcpus": 99}) for one in hosts], vcpus=33) == ["a", "b", "c"]


def test_without_its_vmm_it_is_said_what_is_wrong_on_how_many_hosts() -> None:
    old = BOTH | {"firecracker": "Firecracker is of version 1.15.0; 1.16 is needed"}
    hosts = [
        host("a", vmm="auto", vmm_obstacles=NO_KVM),
        host("b", vmm="qemu", vmm_obstacles=old),
        host("c", vmm="qemu", vmm_obstacles=NO_KVM),
    ]
    with pytest.raises(CapacityError) as caught:
        place(spec(vmm="firecracker"), hosts, {})
    assert caught.value.details.splitlines() == [
        "2 of 3: Firecracker cannot run this VM: it needs KVM, which is not proven to work on this host",
        "1 of 3: Firecracker cannot run this VM: Firecracker is of version 1.15.0; 1.16 is needed",
    ]
    assert "banger host show" in caught.value.resolution
    with pytest.raises(CapacityError) as caught:
        place(spec(net_rate_mib_s=1), hosts[:2], {})
    by_qemu = "QEMU does not limit a guest's network: the VM would be run by QEMU"
    assert caught.value.details.splitlines() == [
        f"1 of 2: {by_qemu}, since Firecracker cannot run it: {NO_KVM['firecracker']}",
        f"1 of 2: {by_qemu}, as its host is configured",
    ]


def test_a_host_whose_worker_is_older_is_taken_at_its_roots_word() -> None:
    told = '{"name": "old", "network": "172.16.0.0/24", "uid_base": 300000, "vcpus": 8, "memory_mib": 4096'
    old = HostInfo.model_validate_json(f'{told}, "disk_free_mib": 100000}}')
    assert (old.vmms, old.default_vmm) == ((), None)
    old = old.model_copy(update={"alive": True, "images": (IMAGE,)})
    assert names([old], vmm="firecracker", net_rate_mib_s=1) == ["old"]


def test_a_full_network_is_said_to_be_full() -> None:
    small = host(network="172.16.0.0/29")
    with pytest.raises(CapacityError, match="slot of its network"):
        place(spec(), [small], {"here": Used(small.slots, 0, 0)})


def test_an_unknown_image_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="images: micro"):
        place(spec(image="nope"), [host()], {})


def test_an_image_can_be_asked_for_by_its_id() -> None:
    assert place(spec(image=IMAGE.id), [host()], {})[0].image == IMAGE


def test_a_disk_below_the_seed_is_refused_with_both_sizes() -> None:
    seeded = host(images=(IMAGE.model_copy(update={"seed_mib": 64}),))
    with pytest.raises(InvalidInputError, match="asked 32MiB, the seed has 64MiB"):
        place(spec(disk_mib=32), [seeded], {})


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(NotFoundError, match="there is no host 'moon'"):
        place(spec(host="moon"), [host()], {})


def test_no_host_at_all_is_said_so() -> None:
    with pytest.raises(CapacityError, match="no host has joined"):
        place(spec(), [], {})


def test_a_work_disk_grows_within_what_its_host_has_free() -> None:
    refuse_resize(spec(disk_mib=8192), {"disk_mib": 8192 + 10}, host(disk_free_mib=10))
    with pytest.raises(CapacityError, match=r"(?s)here has no room .* grows by 11MiB, and 10MiB is free"):
        refuse_resize(spec(disk_mib=8192), {"disk_mib": 8192 + 11}, host(disk_free_mib=10))
    with pytest.raises(InvalidInputError, match="only grows"):
        refuse_resize(spec(disk_mib=8192), {"disk_mib": 8191}, None)
