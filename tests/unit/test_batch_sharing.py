"""Who is next, and what is left to those who want a single VM."""

from __future__ import annotations

import pytest
from batch_facts import batch, going
from farm_facts import host, spec
from hypothesis import given
from hypothesis import strategies as st

from banger.batch.sharing import Line, Room, next_line, parallel_of
from banger.contracts.errors import CapacityError
from banger.placement import Used, place

IDS = tuple(digit * 12 for digit in "abc")


def line(batch_id: str, *, at_work: int = 0, parallel: int = 10, waiting: int = 5, age: float = 0.0) -> Line:
    return Line(batch(id=batch_id, created_at=1000.0 - age), at_work, parallel, waiting)


def test_the_batch_with_the_fewest_at_work_is_next_and_of_equals_the_oldest() -> None:
    a, b, c = IDS
    found = next_line([line(a, at_work=2, age=9), line(b, at_work=1), line(c, at_work=1, age=5)])
    assert found is not None
    assert found.info.id == c


def test_nobody_is_next_who_has_no_job_that_waits_or_as_many_at_work_as_may_be() -> None:
    a, b, c = IDS
    assert next_line([]) is None
    assert next_line([line(a, waiting=0), line(b, at_work=10)]) is None
    found = next_line([line(a, waiting=0), line(b, at_work=10), line(c, at_work=9)])
    assert found is not None
    assert found.info.id == c


@given(
    waits=st.lists(st.integers(0, 30), min_size=1, max_size=3),
    parallel=st.lists(st.integers(1, 30), min_size=3, max_size=3),
    room=st.integers(0, 60),
)
def test_room_is_shared_fairly_whatever_the_batches_sizes(
    waits: list[int], parallel: list[int], room: int
) -> None:
    lines = [
        line(batch_id, waiting=number, parallel=most)
        for batch_id, number, most in zip(IDS, waits, parallel, strict=False)
    ]
    for _ in range(room):
        if (found := next_line(lines)) is None:
            break
        found.took()
    open_ones = [one for one in lines if one.waiting and one.going < one.parallel]
    least = min((one.going for one in open_ones), default=0)
    for one in lines:  # who got more than another that could still take some got one more at most
        assert one.going <= one.parallel
        assert not open_ones or one.going <= least + 1
    assert sum(one.going for one in lines) == min(
        room, sum(min(number, most) for number, most in zip(waits, parallel, strict=False))
    )


def test_how_many_run_at_once_is_the_plans_word_or_follows_from_the_processors() -> None:
    hosts = [host("a", vcpus=2 * 64), host("b", vcpus=4 * 64), host("c", vcpus=64, alive=False)]
    assert parallel_of(batch(parallel=7), hosts) == 7
    assert parallel_of(batch(), hosts) == 12
    assert parallel_of(batch(), []) == 1


def test_a_part_of_each_host_is_kept_for_single_vms() -> None:
    big = host(memory_mib=4096, vcpus=64, commands=100)
    room = Room([big], {"here": Used()})
    begun = 0
    while True:
        try:
            place(spec(), room.hosts, room.used_by_batches())
        except CapacityError:
            break
        room.took(spec(), "here")
        begun += 1
    assert begun == int(4096 * 0.9) // 256
    assert place(spec(), room.hosts, room.used)


def test_slots_and_vcpus_are_kept_too() -> None:
    narrow = host(vcpus=20, commands=100)
    room = Room([narrow], {"here": Used(slots=0, memory_mib=0, vcpus=18)})
    with pytest.raises(CapacityError, match="no host can take"):
        place(spec(), room.hosts, room.used_by_batches())
    assert place(spec(), room.hosts, room.used)
    room = Room([host(commands=100)], {"here": Used(slots=host().slots - 2)})
    with pytest.raises(CapacityError) as caught:
        place(spec(), room.hosts, room.used_by_batches())
    assert "every slot" in caught.value.details
    assert place(spec(), room.hosts, room.used)


def test_a_host_gets_no_more_jobs_than_its_worker_can_look_after() -> None:
    room = Room([host("a", commands=2), host("b", commands=1)], {})
    room.count([going(host="a"), going(host=None, state="starting")])
    for _ in range(2):
        (candidate, *_) = place(spec(), room.hosts, room.used_by_batches())
        room.took(spec(), candidate.host.name)
    assert room.jobs == {"a": 2, "b": 1}
    with pytest.raises(CapacityError) as caught:
        place(spec(), room.hosts, room.used_by_batches())
    assert "as many jobs of batches as it can be" in caught.value.details
    assert place(spec(), room.hosts, room.used)  # a single VM is none of a batch's jobs
