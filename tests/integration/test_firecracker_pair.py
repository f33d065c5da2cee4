"""What doctor and the worker say of Firecracker and its jailer is what root would say at a launch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from firecracker_pair import installed_pair

from banger import firecracker_pair, shell
from banger.contracts import accelerator
from banger.contracts.errors import StageFailedError
from banger.contracts.policy import Policy
from banger.contracts.requests import LaunchRequest
from banger.firecracker_pair import Pair, look
from banger.settings import Settings
from root_worker.host import root_host
from root_worker.ops.accelerator import choose_accelerator
from root_worker.stages import launch
from root_worker.vmm.firecracker import problem
from workers.capacity import describe_host

pytestmark = pytest.mark.integration

VM = "0123456789ab"
NOBODY = 65534


@pytest.fixture
def pair() -> Iterator[dict[str, Path]]:
    with installed_pair() as made:
        yield made


def both(pair: dict[str, Path]) -> tuple[Pair, str]:
    policy = Policy(host="here", state_dir=Path("/s"), run_dir=Path("/r"), **pair)
    return look(**pair), problem(policy)


def test_a_pair_of_one_version_that_is_roots_alone_can_be_used(pair):
    facts, refused = both(pair)
    assert (facts.version, facts.problem, refused) == ("1.16.1", "", "")


def test_one_that_is_not_there_is_said(pair):
    pair["jailer"].unlink()
    facts, refused = both(pair)
    assert facts.there
    assert "jailer" in facts.problem
    assert "jailer" in refused


def test_none_of_both_is_no_pair_at_all():
    facts, refused = both({"firecracker": Path("/nowhere/firecracker"), "jailer": Path("/nowhere/jailer")})
    assert not facts.there
    assert facts.problem
    assert refused


@pytest.mark.parametrize("name", ["firecracker", "jailer"])
def test_a_program_that_others_may_write_is_used_by_nobody(pair, name):
    pair[name].chmod(0o775)
    facts, refused = both(pair)
    assert "not what root alone can write" in facts.problem
    assert "not what root alone can write" in refused


def test_a_directory_that_others_may_write_is_no_better(pair):
    pair["jailer"].parent.chmod(0o777)
    facts, refused = both(pair)
    assert "not what root alone can write" in facts.problem
    assert "not what root alone can write" in refused


def test_two_versions_are_no_pair(pair):
    jailer = pair["jailer"]
    jailer.write_text(jailer.read_text().replace("1.16.1", "1.15.0"))
    said = "Firecracker is of version 1.16.1, its jailer of 1.15.0"
    facts, refused = both(pair)
    assert (facts.problem, refused) == (said, said)


def test_a_pair_is_asked_again_when_it_is_another(pair, monkeypatch):
    asked = []
    monkeypatch.setattr(
        firecracker_pair, "run", lambda argv, **how: asked.append(argv[0]) or shell.run(argv, **how)
    )
    assert {look(**pair).version for _ in range(3)} == {"1.16.1"}
    assert asked == [str(pair["firecracker"]), str(pair["jailer"])]
    for program in pair.values():
        program.write_text(program.read_text().replace("1.16.1", "1.15.0"))
    assert look(**pair).problem == "Firecracker is of version 1.15.0; 1.16 is needed"
    for program in pair.values():
        program.write_text("#!/bin/sh\nexit 7\n")
    assert look(**pair).problem == "it cannot be asked for its version: firecracker ended with 7"
    assert len(asked) == 5


def test_a_pair_that_may_not_be_looked_at_is_said_to_be_that(pair):
    pair["jailer"].parent.chmod(0o700)
    os.seteuid(NOBODY)
    try:
        found = look(**pair)
    finally:
        os.seteuid(0)
    assert found.problem == f"{pair['firecracker']} cannot be looked at: Permission denied"


@pytest.fixture
def host(tmp_path, pair, monkeypatch):
    """A host with the pair, and a /dev/kvm that everybody may open."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(accelerator, "KVM", Path("/dev/null"))
    return root_host(Policy(host="here", state_dir=tmp_path, run_dir=tmp_path / "run", **pair))


def told(host):
    """Return what the worker tells of the host, after root's policy was written."""
    policy = host.policy
    (policy.state_dir / "policy.json").write_text(policy.model_dump_json())
    # The worker's own configuration is none of root's: it says another VMM.
    return describe_host(
        Settings(host="here", state_dir=policy.state_dir, run_dir=policy.run_dir, vmm="qemu")
    )


def by_root(host, **asked):
    """Return what root would run a VM by, or why it would not."""
    size = {"vcpus": 1, "memory_mib": 64}
    request = LaunchRequest(vm_id=VM, generation=1, slot=5, kernel="bbbbbbbbbbbb", **size, **asked)
    try:
        return launch._choose_vmm(request, host, choose_accelerator(host).accelerator)
    except StageFailedError as error:
        return str(error)


def by_worker(found, vmm="auto", net_rate_mib_s=None):
    try:
        return found.runs_by(vmm, limits_network=net_rate_mib_s is not None)
    except StageFailedError as error:
        return str(error)


@pytest.mark.parametrize("configured", ["auto", "qemu", "firecracker"])
@pytest.mark.parametrize("kvm", ["proven", "disproven", "unknown", "configured"])
@pytest.mark.parametrize("usable", [True, False])
def test_the_worker_tells_what_root_would_do(host, pair, configured, kvm, usable):
    wanted = "kvm" if kvm == "configured" else "auto"
    host = host._replace(policy=host.policy.model_copy(update={"vmm": configured, "accelerator": wanted}))
    if kvm in ("proven", "disproven"):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        verdict = accelerator.Verdict(boot_id=boot_id, qemu="", works=kvm == "proven", reason="")
        host.paths.accelerator.write_text(verdict.model_dump_json())
    if not usable:
        pair["jailer"].chmod(0o777)
    found = told(host)
    assert found.accelerator == choose_accelerator(host).accelerator
    assert found.vmm == configured
    assert found.vmm_obstacles["qemu"] == ""
    for asked in ({}, {"vmm": "qemu"}, {"vmm": "firecracker"}, {"net_rate_mib_s": 9}):
        theirs, ours = by_root(host, **asked), by_worker(found, **asked)
        assert theirs == ours or ("not what root alone can write" in theirs and "not what root" in ours)


def test_a_worker_that_cannot_read_roots_policy_tells_nothing(host, tmp_path):
    told(host)
    (tmp_path / "policy.json").write_text("{}")
    found = describe_host(Settings(host="here", state_dir=tmp_path, run_dir=tmp_path / "run"))
    assert (found.vmms, found.default_vmm, found.accelerator) == ((), None, None)
    assert found.memory_mib > 0


def test_symlinks_that_root_alone_can_change_are_followed(pair):
    place = pair["jailer"].parent
    (place / "current").symlink_to(".")
    (place / "link").symlink_to("current/firecracker")
    pair["firecracker"] = place / "link"
    facts, refused = both(pair)
    assert (facts.problem, refused) == ("", "")


def test_a_symlink_that_others_may_change_is_not_followed(pair):
    place = pair["jailer"].parent
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    (place / "open/next").symlink_to(pair["jailer"])
    (place / "link").symlink_to("open/next")
    pair["jailer"] = place / "link"
    facts, refused = both(pair)
    assert facts.problem == f"{place / 'open'} is not what root alone can write"
    assert "not what root alone can write" in refused


def test_symlinks_without_an_end_are_no_program(pair):
    place = pair["jailer"].parent
    (place / "one").symlink_to("other")
    (place / "other").symlink_to("one")
    pair["jailer"] = place / "one"
    facts, refused = both(pair)
    assert facts.problem == f"there is no {place / 'one'}"
    assert "cannot be run" in refused


def test_a_firecracker_whose_name_the_jailer_does_not_take_is_said(pair):
    other = pair["firecracker"].with_name("fc")
    pair["firecracker"].rename(other)
    pair["firecracker"].symlink_to(other)
    facts, refused = both(pair)
    said = "the jailer runs no file called fc: 'firecracker' has to be in the name"
    assert (facts.problem, refused) == (said, said)
