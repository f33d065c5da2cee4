"""Names, slots, sizes, errors: what every side derives in the same way."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from banger.contracts import errors, names
from banger.contracts.errors import InvalidInputError
from banger.contracts.sizes import format_mib, parse_mib
from banger.contracts.spec import VmSpec

IDS = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)


@given(IDS)
def test_interface_names_fit_and_the_alias_has_the_whole_id(vm_id: str) -> None:
    assert len(names.tap_name(vm_id).encode()) <= 15
    assert vm_id in names.link_alias(vm_id)


@given(st.integers(2, 65_534), st.integers(2, 65_534))
def test_slots_differ_in_everything_that_follows_from_them(a: int, b: int) -> None:
    network = IPv4Network("10.0.0.0/16")
    one, other = names.slot(a, network, 300_000), names.slot(b, network, 300_000)
    same = {one.address == other.address, one.mac == other.mac, one.uid == other.uid, one.cid == other.cid}
    assert same == {a == b}


def test_a_slot_has_the_address_in_its_mac() -> None:
    slot = names.slot(5, IPv4Network("172.16.0.0/24"), 300_000)
    assert (str(slot.address), slot.mac, slot.uid) == ("172.16.0.5", "02:fc:ac:10:00:05", 300_005)
    assert slot.cid > 2  # 0 to 2 are the hypervisor's, local, and the host's


@pytest.mark.parametrize("number", [0, 1, 255, 256])
def test_slots_outside_the_network_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        names.slot(number, IPv4Network("172.16.0.0/24"), 300_000)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "ä", "a b", "a\n", "../x"])
def test_names_that_are_no_dns_label_are_refused_not_normalised(name: str) -> None:
    assert not names.is_label(name)
    with pytest.raises(ValidationError):
        VmSpec(name=name, image="micro")


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512", 512), ("512MiB", 512), ("8GiB", 8192), ("8g", 8192), ("1.5G", 1536), ("1TiB", 1 << 20)],
)
def test_sizes_are_read(text: str, mib: int) -> None:
    assert parse_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["0", "-1", "", "GiB", "1KiB", "0.5", "1.0001G", "999999TiB", "8 GiB x", "nan"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_mib(text)


@given(st.integers(1, 16 * 1024 * 1024))
def test_a_size_that_is_written_is_read_back(mib: int) -> None:
    assert parse_mib(format_mib(mib)) == mib


@pytest.mark.parametrize("cls", [errors.NotFoundError, errors.StageFailedError, errors.CancelledError])
def test_errors_cross_a_queue_whole(cls: type[errors.BangerError]) -> None:
    back = errors.from_wire(cls("brief", details="why", resolution="do").to_wire())
    assert (type(back), back.brief, back.details, back.resolution) == (cls, "brief", "why", "do")


def test_an_unknown_kind_of_error_is_still_an_error() -> None:
    assert errors.from_wire({"kind": "System", "brief": "x"}).brief == "x"
