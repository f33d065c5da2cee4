"""Root's own stage on a real device-mapper, without a farm around it: run in the lab's host, by its Python.

Each scenario makes a host of its own beneath ``/var/lib/lab-snapshots`` and prints what it saw as JSON. A
worker that is killed is a fork of this process: what it has imported need not be imported again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from banger.contracts.errors import BangerError
from banger.contracts.policy import Policy
from banger.contracts.requests import AttachSystemDiskRequest, UndoRequest
from root_worker.host import RootHost, root_host
from root_worker.inventory import Stock
from root_worker.ops import dm_snapshot
from root_worker.stages import attach_system_disk

STATE = Path("/var/lib/lab-snapshots")
IMAGE = "a" * 12
WORKER = pwd.getpwnam("daemon")
MIB = 1024 * 1024
BASE_MIB = 16
_CHANGES = frozenset(
    {
        "open",
        "os.rename",
        "os.chmod",
        "os.chown",
        "os.truncate",
        "subprocess.Popen",
        "fcntl.ioctl",
        "fcntl.flock",
    }
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def vm(number: int) -> str:
    return f"{number:012x}"


def request(number: int, generation: int, room_mib: int) -> AttachSystemDiskRequest:
    return AttachSystemDiskRequest(
        vm_id=vm(number), generation=generation, slot=2 + number, image=IMAGE, overlay_mib=room_mib
    )


def attach(host: RootHost, number: int = 0, generation: int = 1, room_mib: int = 8) -> Path:
    attach_system_disk.do(request(number, generation, room_mib), host)
    return dm_snapshot.path(vm(number))


def detach(host: RootHost, number: int = 0, generation: int = 1) -> None:
    attach_system_disk.undo(UndoRequest(vm_id=vm(number), generation=generation), host)


def refusal(act: Callable[[], object]) -> str:
    """Return what an error of ours says, empty where there is none."""
    try:
        act()
    except BangerError as error:
        return f"{error.brief}\n{error.details}\n{error.resolution}"
    return ""


@contextlib.contextmanager
def a_host(vms: int = 1, room_mib: int = 8) -> Iterator[RootHost]:
    """Give a host with an image, and for each VM what its worker leaves for root."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(mode=0o711, exist_ok=True)
    policy = Policy.model_validate(
        {
            "host": "lab",
            "state_dir": STATE,
            "run_dir": STATE / "run",
            "uid_base": 700_000,
            "worker_user": WORKER.pw_name,
        }
    )
    paths = policy.paths
    paths.image(IMAGE).mkdir(parents=True)
    paths.rootfs(IMAGE).write_bytes(os.urandom(BASE_MIB * MIB))
    paths.rootfs(IMAGE).chmod(0o444)
    for number in range(vms):
        new_overlay(paths.overlay(vm(number)), room_mib)
    try:
        yield root_host(policy)
    finally:
        shutil.rmtree(STATE, ignore_errors=True)


def new_overlay(overlay: Path, room_mib: int) -> None:
    overlay.parent.mkdir(parents=True, exist_ok=True)
    overlay.unlink(missing_ok=True)
    overlay.touch()
    os.truncate(overlay, room_mib * MIB)
    os.chown(overlay, WORKER.pw_uid, WORKER.pw_gid)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write(node: Path, content: bytes, at: int = 0) -> str:
    """Write through to the device; return why that failed, empty where it did not."""
    try:
        fd = os.open(node, os.O_WRONLY)
        try:
            os.pwrite(fd, content, at)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return str(error.strerror)
    return ""


def read(node: Path, length: int, at: int = 0) -> bytes:
    subprocess.run(["/usr/sbin/blockdev", "--flushbufs", node], check=True)
    with node.open("rb") as device:
        device.seek(at)
        return device.read(length)


def left() -> list[str]:
    """Return what there is of devices that are ours: nodes, snapshots, loops."""
    names = (file.read_text().strip() for file in Path("/sys/block").glob("dm-*/dm/name"))
    backing = (file.read_text().strip() for file in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [
        *(str(node) for node in Path("/dev/mapper").glob("banger-00000000*")),
        *(name for name in names if name.startswith("banger-00000000")),
        *(f"loop {file}" for file in backing if file.startswith(str(STATE))),
    ]


def overlay_told(host: RootHost, number: int = 0) -> dict[str, Any]:
    """Return how full root's inventory says that a VM's overlay is."""
    (found,) = (one for one in Stock(host, "f" * 12).take().vms if one.vm_id == vm(number))
    return found.overlay.model_dump() if found.overlay else {}


def known_to_udev(node: Path) -> list[str]:
    """Return what udev has read of a device, and its links."""
    device = f"/dev/dm-{os.minor(node.stat().st_rdev)}"
    subprocess.run(["/usr/bin/udevadm", "settle", "--timeout=30"], check=True)
    said = subprocess.run(["/usr/bin/udevadm", "info", device], check=True, capture_output=True, text=True)
    return [line for line in said.stdout.splitlines() if line.startswith(("E: ID_FS", "S: "))]


def ten() -> dict[str, Any]:
    """Ten VMs at once from one base, each with changes of its own."""
    with a_host(vms=10) as host:
        base = host.paths.rootfs(IMAGE)
        before = digest(base)
        threads = [threading.Thread(target=attach, args=(host, number)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        nodes = [dm_snapshot.path(vm(number)) for number in range(10)]
        failures = [write(node, bytes([number]) * MIB) for number, node in enumerate(nodes)]
        found = {
            "failures": failures,
            "apart": all(read(node, MIB) == bytes([number]) * MIB for number, node in enumerate(nodes)),
            "the rest is the base's": all(
                read(node, MIB, MIB) == base.read_bytes()[MIB : 2 * MIB] for node in nodes
            ),
            "nodes": [[node.stat().st_uid, oct(node.stat().st_mode & 0o7777)] for node in nodes],
            "loops": sum(one.startswith("loop") for one in left()),
            "udev": [line for node in nodes for line in known_to_udev(node)],
            "used": overlay_told(host, 9),
        }
        for number in range(10):
            detach(host, number)
        return found | {"left": left(), "base is unchanged": digest(base) == before}


def keeps() -> dict[str, Any]:
    """A stop and a start: what the guest wrote is there again; a do that comes twice changes nothing."""
    with a_host() as host:
        node = attach(host)
        write(node, b"kept" * 1024, 4 * MIB)
        attach(host)
        twice = read(node, 4, 4 * MIB)
        detach(host)
        detach(host)
        attach(host, generation=2)
        found = {"twice": twice.decode(), "again": read(node, 4, 4 * MIB).decode()}
        detach(host, generation=2)
        return found | {"left": left()}


def fills() -> dict[str, Any]:
    """An overlay that fills, overflows, is refused, is given more, and has lost nothing."""
    with a_host(room_mib=4) as host:
        node = attach(host, room_mib=4)
        for number in range(3):
            write(node, b"%d" % number * MIB, number * MIB)
        write(node, b"3" * (MIB // 2), 3 * MIB)
        filling = overlay_told(host)
        failed = ""
        for number in range(4, 15):
            if failed := write(node, b"x" * MIB, number * MIB):
                break
        found = {
            "filling": filling,
            "failed": failed,
            "full": overlay_told(host),
            "reads go on": read(node, 1, 0).decode(),
        }
        detach(host)
        found["refused"] = refusal(lambda: attach(host, generation=2, room_mib=4))
        found["left after the refusal"] = left()
        attach(host, generation=3, room_mib=16)
        found["grown"] = overlay_told(host)
        found["kept"] = [read(node, 1, number * MIB).decode() for number in range(3)]
        found["written again"] = write(node, b"y" * MIB, 14 * MIB)
        detach(host, generation=3)
        return found | {"left": left()}


def host_disk_is_full() -> dict[str, Any]:
    """The host's own disk is full: the kernel cannot keep the changes, and says so for ever after."""
    STATE.mkdir(exist_ok=True)
    subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={BASE_MIB + 10}m", "none", STATE], check=True
    )
    try:
        with a_host_on_this_disk() as host:
            node = attach(host)
            room = os.statvfs(STATE)
            with (STATE / "filler").open("wb") as filler:
                filler.write(bytes(room.f_bavail * room.f_frsize - MIB))
            failed = [write(node, b"x" * MIB, number * MIB) for number in range(6)]
            found = {"failed": [*filter(None, failed)][:1], "told": overlay_told(host)}
            (STATE / "filler").unlink()
            detach(host)
            found["refused"] = refusal(lambda: attach(host, generation=2))
            return found | {"left": left()}
    finally:
        subprocess.run(["/usr/bin/umount", STATE], check=True)


@contextlib.contextmanager
def a_host_on_this_disk() -> Iterator[RootHost]:
    with contextlib.ExitStack() as stack:
        rmtree = shutil.rmtree
        shutil.rmtree = lambda *_args, **_more: None  # type: ignore[assignment]  # a mount point stays
        stack.callback(setattr, shutil, "rmtree", rmtree)
        yield stack.enter_context(a_host())


def without_module() -> dict[str, Any]:
    """A kernel without snapshots: refused with a reason, and nothing is left."""
    barred = Path("/etc/modprobe.d/lab-no-snapshots.conf")
    barred.write_text("install dm-snapshot /bin/false\n")
    subprocess.run(["/usr/sbin/modprobe", "--remove", "dm-snapshot"], check=True)
    try:
        with a_host() as host:
            found = {"refused": refusal(lambda: attach(host)), "left": left()}
    finally:
        barred.unlink()
    with a_host() as host:
        attach(host)
        detach(host)
    return found


class Killed:
    """Kills this process before its Nth change to the world, or right after the Nth tool has been started."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._seen = 0
        self._execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def watch(self) -> None:
        sys.addaudithook(self._hook)
        killed = self

        def started(process: Any, *args: Any, **kwargs: Any) -> None:
            killed._execute(process, *args, **kwargs)
            killed.event()

        subprocess.Popen._execute_child = started  # type: ignore[attr-defined]

    def event(self) -> None:
        self._seen += 1
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hook(self, name: str, args: tuple[Any, ...]) -> None:
        if name in _CHANGES and not (
            name == "open" and not (isinstance(args[2], int) and args[2] & _WRITING)
        ):
            self.event()


def killed(act: Callable[[], object], at: int) -> bool:
    """Let a fork act until it is killed at that place; return whether it came so far."""
    pid = os.fork()
    if pid == 0:
        Killed(at).watch()
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def kills() -> dict[str, Any]:
    """A kill at each place of an attach and of a detach: what is left a do goes on with, an undo removes."""
    found: dict[str, Any] = {"attach": 0, "detach": 0, "wrong": []}
    with a_host() as host:

        def judge(what: str, at: int, *, again: bool) -> None:
            if again:
                node = attach(host)
                if not node.is_block_device() or node.stat().st_uid != 700_002:
                    found["wrong"].append([what, at, "do", left()])
            detach(host)
            subprocess.run(["/usr/bin/udevadm", "settle", "--timeout=30"], check=True)
            if left():
                found["wrong"].append([what, at, "undo", left()])

        for again in (False, True):
            at = 1
            while killed(lambda: attach(host), at):
                judge("attach", at, again=again)
                at += 1
            found["attach"] += at - 1
            judge("attach", at, again=again)
            at = 1
            while True:
                attach(host)
                if not killed(lambda: detach(host), at):
                    break
                judge("detach", at, again=again)
                at += 1
            found["detach"] += at - 1
    return found | {"left": left()}


SCENARIOS = {
    "without-module": without_module,  # the first: it cannot be taken away once a farm's VM uses it
    "ten": ten,
    "keeps": keeps,
    "fills": fills,
    "host-disk-is-full": host_disk_is_full,
    "kills": kills,
}


def main(names: list[str]) -> None:
    """Play the scenarios of these names, or all, each whatever became of the ones before."""
    found: dict[str, Any] = {}
    for name in names or SCENARIOS:
        try:
            found[name] = SCENARIOS[name]()
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
