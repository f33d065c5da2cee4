"""Default deny: what root's policy refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from farm_facts import VM, steps
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from banger.contracts.errors import PolicyError
from banger.contracts.policy import GUEST_PATHS, Policy, check
from banger.contracts.requests import GuestFile, LaunchRequest, PatchRootfsRequest, TapRequest
from banger.pipelines import CREATE

POLICY = Policy(host="here", state_dir=Path("/s"), run_dir=Path("/r"), max_vcpus=4, max_memory_mib=1024)


def launch(**changes: object) -> LaunchRequest:
    fields = {
        "vm_id": VM,
        "generation": 1,
        "slot": 5,
        "kernel": "b" * 12,
        "vcpus": 1,
        "memory_mib": 128,
    }
    return LaunchRequest.model_validate(fields | changes)


def test_all_that_create_asks_is_allowed() -> None:
    for call in steps(CREATE):
        if call.table_row.side == "root":
            check(call.parse_request(), POLICY)


@pytest.mark.parametrize("changes", [{"vcpus": 5}, {"memory_mib": 1025}, {"slot": 300}])
def test_a_launch_beyond_the_limits_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        check(launch(**changes), POLICY)


@pytest.mark.parametrize(
    "changes",
    [
        {"vm_id": "../../etc"},
        {"kernel": "../../boot"},
        {"name": "dev"},
        {"slot": 0},
        {"cmdline": "init=/bin/sh"},
    ],
)
def test_a_launch_of_the_wrong_form_is_no_request_at_all(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        launch(**changes)


@given(st.integers())
def test_a_slot_outside_the_network_never_passes(number: int) -> None:
    try:
        check(TapRequest(vm_id=VM, generation=1, slot=number, nat=False), POLICY)
    except (ValidationError, PolicyError):
        assert not 2 <= number <= 254
    else:
        assert 2 <= number <= 254


@given(st.text(max_size=80) | st.sampled_from(sorted(GUEST_PATHS)))
def test_only_listed_guest_paths_pass(path: str) -> None:
    try:
        file = GuestFile(path=path, content="")
        check(PatchRootfsRequest(vm_id=VM, generation=1, slot=5, files=(file,), mounts=()), POLICY)
    except (ValidationError, PolicyError):
        assert path not in GUEST_PATHS
    else:
        assert path in GUEST_PATHS


def test_configuration_is_not_made_executable() -> None:
    file = GuestFile(path="/etc/hosts", content="", mode=0o755)
    with pytest.raises(PolicyError):
        check(PatchRootfsRequest(vm_id=VM, generation=1, slot=5, files=(file,), mounts=()), POLICY)
