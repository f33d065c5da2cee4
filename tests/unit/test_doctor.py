"""The doctor's judgements over made-up facts, and that gathering real ones harms nothing."""

from __future__ import annotations

import grp
import json
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_farm import session

import banger.doctor
from banger import disk_backend
from banger.cli import main
from banger.contracts.errors import InvalidInputError
from banger.doctor import Check, Facts, examine, gather, gathering, vm_uids
from banger.doctor.facts import (
    TOOLS,
    DiskFacts,
    InstallFacts,
    KvmFacts,
    NamesFacts,
    OwnerFacts,
    RedisFacts,
)
from banger.firecracker_pair import Pair
from banger.settings import Settings
from banger.shell import Completed

HEALTHY = Facts(
    root=True,
    tools={tool.name: "1.0" for tool in TOOLS} | {"dnsmasq": "2.90"},
    worker_user="banger",
    worker_user_exists=True,
    owner=OwnerFacts("alice", "root"),
    tun=True,
    bridge=True,
    nftables=True,
    loop="",
    snapshot_target=True,
    kvm=KvmFacts(True, True, (True, "a probe boot with KVM succeeded")),
    disk=DiskFacts("/var/lib/banger", "xfs", 100_000, True),
    cgroup=2,
    vm_uids=(300_000, ()),
    images=("micro",),
    names=NamesFacts(True, "172.16.0.1", "farm", True),
    redis=RedisFacts("", "", "7.0.15", "noeviction", "yes"),
    served={"banger.control": True, "banger.work.here": True, "banger.root.here": True},
    wanted_backend="auto",
    wanted_accelerator="auto",
    wanted_vmm="auto",
    pair=Pair("/f and /j", there=True, version="1.16.1"),
    own_redis=True,
)

NAMES = HEALTHY.names


def _check(name: str, **changes: Any) -> Check:
    return next(check for check in examine(HEALTHY._replace(**changes)) if check.name == name)


def test_an_owner_may_not_ask_the_farms_redis_for_its_settings() -> None:
    unknown = RedisFacts("", "", "7", None, None)
    assert "sudo" in _check("Redis appendonly", redis=unknown, root=False).remedy
    assert "administrator" in _check("Redis appendonly", redis=unknown, root=False, own_redis=False).remedy


def test_names_that_are_not_wanted_are_nothing_to_mend() -> None:
    off = _check("names", names=NAMES._replace(wanted=False, answers="nobody", known_here=False))
    assert (off.status, off.found, off.remedy) == ("ok", "off, as configured", "")
    assert _check("names", names=NAMES._replace(known_here=None)).status == "ok"


def test_a_name_server_that_came_after_the_farm_is_met_by_starting_that_anew() -> None:
    silent = NAMES._replace(answers="nobody", known_here=None)
    assert _check("names", names=silent).remedy == "sudo banger farm down; sudo banger farm up"
    assert _check("names", names=silent, served={"banger.control": False}).remedy == "sudo banger farm up"
    installed = InstallFacts("banger 1", drift=(), changed=())
    assert _check("names", names=silent, installation=installed).remedy == "sudo banger system install"


def test_a_healthy_host_has_nothing_to_mend() -> None:
    assert {check.status for check in examine(HEALTHY)} == {"ok"}


@pytest.mark.parametrize(
    ("name", "changes", "status", "found"),
    [
        ("tun", {"tun": False}, "fail", "no /dev/net/tun"),
        ("bridge", {"bridge": False}, "fail", "not in this kernel"),
        ("nftables", {"nftables": False}, "fail", "not in this kernel"),
        ("nftables", {"nftables": None}, "warn", "unknown"),
        ("loop", {"loop": "no /dev/loop-control"}, "warn", "no /dev/loop-control"),
        ("loop", {"loop": None}, "warn", "unknown"),
        ("VM uids", {"vm_uids": (300_000, ("user eve",))}, "warn", "from 300000 on some belong to user eve"),
        ("worker user", {"worker_user_exists": False}, "fail", "no user banger"),
        ("owner", {"owner": OwnerFacts("alice", "bob")}, "warn", "alice, and you are bob"),
        ("owner", {"owner": OwnerFacts("alice", "alice", ("x is open",))}, "fail", "alice: x is open"),
        ("state directory", {"disk": DiskFacts("/s", "ext4", 500, True)}, "fail", "/s on ext4, 0.5 GiB free"),
        ("state directory", {"disk": DiskFacts("/s", "xfs", 5120, True)}, "warn", "/s on xfs, 5.0 GiB free"),
        ("images", {"images": ()}, "warn", "none yet"),
        (
            "images",
            {"changed_files": ("/i/rootfs.ext4",)},
            "fail",
            "changed since it was verified: /i/rootfs.ext4",
        ),
        ("leftovers", {"strange": ("jail 0123456789ab",)}, "warn", "jail 0123456789ab"),
        ("names", {"names": NAMES._replace(answers="nobody")}, "warn", "nobody answers at 172.16.0.1:53"),
        (
            "names",
            {"names": NAMES._replace(answers="other")},
            "warn",
            "another name server answers at 172.16.0.1:53",
        ),
        (
            "names",
            {"names": NAMES._replace(known_here=False)},
            "warn",
            "in guests; programs on this host do not find them",
        ),
        ("names", {"tools": {"dnsmasq": None}}, "warn", "off: there is no dnsmasq"),
        ("names", {"tools": {"dnsmasq": "2.85"}}, "warn", "dnsmasq 2.85 keeps names of VMs that are gone"),
        ("root's trust", {"sealing": "the key is lost"}, "fail", "the key is lost"),
        (
            "Redis",
            {"redis": RedisFacts("Redis refused the password", "Check it.")},
            "fail",
            "Redis refused the password",
        ),
        (
            "Redis maxmemory-policy",
            {"redis": RedisFacts("", "", "7", "allkeys-lru", "yes")},
            "fail",
            "allkeys-lru",
        ),
        ("Redis maxmemory-policy", {"redis": RedisFacts("", "", "7", None, None)}, "warn", "unknown"),
        ("Redis appendonly", {"redis": RedisFacts("", "", "7", "noeviction", "no")}, "warn", "no"),
        (
            "Redis' file",
            {"damaged_aof": ("/s/damaged.aof", "2026-01-02 03:04 UTC")},
            "warn",
            "was damaged, and cut on 2026-01-02 03:04 UTC; /s/damaged.aof is as it was",
        ),
        ("VMs and jobs", {"trouble": ("VM dev is error",)}, "warn", "VM dev is error"),
        ("VMs and jobs", {"trouble": ("a", "b", "c", "d", "e", "f", "g")}, "warn", "a; b; c; d; e; 2 more"),
        (
            "seat",
            {"redis": HEALTHY.redis._replace(seat_taken=("another machine serves the host a", "Rename."))},
            "fail",
            "another machine serves the host a",
        ),
        ("queues", {"served": {"a": True, "b": False}}, "fail", "nobody serves b"),
    ],
)
def test_what_is_amiss_is_found_with_its_meaning_and_a_remedy(
    name: str, changes: dict[str, Any], status: str, found: str
) -> None:
    check = _check(name, **changes)
    assert (check.status, check.found) == (status, found)
    assert check.meaning
    assert check.remedy


@pytest.mark.parametrize(
    ("tool", "status"), [("qemu-system-x86_64", "fail"), ("mmdebstrap", "warn"), ("dmsetup", "warn")]
)
def test_a_missing_tool_fails_only_what_needs_it(tool: str, status: str) -> None:
    check = _check(tool, tools=HEALTHY.tools | {tool: None})
    assert check.status == status
    assert check.remedy.startswith("apt-get install ")


def test_with_a_redis_of_ones_own_none_has_to_be_installed() -> None:
    assert (
        _check("redis-server", tools=HEALTHY.tools | {"redis-server": None}, own_redis=False).status == "warn"
    )


@pytest.mark.parametrize(
    ("wanted", "snapshot", "clones", "status", "found"),
    [
        ("auto", True, True, "ok", "dm-snapshot, since"),
        ("auto", False, True, "ok", "reflink, since"),
        ("auto", False, False, "warn", "copy, since"),
        ("auto", None, True, "warn", "unknown"),
        ("copy", True, True, "ok", "copy, as configured"),
        ("reflink", True, False, "fail", "reflink, as configured, which does not work here"),
    ],
)
def test_the_disk_backend_is_told_with_its_reason(
    wanted: str, snapshot: bool | None, clones: bool, status: str, found: str
) -> None:
    disk = HEALTHY.disk._replace(reflink=clones)
    check = _check("disk backend", wanted_backend=wanted, snapshot_target=snapshot, disk=disk)
    assert check.status == status
    assert check.found.startswith(found)


@pytest.mark.parametrize(
    ("kvm", "status", "found"),
    [
        (KvmFacts(False, False, None), "warn", "tcg (emulation): there is no /dev/kvm"),
        (KvmFacts(True, False, None), "warn", "tcg (emulation): only root may open /dev/kvm"),
        (KvmFacts(True, True, None), "warn", "not known yet"),
        (KvmFacts(True, True, (False, "the probe hung")), "warn", "tcg (emulation): the probe hung"),
        (KvmFacts(True, True, (True, "it booted")), "ok", "kvm: it booted"),
    ],
)
def test_the_accelerator_is_told_with_its_reason(kvm: KvmFacts, status: str, found: str) -> None:
    check = _check("accelerator", kvm=kvm)
    assert check.status == status
    assert check.found.startswith(found)


def test_a_configured_accelerator_needs_no_reason() -> None:
    assert _check("accelerator", wanted_accelerator="tcg").found == "tcg, as configured"


ABSENT = Pair("/f and /j", there=False, problem="there is no /f")
STRANGE = Pair("/f and /j", there=True, problem="Firecracker is of version 1, its jailer of 2")
NO_KVM = KvmFacts(True, True, (False, "the probe hung"))
NO_QEMU = {tool.name: None if tool.name == "qemu-system-x86_64" else "1.0" for tool in TOOLS}


@pytest.mark.parametrize(
    ("changes", "status", "found"),
    [
        ({}, "ok", "firecracker, since KVM and the pair work"),
        ({"tools": NO_QEMU}, "ok", "firecracker, since KVM and the pair work"),
        ({"pair": ABSENT}, "ok", "qemu (machine type microvm); not firecracker: there is no /f"),
        ({"kvm": NO_KVM}, "ok", "qemu (machine type microvm); not firecracker: it needs KVM"),
        ({"wanted_accelerator": "tcg"}, "ok", "qemu (machine type microvm); not firecracker: it needs KVM"),
        ({"wanted_vmm": "qemu"}, "ok", "qemu (machine type microvm), as configured"),
        ({"wanted_vmm": "firecracker"}, "ok", "firecracker, as configured"),
        ({"wanted_vmm": "firecracker", "pair": ABSENT}, "fail", "none: firecracker, as configured, but"),
        ({"tools": NO_QEMU, "pair": ABSENT}, "fail", "none: QEMU is not installed"),
    ],
)
def test_the_vmm_is_told_with_its_reason(changes: dict[str, Any], status: str, found: str) -> None:
    check = _check("VMM", **changes)
    assert check.status == status
    assert check.found.startswith(found)


@pytest.mark.parametrize(
    ("changes", "status", "found"),
    [
        ({}, "ok", "1.16.1, and its jailer"),
        ({"pair": ABSENT}, "ok", "not installed"),
        ({"pair": STRANGE}, "warn", "Firecracker is of version 1, its jailer of 2"),
        ({"pair": STRANGE, "wanted_vmm": "firecracker"}, "fail", "Firecracker is of version 1"),
    ],
)
def test_a_pair_that_is_none_is_found_beforehand(changes: dict[str, Any], status: str, found: str) -> None:
    check = _check("Firecracker", **changes)
    assert check.status == status
    assert check.found.startswith(found)


def test_an_unreachable_redis_is_one_check_and_not_four() -> None:
    checks = examine(HEALTHY._replace(redis=RedisFacts("Redis cannot be reached")))
    assert [check.name for check in checks if check.name.startswith(("Redis", "queues"))] == ["Redis"]


@pytest.mark.parametrize(("changes", "code"), [({}, 0), ({"tun": False}, 1), ({"loop": "none"}, 0)])
def test_doctor_ends_with_1_only_where_something_fails(
    changes: dict[str, Any],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(banger.doctor, "gather", lambda _settings: HEALTHY._replace(**changes))
    assert main(["doctor", "--json"], session(tmp_path)) == code
    assert {"name", "status", "found", "meaning", "remedy"} == set(json.loads(capsys.readouterr().out)[0])
    assert main(["doctor"], session(tmp_path)) == code
    said = capsys.readouterr().out
    assert ("to mend it:" in said) is bool(changes)
    assert "\x1b" not in said


@pytest.mark.usefixtures("socket_enabled")
def test_gathering_works_on_a_machine_without_a_farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Sequence[str]] = []

    def run(argv: Sequence[str], **_options: Any) -> Completed:
        started.append(argv)
        return Completed(0, b"tool 1.2.3 (of today)\n", b"")

    for module in (gathering, disk_backend):
        monkeypatch.setattr(module, "run", run)
        monkeypatch.setattr(module, "find_tool", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("BANGER_REDIS_URL", raising=False)
    facts = gather(Settings(host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run"))
    assert ("/usr/bin/nft", "--version") in started
    assert set(facts.tools.values()) == {"1.2.3", "installed"}
    assert facts.redis.problem.startswith("no farm is known here: ")
    assert "banger farm up" in facts.redis.remedy
    assert facts.disk.directory == str(tmp_path / "state")
    assert facts.disk.free_mib > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("snapshot", "reflink", "backend"),
    [(True, True, "dm-snapshot"), (False, True, "reflink"), (False, False, "copy")],
)
def test_a_farm_starts_with_the_best_backend_that_works_here(
    monkeypatch: pytest.MonkeyPatch, snapshot: bool, reflink: bool, backend: str
) -> None:
    monkeypatch.setattr(disk_backend, "has_snapshot_target", lambda: snapshot)
    monkeypatch.setattr(disk_backend, "can_reflink", lambda _paths: reflink)
    monkeypatch.setattr(disk_backend, "no_loops", lambda: "")
    assert disk_backend.resolved(Settings(disk_backend="auto")).disk_backend == backend
    assert disk_backend.resolved(Settings(disk_backend="copy")).disk_backend == "copy"


def test_without_loops_auto_picks_the_next_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_backend, "has_snapshot_target", lambda: True)
    monkeypatch.setattr(disk_backend, "can_reflink", lambda _paths: False)
    monkeypatch.setattr(disk_backend, "no_loops", lambda: "/dev/loop-control: No such file or directory")
    assert disk_backend.resolved(Settings(disk_backend="auto")).disk_backend == "copy"
    assert _check("disk backend", loop="none", disk=HEALTHY.disk).found.startswith("reflink")


def test_a_farm_does_not_start_with_a_configured_backend_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk_backend, "has_snapshot_target", lambda: False)
    monkeypatch.setattr(disk_backend, "can_reflink", lambda _paths: False)
    for backend in ("dm-snapshot", "reflink"):
        with pytest.raises(InvalidInputError, match=f"{backend}, which does not work") as caught:
            disk_backend.resolved(Settings(disk_backend=backend))
        assert "auto" in caught.value.resolution
    assert _check("disk backend", wanted_backend="dm-snapshot", snapshot_target=False).status == "fail"


def test_cgroups_of_version_1_will_do_and_what_they_have_less_is_told() -> None:
    check = _check("cgroup", cgroup=1)
    assert (check.status, check.found) == ("ok", "version 1")
    assert "reads and writes are not" in check.meaning


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("eve:100000:65536\n", ()),
        ("eve:100000:65536\nbob:296608:65536\n", (" of bob",)),
        ("eve:300255:1\nbob:300256:1\n", (" of eve",)),
        ("# nothing\n\nalice:x:1\n", ()),
    ],
)
@pytest.mark.parametrize("name", ["subuid", "subgid"])
def test_a_range_of_subordinate_ids_that_reaches_the_vms_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lines: str, found: tuple[str, ...]
) -> None:
    monkeypatch.setattr(vm_uids, "RANGES", (tmp_path / "subuid", tmp_path / "subgid"))
    assert vm_uids.taken(300_000, 256) == ()
    (tmp_path / name).write_text(lines)
    assert vm_uids.taken(300_000, 256) == tuple(f"{tmp_path / name}{who}" for who in found)


def test_users_and_groups_of_the_vms_uids_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_uids, "RANGES", ())
    eve, staff = pwd.getpwuid(0), grp.getgrgid(0)
    assert vm_uids.taken(0, 1) == (f"user {eve.pw_name}", f"group {staff.gr_name}")
