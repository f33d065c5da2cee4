"""Two VMs of a farm over one base: one is stopped and started, the other fills its disk."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from typing import Any

from lab.connection import LabError
from lab.machine import Machine
from lab.scenarios import Played

KEEPER, FILLER = "snap-a", "snap-b"
ROOM_MIB = 24  # of the one that is filled
MIB = 1024 * 1024
LIVE_S = 900.0
_BOOT_S = 300.0
_EXEC_S = 120.0
_TOLD_S = 240.0
_POLL_S = 2.0


def live_two_vms(lab: Machine) -> Played:
    """Lead both lives, one after the other, and delete both; LabError when one does not go on."""
    base = _digest(lab)
    # By QEMU: a test that goes on meanwhile has stand-ins for Firecracker, which cannot run a guest.
    small = "--image micro --vmm qemu --memory 128MiB --disk 64MiB"
    lab.run(
        f"banger vm create {KEEPER} {small} --system-disk 128MiB --no-wait\n"
        f"banger vm create {FILLER} {small} --system-disk {ROOM_MIB}MiB --quiet",
        deadline_s=_BOOT_S,
    )
    try:
        _until(lambda: _show(lab, KEEPER)["state"] == "running", f"{KEEPER} runs")
        found = {"keeps": _keeps(lab), "fills": _fills(lab)}
        ids = [_show(lab, name)["id"] for name in (KEEPER, FILLER)]
    finally:
        lab.try_run(f"banger vm delete {KEEPER} {FILLER} --quiet", deadline_s=_BOOT_S)
    there = lab.run("dmsetup ls; losetup --list --noheadings --output BACK-FILE")
    return found | {"left": [one for one in ids if one in there], "base is unchanged": _digest(lab) == base}


def _keeps(lab: Machine) -> dict[str, Any]:
    """Change something in a guest, and look for it after a stop and a start, and in the other guest."""
    used, room = _sectors(lab, KEEPER)
    shown = _show(lab, KEEPER)
    _inside(lab, KEEPER, "echo mine > /etc/kept && sync")
    in_the_other = lab.try_run(f"banger vm exec {FILLER} -- cat /etc/kept", deadline_s=_EXEC_S).code
    lab.run(f"banger vm stop {KEEPER} --quiet", deadline_s=_BOOT_S)
    attached = shown["id"] in lab.run("dmsetup ls")
    lab.run(f"banger vm start {KEEPER} --quiet", deadline_s=_BOOT_S)
    return {
        "percent": 100 * used / room,
        "told": shown["overlay"]["percent"],
        "shown": lab.run(f"banger vm show {KEEPER}"),
        "in the other": in_the_other == 0,
        "attached while stopped": attached,
        "kept": _inside(lab, KEEPER, "cat /etc/kept"),
    }


def _fills(lab: Machine) -> dict[str, Any]:
    """Fill a disk past the alarm, then wholly; kill the VM, give it more, and start it again."""
    used, room = _sectors(lab, FILLER)
    first = (room * 85 // 100 - used) // 2048
    _inside(lab, FILLER, f"dd if=/dev/urandom of=/fill bs=1M count={first} 2>/dev/null && sync")
    _until(lambda: "filling" in _kinds(lab, FILLER), "the alarm")
    alarmed = _kinds(lab, FILLER)
    # It fails in the guest, or hangs with it: nobody waits for that, for what counts is what the farm says.
    _inside(lab, FILLER, "(cat /fill > /more; sync) > /dev/null 2>&1 &")
    _until(lambda: _show(lab, FILLER)["state"] == "error", "the VM is in error")
    ended, kinds = _show(lab, FILLER)["error"], _kinds(lab, FILLER)
    lab.run(
        f"banger vm kill {FILLER} --quiet; banger vm set {FILLER} --system-disk 64MiB --quiet\n"
        f"banger vm start {FILLER} --quiet",
        deadline_s=_BOOT_S,
    )
    return {
        "full at the alarm": "full" in alarmed,
        "error": ended,
        "told": {kind: kinds.count(kind) for kind in ("filling", "full")},
        "lost": first * MIB - int(_inside(lab, FILLER, "stat -c %s /fill")),
    }


def _show(lab: Machine, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = lab.json(f"banger vm show {name} --json")
    return shown


def _inside(lab: Machine, name: str, script: str) -> str:
    return lab.run(f"banger vm exec {name} -- sh -c {shlex.quote(script)}", deadline_s=_EXEC_S)


def _kinds(lab: Machine, name: str) -> list[str]:
    """Return what happened to a VM, oldest first."""
    said = lab.run(f"banger events {name} --json")
    return [json.loads(line)["kind"] for line in said.splitlines()]


def _sectors(lab: Machine, name: str) -> tuple[int, int]:
    """Return how many sectors of a VM's overlay are used, and how many it has."""
    used, room = lab.run(f"dmsetup status banger-{_show(lab, name)['id']}").split()[3].split("/")
    return int(used), int(room)


def _digest(lab: Machine) -> str:
    return lab.run("sha256sum /var/lib/banger/images/*/rootfs.ext4", deadline_s=_EXEC_S)


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _TOLD_S
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"not within {_TOLD_S:g} s: {what}")
        time.sleep(_POLL_S)
