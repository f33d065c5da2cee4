"""What tests ask of the farm on the lab's host, with few calls of ``banger``: each takes seconds there."""

from __future__ import annotations

import json
import time
from typing import Any

from lab.connection import LabError
from lab.machine import Machine
from lab.recipe import OWNER

WORKERS = ("banger-worker", "banger-root-worker")
CALL_S = 300.0  # for one call of banger: seconds, but for a host that others keep busy
_READY_S = 300.0
_POLL_S = 1.0


def wait_for_workers(machine: Machine, deadline_s: float = _READY_S) -> None:
    """Wait until both workers, as systemd started them last, have said that they are ready."""
    script = "\n".join(
        f"journalctl --quiet --output=cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID {unit})"
        " | grep 'ready\\.' >/dev/null"
        for unit in WORKERS
    )
    deadline = time.monotonic() + deadline_s
    while machine.try_run(script).code:
        if time.monotonic() > deadline:
            said = machine.try_run(f"systemctl status --no-pager {' '.join(WORKERS)}").out
            raise LabError(f"the workers are not ready after {deadline_s:g} s\n{said}")
        time.sleep(_POLL_S)


def create(machine: Machine, name: str, *options: str, deadline_s: float = CALL_S) -> dict[str, Any]:
    """Create a VM of the image micro as the farm's owner, and return its record."""
    words = f"banger vm create {name} --image micro --memory 128MiB {' '.join(options)} --json"
    record: dict[str, Any] = json.loads(machine.run(words, deadline_s=deadline_s, user=OWNER))
    return record


def wait_until_running(machine: Machine, name: str, deadline_s: float = CALL_S) -> dict[str, Any]:
    """Wait until a VM that was created without waiting runs, and return its record."""
    deadline = time.monotonic() + deadline_s
    while (record := records(machine)[name])["state"] != "running":
        if record["state"] != "creating" or time.monotonic() > deadline:
            raise LabError(f"{name} is {record['state']}: {record['error']}")
        time.sleep(_POLL_S)
    return record


def guest(machine: Machine, name: str, script: str, *, deadline_s: float = CALL_S) -> str:
    """Run a shell script in a guest as the farm's owner, and return its stdout."""
    return machine.run(f"banger vm ssh {name}", stdin=script.encode(), deadline_s=deadline_s, user=OWNER)


def boot_id(machine: Machine, name: str) -> str:
    """Return a guest's own name for its boot."""
    return guest(machine, name, "cat /proc/sys/kernel/random/boot_id").strip()


def found(machine: Machine, name: str) -> str:
    """Return the address that the host's programs find for a VM's name, by whichever way they ask."""
    return machine.try_run(f"getent ahostsv4 {name}.vm | awk '{{ print $1; exit }}'").out.strip()


def delete(machine: Machine, *names: str, deadline_s: float = CALL_S) -> None:
    """Delete VMs."""
    machine.run(f"banger vm delete {' '.join(names)}", deadline_s=deadline_s, user=OWNER)


def records(machine: Machine) -> dict[str, dict[str, Any]]:
    """Return the records of all VMs by name."""
    return {record["name"]: record for record in machine.json("banger vm list --json", deadline_s=CALL_S)}
