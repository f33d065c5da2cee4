"""Guests that boot find names of VMs, and their own, by busybox and by its C library."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from farm_box import Box
from guests import guest, said

from banger.records import Record

pytestmark = pytest.mark.real

AT_ONCE_S = 3.0  # with the connection, in a guest under emulation; a server that is waited for takes 5 more


@pytest.fixture(scope="module")
def pair(box: Box) -> Iterator[tuple[Record, Record]]:
    made = box.farm.create("one"), box.farm.create("two")
    yield made
    for record in made:
        box.farm.delete(record.name)


def test_a_guest_finds_its_neighbour_and_itself(box: Box, pair: tuple[Record, Record]) -> None:
    for record in pair:
        name = f"{record.name}.vm"
        assert f"Address: {record.address}\n" in said(box, "one", "nslookup", name)
        # By the C library this time: whether the neighbour can be reached is another matter.
        pinged = guest(box, "one", "ping", "-c", "1", "-W", "1", name, good=None)
        assert f"PING {name} ({record.address})" in pinged.stdout.decode()


def test_a_name_that_nobody_has_is_unknown_at_once(box: Box, pair: tuple[Record, Record]) -> None:
    began = time.monotonic()
    asked = guest(box, "one", "ping", "-c", "1", "nobody.vm", good=1)
    assert time.monotonic() - began < AT_ONCE_S
    assert b"bad address" in asked.stderr


def test_a_command_of_a_run_finds_its_own_guest(box: Box) -> None:
    assert box.farm.run(["sh", "-c", 'nslookup "$(hostname).vm"'], image="micro").exit_code == 0
