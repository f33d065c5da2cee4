"""The jail under systemd's confinement of the root worker, by stand-ins for Firecracker and its jailer.

They make the system calls of the real ones. There is no guest, so a VM comes as far as its readiness.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from banger.contracts.names import unit_name
from lab.farm import CALL_S
from lab.machine import Machine

pytestmark = pytest.mark.lab

STAND_INS = Path(__file__).parents[1] / "integration"
VM = "jailed"


@pytest.fixture
def host(lab: Machine, tmp_path: Path) -> Iterator[Machine]:
    """The lab's host with the stand-ins in the pair's place."""
    if lab.try_run("ls /usr/local/bin/firecracker").code == 0:
        pytest.skip("the real ones are installed")
    for name in ("firecracker", "jailer"):
        program = tmp_path / name
        program.write_text(f"#!/usr/bin/python3 -IS\n{(STAND_INS / f'fake_{name}.py').read_text()}")
        lab.put(program, f"/usr/local/bin/{name}", mode=0o755)
    try:
        yield lab
    finally:
        lab.try_run(f"banger vm delete {VM}", deadline_s=120)
        lab.run("rm -f /usr/local/bin/firecracker /usr/local/bin/jailer")


# Waits until the VM's unit has the VMM and the keeper alone, each where it stays. Says of both how many words
# their PIDs are and what they see, and then the unit's limit.
LOOK = """
unit=/sys/fs/cgroup/banger.slice/{unit}
seen() {{
    for pid in $(cat $unit/cgroup.procs); do
        echo "$(grep NSpid /proc/$pid/status | wc -w) $(ls -m --width=0 /proc/$pid/root)"
    done 2>/dev/null | sort --reverse
}}
for second in $(seq 120); do
    found=$(seen || true)
    [[ $found == "3 "*vda*$'\\n'"2 "*keeper* && $(wc --lines <<<"$found") == 2 ]] && break
    sleep 1
done
echo "$found"
cat $unit/memory.max
"""


# Firecracker copies a processor's answers about its caches (CPUID 0x8000001d), until one is of type 0.
CACHES = """
import os
with open("/dev/cpu/0/cpuid", "rb") as answers:
    print(*(os.pread(answers.fileno(), 16, (which << 32) + 0x8000001D)[0] & 0x1F for which in range(5)))
"""


def test_the_hosts_processor_tells_of_its_caches_as_firecracker_asks(lab: Machine) -> None:
    assert lab.run(f"modprobe cpuid; python3 -c '{CACHES}'") == "1 2 3 3 0\n", "data, instructions, L2, L3"


def test_the_jailer_may_do_all_that_it_does(host: Machine) -> None:
    asked = f"BANGER_READY_TIMEOUT_S=15 banger vm create {VM} --vmm firecracker --no-wait --json"
    accepted = host.json(asked, deadline_s=CALL_S)
    seen = host.run(LOOK.format(unit=unit_name(accepted["id"])), deadline_s=CALL_S)
    assert len(seen.splitlines()) == 3, seen
    vmm, keeper, memory = seen.splitlines()
    assert vmm.startswith("3 "), "Firecracker is in a PID namespace of its own"
    assert {"firecracker", "kernel", "initrd", "vda", "vdb", "dev", "run"} <= set(vmm[2:].split(", "))
    assert keeper.startswith("2 ")
    assert "keeper" in keeper
    assert int(memory) > 256 * 2**20
    assert failed_stage(host, accepted["job"]) == "wait_ready", "all before it has succeeded"
    assert accepted["id"] not in host.run("ls /run/banger/jails; cat /proc/mounts")


def failed_stage(host: Machine, job: str) -> str:
    """Return which stage of a job failed, once all before it is undone."""
    deadline = time.monotonic() + CALL_S
    while (shown := host.json(f"banger job show {job} --json", deadline_s=CALL_S))["state"] != "failed":
        assert shown["state"] in ("running", "unwinding"), shown
        assert time.monotonic() < deadline, shown
        time.sleep(1)
    return str(shown["stage"])
