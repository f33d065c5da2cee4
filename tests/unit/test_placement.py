"""Which host gets a VM, and what is said when none does."""

from __future__ import annotations

import pytest
from farm_facts import IMAGE, host, spec

from banger.contracts.errors import CapacityError, InvalidInputError, NotFoundError
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
