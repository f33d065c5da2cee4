"""What Firecracker is asked: the sequence, its bodies against Firecracker's API description, its jailer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from banger.contracts import firecracker, vmm
from banger.contracts.errors import StageFailedError
from banger.contracts.firecracker import BootSource, Drive, MachineConfiguration, jailer_argv, sequence
from banger.contracts.requests import LaunchRequest

ID = "0123456789ab"
DESCRIPTION = Path(__file__).resolve().parents[3] / "shared/firecracker/openapi-v1.16.1.yaml"


def asked(drives: int = 2, **changes: Any) -> tuple[firecracker.Request, ...]:
    request = LaunchRequest.model_validate(
        {"vm_id": ID, "generation": 1, "slot": 7, "kernel": "c" * 12, "vcpus": 2, "memory_mib": 256} | changes
    )
    return sequence(request, "bgr-0123456789a", "02:fc:ac:10:00:07", 8, drives)


def body(path: str, **changes: Any) -> dict[str, Any]:
    return json.loads(next(one.body for one in asked(**changes) if one.path == path))


# --- the sequence --------------------------------------------------------------------------------


def test_a_microvm_is_configured_in_this_order_and_started_last():
    assert [one.path for one in asked()] == [
        "/logger",
        "/metrics",
        "/serial",
        "/machine-config",
        "/boot-source",
        "/drives/vda",
        "/drives/vdb",
        "/network-interfaces/net",
        "/vsock",
        "/entropy",
        "/actions",
    ]
    assert body("/actions") == {"action_type": "InstanceStart"}


def test_what_the_guest_flushes_is_on_the_hosts_disk():
    assert {body(f"/drives/{name}")["cache_type"] for name in ("vda", "vdb")} == {"Writeback"}


def test_the_system_disk_alone_is_the_root_device():
    assert [body(f"/drives/{name}")["is_root_device"] for name in ("vda", "vdb")] == [True, False]
    assert [one.path for one in asked(drives=1) if "drives" in one.path] == ["/drives/vda"]


def test_without_a_limit_there_is_no_limiter():
    assert "rate_limiter" not in body("/drives/vda")
    assert not {"rx_rate_limiter", "tx_rate_limiter"} & body("/network-interfaces/net").keys()


def test_limits_are_tokens_a_second():
    limits = {"disk_rate_mib_s": 50, "disk_ops_s": 1000, "net_rate_mib_s": 10}
    disk = {
        "bandwidth": {"size": 50 * 2**20, "refill_time": 1000},
        "ops": {"size": 1000, "refill_time": 1000},
    }
    assert body("/drives/vdb", **limits)["rate_limiter"] == disk
    net = {"bandwidth": {"size": 10 * 2**20, "refill_time": 1000}}
    interface = body("/network-interfaces/net", **limits)
    assert (interface["rx_rate_limiter"], interface["tx_rate_limiter"]) == (net, net)


def test_a_guest_restarts_by_the_keyboard_controller_which_ends_firecracker():
    words = body("/boot-source")["boot_args"].split()
    assert {"reboot=k", "panic=1", "console=ttyS0"} <= set(words)


def test_a_guest_is_told_of_its_keyboards_interrupt_by_acpi():
    assert "i8042.nopnp" not in body("/boot-source")["boot_args"].split()


@pytest.mark.parametrize(
    "word", ["root=/dev/vdb", "ro", "rw", "pci=off", "virtio_mmio.device=4K@0xd0000000:5"]
)
def test_boot_arguments_that_firecracker_sets_itself_are_refused(word: str):
    with pytest.raises(ValidationError, match="itself"):
        BootSource(boot_args=f"quiet {word}")


@pytest.mark.parametrize("path", ["vda", "/../vda", "/a b", "/vd\n"])
def test_a_path_is_one_of_the_jails(path: str):
    with pytest.raises(ValidationError):
        Drive(drive_id="vda", path_on_host=path, is_root_device=True)


def test_more_vcpus_than_firecracker_has_are_refused():
    with pytest.raises(ValidationError):
        MachineConfiguration(vcpu_count=33, mem_size_mib=256)


@given(
    vcpus=st.integers(1, 32),
    memory_mib=st.integers(64, 1024 * 1024),
    rate=st.none() | st.integers(1, 1024 * 1024),
    ops=st.none() | st.integers(1, 100_000_000),
)
def test_no_body_is_longer_than_firecracker_takes(vcpus, memory_mib, rate, ops):
    some = asked(
        vcpus=vcpus, memory_mib=memory_mib, disk_rate_mib_s=rate, disk_ops_s=ops, net_rate_mib_s=rate
    )
    assert all(len(one.body) < firecracker.MAX_BODY_BYTES // 10 for one in some)


# --- Firecracker's own description ---------------------------------------------------------------


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    if not DESCRIPTION.exists():
        pytest.skip("Firecracker's API description (../shared/firecracker/openapi-v1.16.1.yaml) is not here")
    return yaml.safe_load(DESCRIPTION.read_text())


def closed(schema: Any) -> Any:
    """Return a schema with no fields but its own: JSON Schema lets others pass, and Firecracker does not."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    return made | ({"additionalProperties": False} if "properties" in schema else {})


def conforms(request: firecracker.Request, description: dict[str, Any]) -> None:
    kind, _, name = request.path[1:].partition("/")
    paths = description["paths"]
    known = next(one for one in paths if one == f"/{kind}" or (name and one.startswith(f"/{kind}/{{")))
    operation = paths[known][request.method.lower()]
    wanted = next(one["schema"] for one in operation["parameters"] if one["in"] == "body")
    schema = wanted | {"definitions": closed(description["definitions"])}
    jsonschema.Draft4Validator(schema).validate(json.loads(request.body))
    if name:
        field = known.partition("{")[2].rstrip("}")
        assert json.loads(request.body)[field] == name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"drives": 1},
        {"vcpus": 32, "memory_mib": 1024 * 1024},
        {"disk_rate_mib_s": 1, "disk_ops_s": 1, "net_rate_mib_s": 1},
        {"disk_rate_mib_s": 1024 * 1024},
        {"disk_ops_s": 100_000_000},
        {"net_rate_mib_s": 1024 * 1024},
    ],
)
def test_every_request_is_one_that_firecracker_describes(changes, description):
    for one in (*asked(**changes), firecracker.ctrl_alt_del()):
        conforms(one, description)


def test_a_field_that_firecracker_does_not_describe_would_be_seen(description):
    good = json.loads(asked()[0].body)
    bad = firecracker.Request("PUT", "/logger", json.dumps(good | {"colour": "red"}).encode())
    with pytest.raises(jsonschema.ValidationError):
        conforms(bad, description)


def test_the_limits_that_we_know_are_firecrackers(description):
    vcpus = description["definitions"]["MachineConfiguration"]["properties"]["vcpu_count"]
    assert vcpus["maximum"] == vmm.MAX_FIRECRACKER_VCPUS
    assert description["info"]["version"].startswith("1.16")


# --- its jailer ----------------------------------------------------------------------------------


def test_the_jailer_is_told_who_where_and_how_much():
    argv = jailer_argv(Path("/j"), Path("/opt/firecracker-v1"), ID, 300_007, Path("/run/jails/x"), 2**20)
    words = " ".join(argv)
    assert argv[0] == "/j"
    for part in (
        f"--id banger-{ID}",
        "--exec-file /opt/firecracker-v1",
        "--uid 300007 --gid 300007",
        "--chroot-base-dir /run/jails/x",
        "--resource-limit fsize=1048576",
        "--resource-limit no-file=1024",
        "--daemonize",
        "--new-pid-ns",
    ):
        assert part in words
    assert "seccomp" not in words
    root = firecracker.jail_root(Path("/run/jails/x"), "firecracker-v1", ID)
    assert str(root) == f"/run/jails/x/firecracker-v1/banger-{ID}/root"


# --- which VMM -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            b"Firecracker v1.16.1\n\n2026-05-17T12:29:43 [main] Firecracker exiting. exit_code=0\n",
            "1.16.1",
        ),
        (b"Jailer v1.16.1\n", "1.16.1"),
        (b"Firecracker v1.17.0-dev\n", "1.17.0-dev"),
        (b"QEMU emulator version 7.2\n", None),
        (b"\xff", None),
    ],
)
def test_a_program_says_its_version(said: bytes, found: str | None):
    assert vmm.version(said) == found


def test_a_pair_is_of_one_version():
    assert vmm.pair_problem("firecracker", "1.16.1", "1.16.1") == ""
    said = "Firecracker is of version 1.16.1, its jailer of 1.15.0"
    assert vmm.pair_problem("firecracker", "1.16.1", "1.15.0") == said
    assert vmm.pair_problem("firecracker", None, "1.16.1")


def test_a_firecracker_by_another_name_is_none_to_the_jailer():
    assert vmm.pair_problem("firecracker-v1.16.1-x86_64", "1.16.1", "1.16.1") == ""
    assert "no file called fc-1.16" in vmm.pair_problem("fc-1.16", "1.16.1", "1.16.1")


@pytest.mark.parametrize(
    ("both", "good"),
    [("1.16.0", True), ("1.17.0-dev", True), ("2.0.0", True), ("1.9.1", False), ("v", False)],
)
def test_a_pair_is_not_older_than_the_api_that_we_know(both: str, good: bool):
    problem = vmm.pair_problem("firecracker", both, both)
    assert problem == ("" if good else f"Firecracker is of version {both}; 1.16 is needed")


@pytest.mark.parametrize(
    ("accelerator", "vcpus", "problem", "why"),
    [("kvm", 1, "", ""), ("tcg", 1, "", "KVM"), ("kvm", 33, "", "32 vCPUs"), ("kvm", 1, "gone", "gone")],
)
def test_why_it_cannot_be_firecracker(accelerator, vcpus, problem, why):
    found = vmm.obstacle(accelerator, vcpus, problem)
    assert (why in found) if why else not found


@pytest.mark.parametrize(
    ("wanted", "obstacle", "chosen"),
    [
        ("auto", "", "firecracker"),
        ("auto", "no KVM", "qemu"),
        ("qemu", "", "qemu"),
        ("firecracker", "", "firecracker"),
    ],
)
def test_the_choice(wanted, obstacle, chosen):
    assert vmm.choose(wanted, obstacle, limits_network=False) == chosen


def test_what_cannot_be_had_is_refused_with_the_reason():
    with pytest.raises(StageFailedError, match="no KVM"):
        vmm.choose("firecracker", "no KVM", limits_network=False)
    with pytest.raises(StageFailedError, match="does not limit") as caught:
        vmm.choose("auto", "no KVM", limits_network=True)
    assert "no KVM" in caught.value.details
    with pytest.raises(StageFailedError, match="does not limit"):
        vmm.choose("qemu", "", limits_network=True)
