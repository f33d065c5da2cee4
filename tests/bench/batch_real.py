"""Number 6: jobs of ``true`` in guests, through ``banger batch run``, and by a plain shell script.

The script (``by_hand.sh``) starts the same QEMU command lines on clones of the same disks, as many at once.
It is spared what the farm does for each VM anew: taps are made, and guests' files written, beforehand.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory

from banger.contracts import linux, qemu
from banger.contracts.qemu import Drive
from banger.contracts.requests import LaunchRequest
from banger.images.manifest import ImageManifest
from banger.shell import find_tool, run
from banger.ssh import ssh_argv
from root_worker.ops.accelerator import choose_accelerator
from root_worker.vmm.jail import listen_qmp, locked, remove
from tests.bench.command_line import BANGER
from tests.bench.images import clone
from tests.bench.in_a_row import FIRST_SLOT, InARow
from tests.bench.own_farm import Bench, row_beside
from tests.bench.report import Line

JOBS = 40
_PARALLEL = 4
_TARGET = 1.15
_GUEST_S = 60  # far more than a guest takes on a machine that is busy
_DRIVES = (90, 91)  # what the script opens system and work disk as; far above all that it inherits
_SCRIPT = Path(__file__).with_name("by_hand.sh")
_PREPARED = ("admit", "overlay", "attach_system_disk", "patch_rootfs", "work_disk")
_BRIDGE = "by-hand"
_NETWORK = IPv4Network("172.16.1.0/24")
_IP_S = 10


def measure(bench: Bench, jobs: int = JOBS) -> list[Line]:
    """Run so many jobs both ways, after one of each that is not counted."""
    settings = bench.farm.settings
    row = row_beside(settings.model_copy(update={"network": _NETWORK}), settings.state_dir.parent / "by-hand")
    for count in (1, jobs):
        hand_s = _by_hand(row, bench.images["micro"], count)
        bench.say(f"  {count} by hand: {hand_s:.1f} s")
        farm_s = _by_batch(bench, count)
        bench.say(f"  {count} by a batch: {farm_s:.1f} s")
    ratio = farm_s / hand_s
    return [
        Line(
            f"6  batch of {jobs} guests, {_PARALLEL} at once",
            f"{farm_s:.1f} s",
            f"{hand_s:.1f} s by a script with xargs -P {_PARALLEL}",
            ratio,
            f"ratio <= {_TARGET:.2f}",
            ratio <= _TARGET,
        )
    ]


def _by_batch(bench: Bench, jobs: int) -> float:
    limits = ("--count", str(jobs), "--max-parallel", str(_PARALLEL))
    started = time.perf_counter()
    subprocess.run(
        (BANGER, "batch", "run", "--image", "micro", *limits, "--", "true"),
        env=bench.environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


def _by_hand(row: InARow, image: ImageManifest, jobs: int) -> float:
    with (
        TemporaryDirectory(prefix="by-hand-", dir=row.host.paths.state) as directory,
        ExitStack() as stack,
    ):
        ground, inherited = Path(directory), list[int]()
        stack.enter_context(_bridge(_NETWORK))
        for number in range(_PARALLEL):
            prepared = _prepared(row, image, number, ground / str(number))
            inherited += stack.enter_context(prepared)
        return _run_script((str(_SCRIPT), str(jobs), str(_PARALLEL), str(ground)), inherited, jobs * _GUEST_S)


def _run_script(argv: Sequence[str], inherited: Sequence[int], deadline_s: float) -> float:
    """Return how long it took, in seconds; what it started ends with it, come what may."""
    started = time.perf_counter()
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, pass_fds=inherited, start_new_session=True
    ) as process:
        try:
            code = process.wait(deadline_s)
            took_s = time.perf_counter() - started
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, f"the script ended with {code}"
    return took_s


@contextmanager
def _prepared(row: InARow, image: ImageManifest, number: int, directory: Path) -> Iterator[Sequence[int]]:
    """Prepare what the script needs for one VM at a time; yield the descriptors that its QEMU inherits."""
    steps = row.plan(image, FIRST_SLOT + number)
    request = steps["launch"].parse_request()
    assert isinstance(request, LaunchRequest)
    paths, slot = row.host.paths, row.host.policy.slot(request.slot)
    with ExitStack() as stack:
        for stage in _PREPARED:
            row.do(steps[stage])
            stack.callback(partial(row.undo, steps[stage]))
        jail = stack.enter_context(locked(paths, request.vm_id))
        stack.callback(remove, jail)
        tap_fd = stack.enter_context(_tap(f"by-hand-{number}"))
        # Asked for, it is asked for once a second: what the farm's guests are spared, these are too.
        neighbour = ("neighbour", "replace", str(slot.address), "lladdr", slot.mac, "dev", _BRIDGE)
        run((find_tool("ip"), *neighbour, "nud", "permanent"), deadline_s=_IP_S)
        listener = stack.enter_context(listen_qmp(jail))
        kernel = paths.kernel(request.kernel)
        machine = qemu.machine(
            request,
            slot.mac,
            choose_accelerator(row.host).accelerator,
            Path("/proc/cpuinfo").read_text(),
            tuple(Drive(fd, block=False) for fd in _DRIVES),
            tap_fd,
            listener.fileno(),
        )._replace(kernel=kernel / "vmlinux", initrd=kernel / "initrd.img")
        directory.mkdir()
        for disk, name in ((paths.overlay, "system.img"), (paths.work_disk, "work.ext4")):
            clone(disk(request.vm_id), directory / name)
        address = str(slot.address)
        _write_command(directory / "qemu", qemu.argv(machine))
        _write_command(directory / "ssh", ssh_argv(paths, request.vm_id, address, ("true",), dial_s=10))
        (directory / "address").write_text(address)
        yield tap_fd, listener.fileno()


@contextmanager
def _bridge(network: IPv4Network) -> Iterator[None]:
    """Have a bridge like the farm's, on which its reconcile does not look for what nobody knows."""
    run((find_tool("ip"), "link", "add", _BRIDGE, "type", "bridge"), deadline_s=_IP_S)
    try:
        address = f"{network[1]}/{network.prefixlen}"
        run((find_tool("ip"), "address", "add", address, "dev", _BRIDGE), deadline_s=_IP_S)
        run((find_tool("ip"), "link", "set", _BRIDGE, "up"), deadline_s=_IP_S)
        yield
    finally:
        run((find_tool("ip"), "link", "delete", _BRIDGE), deadline_s=_IP_S)


@contextmanager
def _tap(name: str) -> Iterator[int]:
    """Yield a descriptor of a tap on that bridge, which is gone with it."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        mode = linux.IFF_TAP | linux.IFF_NO_PI | linux.IFF_VNET_HDR
        fcntl.ioctl(fd, linux.TUNSETIFF, linux.tun_request(name, mode))
        run((find_tool("ip"), "link", "set", name, "master", _BRIDGE, "up"), deadline_s=_IP_S)
        yield fd
    finally:
        os.close(fd)


def _write_command(path: Path, argv: Sequence[str]) -> None:
    path.write_text(f"exec {shlex.join(argv)}\n")
