"""The life of the document's first VM on KVM, as the farm's owner leads it."""

from __future__ import annotations

import re

import pytest

from lab.farm import CALL_S, delete, guest, records
from lab.machine import Machine
from lab.recipe import OWNER
from lab.steps import blocks

pytestmark = pytest.mark.lab

NAME = "dev"
STAGES = {
    "reserve",
    "overlay",
    "attach_system_disk",
    "patch_rootfs",
    "work_disk",
    "tap",
    "launch",
    "wait_ready",
}


CREATE, EXECUTE, DELETE = blocks("A first VM")[0].splitlines()


@pytest.fixture(scope="module")
def dev(lab: Machine):
    """The document's first VM, which runs."""
    lab.run(CREATE, user=OWNER, deadline_s=CALL_S)
    record = records(lab)[NAME]
    yield record
    if NAME in records(lab):
        delete(lab, NAME)


def test_the_document_s_command_runs_in_it(lab: Machine, dev) -> None:
    assert lab.run(EXECUTE, user=OWNER, deadline_s=CALL_S).strip().endswith("amd64")


def test_a_vm_is_created_and_runs_on_kvm(lab: Machine, dev) -> None:
    assert dev["state"] == "running"
    assert guest(lab, NAME, "echo it is $(hostname)").strip() == f"it is {NAME}"
    assert re.search(r"qemu-system-x86_64.* -accel kvm", lab.run("pgrep --list-full qemu-system-x86"))


def test_its_system_disk_is_a_snapshot(lab: Machine, dev) -> None:
    table = lab.run(f"dmsetup table banger-{dev['id']}")
    assert re.match(r"0 \d+ snapshot 7:\d+ 7:\d+ PO? 8", table), table


def test_its_timeline_tells_every_stage(lab: Machine, dev) -> None:
    told = lab.run(f"banger vm show {NAME} --timeline", user=OWNER, deadline_s=CALL_S)
    done = re.findall(r"^(\w+) .* ok$", told, re.MULTILINE)
    assert set(done) >= STAGES, told


def test_a_commands_end_is_exec_s_own(lab: Machine, dev) -> None:
    ended = lab.try_run(
        f"banger vm exec {NAME} -- sh -c 'echo out; echo err >&2; exit 42'", user=OWNER, deadline_s=CALL_S
    )
    assert (ended.code, ended.out.strip(), ended.err.strip()) == (42, "out", "err")


def test_a_deleted_vm_leaves_nothing(lab: Machine, dev) -> None:
    lab.run(DELETE, user=OWNER, deadline_s=CALL_S)
    left = lab.run(
        "dmsetup ls | grep banger- || true; losetup --list --noheadings; ip -o link | grep bgr- || true\n"
        "pgrep -a qemu-system || true; ls /var/lib/banger/vms /run/banger/jails\n"
        "systemctl list-units --all --plain --no-legend 'banger-vm-*'"
    )
    assert dev["id"] not in left
    assert NAME not in records(lab)
