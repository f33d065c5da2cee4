"""A VMM that a guest has taken over: what it sees, reaches and becomes. Nothing that it was not given."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disks import IMAGE, UID, VM, undo_request
from tiny_kernel import tiny_kernel
from vmm_host import eventually, install_kernel, log_of, pids, request, run, status_of, vmm_host, with_tap

from root_worker.host import RootHost
from root_worker.stages import launch
from root_worker.vmm import processes

pytestmark = pytest.mark.integration

# Each line is tried, and answers with what it returned or with the name of the error.
ATTEMPTS = {
    "read the accounts": "open('/etc/passwd').read() and 'done'",
    "find an image": "os.stat(image) and 'done'",
    "see processes": "os.stat('/proc/self') and 'done'",
    "see devices": "os.listdir('/sys') and 'done'",
    "write beside the system": "open('/var/tmp/' + name, 'w') and 'done'",
    "write into memory": "open('/dev/shm/' + name, 'w') and 'done'",
    "reach this host": "errno.errorcode[socket.socket().connect_ex(('127.0.0.1', 1))]",
    "find the host's System V queues": "answer(libc.msgget(4711, 0))",
    "have a user namespace": "answer(libc.unshare(0x10000000))",
}
ONLY_INSIDE = {
    "become root": "os.setuid(0)",
    "become another VM": f"os.setuid({UID + 1})",
    "write into the root directory": "open('/x', 'w')",
    "write beside its kernel": "open('/kernels/x', 'w')",
    "write beside the keeper": "open('/keeper/x', 'w')",
    "write beside the devices": "open('/dev/x', 'w')",
    "change root again": "os.chroot('/usr')",
    "list interfaces": "[name for _, name in socket.if_nameindex()]",
    "list the root directory": "sorted(os.listdir('/'))",
    "list the devices": "sorted(os.listdir('/dev'))",
    "hold a directory": "[fd for fd in range(3, 1024) if is_directory(fd)]",
}
PROBE = """
import ctypes, errno, json, os, socket, stat, sys
image, name, attempts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
def is_directory(fd):
    try:
        return stat.S_ISDIR(os.fstat(fd).st_mode)
    except OSError:
        return False
def answer(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
said = {}
for what, how in attempts.items():
    try:
        said[what] = eval(how)
    except OSError as error:
        said[what] = errno.errorcode[error.errno]
print(json.dumps(said), flush=True)
"""
NAME = f"banger-test-{os.getpid()}"


@pytest.fixture(scope="module")
def host() -> Iterator[RootHost]:
    with vmm_host() as made:
        yield made


@pytest.fixture
def image(host: RootHost) -> Path:
    path = host.paths.rootfs(IMAGE)
    path.touch()
    path.chmod(0o644)
    return path


@pytest.fixture
def queue() -> Iterator[None]:
    """A System V message queue of the host's that anybody may read."""
    made = subprocess.run(
        [sys.executable, "-c", "import ctypes; print(ctypes.CDLL(None).msgget(4711, 0o1666))"],
        capture_output=True,
        check=True,
    )
    yield
    subprocess.run(["ipcrm", "-q", made.stdout.strip()], check=True)


def probe(image: Path, attempts: dict[str, str]) -> tuple[str, ...]:
    return ("/usr/bin/python3", "-I", "-S", "-c", PROBE, str(image), NAME, json.dumps(attempts))


def answers(host: RootHost, image: Path, attempts: dict[str, str]) -> Any:
    """Return what the probe says as a VMM."""
    for path in host.paths.vm(VM).glob("serial.log*"):
        path.unlink()
    run(host, *probe(image, attempts))
    eventually(lambda: "[banger] the VMM exited" in log_of(host))
    return json.loads(log_of(host).splitlines()[0])


@pytest.mark.usefixtures("queue")
def test_a_vmm_reaches_nothing_that_its_uid_alone_would(host, image):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # of the test's own network
    try:
        outside = subprocess.run(probe(image, ATTEMPTS), user=UID, group=UID, capture_output=True, check=True)
    finally:
        for directory in ("/var/tmp", "/dev/shm"):
            Path(directory, NAME).unlink(missing_ok=True)
    expected = dict.fromkeys(ATTEMPTS, "done") | {"reach this host": "ECONNREFUSED"}
    assert json.loads(outside.stdout) == expected, (
        "each attempt works where nothing but the uid is in its way"
    )

    assert answers(host, image, ATTEMPTS) == dict.fromkeys(ATTEMPTS, "ENOENT") | {
        "reach this host": "ENETUNREACH",
        "have a user namespace": "EPERM",
    }


def test_a_vmm_becomes_nobody_and_writes_nowhere(host, image):
    said = answers(host, image, ONLY_INSIDE)
    lists = {what: value for what, value in said.items() if isinstance(value, list)}
    assert lists == {
        "list interfaces": ["lo"],
        "list the root directory": sorted(path.name for path in host.paths.vmm_root.iterdir()),
        "list the devices": sorted(path.name for path in (host.paths.vmm_root / "dev").iterdir()),
        "hold a directory": [],
    }
    assert set(lists["list the devices"]) <= {"null", "urandom", "kvm"}
    errors = {what: value for what, value in said.items() if what not in lists}
    assert set(errors.values()) == {errno.errorcode[errno.EPERM], errno.errorcode[errno.EROFS]}, errors


def test_a_vmm_and_its_keeper_have_no_capability_and_get_none(host):
    run(host, "/usr/bin/sleep", "60")
    for pid in pids():
        assert pid
        status = status_of(pid)
        assert {int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert (status["NoNewPrivs"], status["Groups"]) == ("1", "")
        assert Path(f"/proc/{pid}/root").readlink() == host.paths.vmm_root
        for namespace in ("net", "ipc", "uts"):
            ours = Path(f"/proc/self/ns/{namespace}").stat().st_ino
            assert Path(f"/proc/{pid}/ns/{namespace}").stat().st_ino != ours
    processes.end(UID, "KILL")


TRACE = {"trace its keeper": "answer(libc.ptrace(0x4206, os.getppid(), 0, 0))"}
STARTS = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"


def test_a_vmm_cannot_act_as_its_keeper_which_no_filter_confines(host, image):
    parent = ("/usr/bin/python3", "-I", "-S", "-c", STARTS, *probe(image, TRACE))
    outside = subprocess.run(parent, user=UID, group=UID, capture_output=True, check=True)
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")  # Debian's kernel leaves it at 0
    if not yama.exists() or yama.read_text() == "0\n":
        assert json.loads(outside.stdout) == {"trace its keeper": "done"}
    assert answers(host, image, TRACE) == {"trace its keeper": "EPERM"}


HIDES = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
libc.prctl(4, 0)  # its directory in /proc is root's from now on
libc.prctl(15, b"kworker/0:0", 0, 0, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def test_a_vmm_that_hides_and_leaves_a_daemon_is_killed_whole(host, monkeypatch):
    monkeypatch.setattr(processes, "SIGNAL_DEADLINE_S", 0.1)
    run(host, "/usr/bin/python3", "-I", "-S", "-c", HIDES, "not-banger")

    def seen() -> int:
        with processes.held(UID) as alive:
            return len(alive)

    eventually(lambda: seen() == 3)  # the keeper, the VMM, the daemon
    processes.end(UID, "TERM")
    assert seen() == 0


@pytest.mark.parametrize("uid", [65534, UID + 1], ids=["stranger", "another-vm"])
def test_a_process_that_calls_itself_a_vms_is_not_killed_for_it(host, uid):
    """No request names a process, and nothing that root keeps does: there is no number to be recycled."""
    with_tap(host)
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-S", "-c", code, "-name", f"banger-{VM}"],
        user=uid,
        group=uid,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as bystander:
        assert bystander.stdout
        bystander.stdout.readline()
        launch.do(request(), host)
        assert '"pid"' not in (host.paths.registry / f"{VM}.json").read_text()
        launch.undo(undo_request(), host)
        assert pids() == (None, None)
        assert bystander.poll() is None
        bystander.kill()


def test_a_guest_that_floods_its_console_fills_no_disk(host):
    install_kernel(host, tiny_kernel("on and on\n" * 100, end="again"))
    with_tap(host)
    newer = host.paths.serial_log(VM)
    older = newer.with_name("serial.log.1")
    for mib in (8, 1):
        bounded = host._replace(policy=host.policy.model_copy(update={"serial_log_mib": mib}))
        launch.do(request(), bounded)
        if mib > 1:
            eventually(lambda: newer.stat().st_size > 2**20)  # what another would have filled by now
        else:
            eventually(lambda: newer.stat().st_size < 2**20)  # what was more than that is turned over
            os.truncate(older, 0)
            eventually(lambda: older.stat().st_size > 0)  # turned over once more
            assert newer.stat().st_size + older.stat().st_size <= 2**20
        launch.undo(undo_request(), host)
