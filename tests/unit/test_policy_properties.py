"""Whatever is written into a request: what root lets through names only what is banger's on this host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError
from banger.contracts.names import dm_name, link_alias, tap_name
from banger.contracts.policy import GUEST_PATHS, Policy, check
from banger.contracts.requests import LaunchRequest, PatchRootfsRequest, StageRequest
from banger.contracts.stages import STAGES, Side

POLICY = Policy(
    host="here", state_dir=Path("/state"), run_dir=Path("/run/x"), max_vcpus=8, max_memory_mib=4096
)
ROOT_STAGES = [(name, way) for name, row in STAGES.items() if row.side is Side.ROOT for way in ("do", "undo")]

# Right values, so that some requests pass, beside what an attacker would try.
NASTY = st.sampled_from(
    [
        *(
            "",
            ".",
            "..",
            "../../etc/shadow",
            "/etc/shadow",
            "a/b",
            "-rf",
            "--help",
            "%s%n",
            "{vm}",
            "$(id)",
            "`id`",
        ),
        *(
            "0123456789ab\n",
            "0123456789AB",
            "\uff10" * 10 + "ab",
            "0123456789ab\0",
            "bgr-0",
            "lo",
            "eth0",
            "x" * 5000,
        ),
    ]
)
TEXT = st.one_of(st.text(max_size=40), NASTY)
ID = st.one_of(st.just("0123456789ab"), TEXT)
NUMBER = st.one_of(
    st.integers(-5, 300), st.integers(), st.floats(), st.booleans(), st.none(), st.just("7"), st.just([7])
)
FILE = st.fixed_dictionaries(
    {
        "path": st.one_of(
            st.sampled_from([*GUEST_PATHS, "/etc/shadow", "/etc/../etc/shadow", "//etc/hosts"]), TEXT
        ),
        "content": st.one_of(TEXT, st.just("x" * 70_000)),
    },
    optional={"mode": st.sampled_from([0o644, 0o755, 0o4755, 0o777, "0755"]), "owner": NUMBER},
)
MOUNT = st.fixed_dictionaries({"source": TEXT, "target": TEXT, "fstype": TEXT, "options": TEXT})
REQUEST = st.fixed_dictionaries(
    {"vm_id": ID, "generation": NUMBER},
    optional={
        "slot": NUMBER,
        "image": ID,
        "kernel": ID,
        "name": st.one_of(st.just("dev"), TEXT),
        "nat": NUMBER,
        "vcpus": NUMBER,
        "memory_mib": st.one_of(st.just(256), NUMBER),
        "signal": st.one_of(st.just("KILL"), TEXT),
        "files": st.lists(FILE, max_size=3),
        "mounts": st.lists(MOUNT, max_size=2),
        "command": TEXT,
    },
)


def let_through(stage: str, way: Any, request: dict[str, Any]) -> StageRequest | None:
    """Return the request as root would act upon it, None where it is refused."""
    try:
        call = StageCall(
            job="ba9876543210",
            pipeline="create",
            step="01",
            stage=stage,
            direction=way,
            host="here",
            request=request,
        )
        parsed = call.parse_request()
        check(parsed, POLICY)
    except (BangerError, ValueError):
        return None
    return parsed


@given(st.sampled_from(ROOT_STAGES), REQUEST)
def test_what_is_let_through_names_only_what_is_ours(stage: tuple[str, str], request: dict[str, Any]) -> None:
    parsed = let_through(*stage, request)
    if parsed is None:
        return
    assert re.fullmatch("[0-9a-f]{12}", parsed.vm_id)
    assert re.fullmatch("bgr-[0-9a-f]{11}", tap_name(parsed.vm_id))
    assert dm_name(parsed.vm_id) == link_alias(parsed.vm_id) == f"banger-{parsed.vm_id}"
    paths = POLICY.paths
    for path, root in (
        (paths.overlay(parsed.vm_id), paths.vms),
        (paths.work_disk(parsed.vm_id), paths.vms),
        (paths.host_key(parsed.vm_id), paths.vms),
        (paths.serial_log(parsed.vm_id), paths.vms),
        (paths.jail(parsed.vm_id), paths.jails),
        (paths.rootfs(getattr(parsed, "image", parsed.vm_id)), paths.images),
        (paths.kernel(getattr(parsed, "kernel", parsed.vm_id)), paths.kernels),
    ):
        assert path.is_relative_to(root)
        assert ".." not in path.parts
        assert path != root
    if (number := getattr(parsed, "slot", None)) is not None:
        slot = POLICY.slot(number)
        assert slot.address in POLICY.network
        assert POLICY.uid_base < slot.uid < POLICY.uid_base + POLICY.network.num_addresses
    if isinstance(parsed, LaunchRequest):
        assert parsed.vcpus <= POLICY.max_vcpus
        assert parsed.memory_mib <= POLICY.max_memory_mib
    if isinstance(parsed, PatchRootfsRequest):
        for file in parsed.files:
            assert len(file.content.encode()) <= GUEST_PATHS[file.path]
            assert file.mode in (0o644, 0o755)


@given(REQUEST)
def test_a_field_that_a_stage_does_not_have_is_no_harmless_extra(request: dict[str, Any]) -> None:
    for stage, way in ROOT_STAGES:
        row = STAGES[stage]
        model = row.do if way == "do" else row.undo
        if model is not None and set(request) - set(model.model_fields):
            assert let_through(stage, way, request) is None
