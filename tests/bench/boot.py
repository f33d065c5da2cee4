"""Number 1: from asking for a VM to its first SSH answer, against starting the same QEMU by hand."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from banger.contracts import qemu
from banger.contracts.requests import LaunchRequest
from banger.events import Event
from root_worker.ops import vm_drives
from root_worker.ops.accelerator import choose_accelerator
from root_worker.ops.tap import open_tap
from root_worker.vmm.jail import listen_qmp, locked, remove
from tests.bench.in_a_row import InARow
from tests.bench.own_farm import Bench
from tests.bench.report import Line, spread

_ROUNDS = 5
_TARGET = 1.10


def measure(bench: Bench) -> list[Line]:
    """Boot through the farm and by hand in turn, after one of each that is not counted."""
    farm_ms, hand_ms = [], []
    for number in range(_ROUNDS + 1):
        by_farm, by_hand = _through_the_farm(bench, number), _by_hand(bench)
        if number:
            farm_ms.append(by_farm)
            hand_ms.append(by_hand)
    ratio = median(farm_ms) / median(hand_ms)
    return [
        Line(
            "1  create to first SSH answer, micro",
            spread(farm_ms),
            f"QEMU by hand {spread(hand_ms)}",
            ratio,
            f"ratio <= {_TARGET:.2f}",
            ratio <= _TARGET,
        )
    ]


def _through_the_farm(bench: Bench, number: int) -> float:
    ended: list[float] = []

    def note(event: Event) -> None:
        if (event.stage, event.kind) == ("wait_ready", "finished"):
            ended.append(time.perf_counter())

    started = time.perf_counter()
    record = bench.farm.create(f"boot-{number}", image="micro", on_event=note)
    bench.farm.delete(record.id)
    return (ended[0] - started) * 1000


def _by_hand(bench: Bench) -> float:
    """Start the clock when everything that QEMU is given lies ready."""
    row = bench.row
    steps = row.plan(bench.images["micro"])
    prepared = [call for stage, call in steps.items() if stage not in ("launch", "wait_ready")]
    try:
        for call in prepared:
            row.do(call)
        launch = steps["launch"].parse_request()
        assert isinstance(launch, LaunchRequest)
        with _machine(row, launch) as machine:
            started = time.perf_counter()
            with _qemu(machine, row.host.paths.serial_log(launch.vm_id)):
                row.do(steps["wait_ready"])
                return (time.perf_counter() - started) * 1000
    finally:
        for call in reversed(prepared):
            row.undo(call)


@contextmanager
def _machine(row: InARow, request: LaunchRequest) -> Iterator[qemu.Machine]:
    """Open what the VMM is given, as the launch stage does."""
    host, slot = row.host, row.host.policy.slot(request.slot)
    kernel = host.paths.kernel(request.kernel)
    with ExitStack() as stack:
        jail = stack.enter_context(locked(host.paths, request.vm_id))
        stack.callback(remove, jail)
        tap_fd = open_tap(request.vm_id)
        stack.callback(os.close, tap_fd)
        yield qemu.Machine(
            vm_id=request.vm_id,
            accelerator=choose_accelerator(host).accelerator,
            tsc_khz=qemu.tsc_khz(Path("/proc/cpuinfo").read_text()),
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            kernel=kernel / "vmlinux",
            initrd=kernel / "initrd.img",
            mac=slot.mac,
            drives=stack.enter_context(vm_drives.opened(host, request.vm_id, slot.uid)),
            tap_fd=tap_fd,
            qmp_fd=stack.enter_context(listen_qmp(jail)).fileno(),
        )


@contextmanager
def _qemu(machine: qemu.Machine, console: Path) -> Iterator[None]:
    with (
        console.open("wb") as sink,
        subprocess.Popen(
            qemu.argv(machine), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=machine.fds
        ) as process,
    ):
        try:
            yield
        finally:
            process.kill()
