"""The SSH stages against a real sshd that stands in for a guest, alone in a network namespace."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

import pytest
from netns import private_network
from pyroute2 import IPRoute
from stand_in import ADDRESS, SSHD, VM, StandIn, make_key

from banger.contracts.errors import CancelledError, GuestUnreachableError, StageFailedError, UnavailableError
from banger.contracts.journal import CANCEL
from banger.contracts.names import HostPaths
from banger.contracts.requests import ExecRequest, GuestShutdownRequest, WaitReadyRequest
from banger.contracts.runner import HandOverError
from workers import guest_commands
from workers.host import StageContext, WorkHost
from workers.stages import exec as exec_stage
from workers.stages import guest_shutdown, wait_ready

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SSHD.exists(), reason="needs /usr/sbin/sshd (Debian's openssh-server)"),
]

DEADLINE_S = 10.0


@dataclass
class Output:
    """What a stage emitted, each stream joined."""

    stdout: bytes = b""
    stderr: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def emit(self, stream: Literal["stdout", "stderr"], chunk: bytes) -> None:
        self.chunks.append(chunk)
        setattr(self, stream, getattr(self, stream) + chunk)


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def ctx(paths: HostPaths) -> StageContext:
    host = WorkHost(name="here", paths=paths, network=IPv4Network("172.16.0.0/24"), uid_base=300_000)
    return StageContext(host=host)


@pytest.fixture
def stand_in(paths: HostPaths, tmp_path: Path) -> Iterator[StandIn]:
    with private_network():
        with IPRoute() as ip:
            ip.link("set", index=1, state="up")
        guest = StandIn(paths, tmp_path)
        yield guest
        guest.stop()


@pytest.fixture
def guest(stand_in: StandIn, ctx: StageContext) -> StandIn:
    stand_in.start()
    wait_ready.do(ready(), ctx)
    return stand_in


def ready(timeout_s: float = DEADLINE_S) -> WaitReadyRequest:
    return WaitReadyRequest(vm_id=VM, generation=1, address=ADDRESS, timeout_s=timeout_s)


def run_in_guest(ctx: StageContext, *argv: str, timeout_s: float = DEADLINE_S) -> tuple[int, Output]:
    output = Output()
    request = ExecRequest(vm_id=VM, generation=1, address=ADDRESS, argv=argv, timeout_s=timeout_s)
    result = exec_stage.do(request, replace(ctx, emit=output.emit))
    return result["exit_code"], output


# --- exec ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_guests_exit_code_comes_back(guest: StandIn, ctx: StageContext, code: int) -> None:
    assert run_in_guest(ctx, "sh", "-c", f"exit {code}")[0] == code


def test_a_command_killed_by_a_signal_ends_as_in_a_shell(guest: StandIn, ctx: StageContext) -> None:
    assert run_in_guest(ctx, "sh", "-c", "kill -KILL $$")[0] == 128 + 9


def test_a_shell_killed_around_the_command_is_no_lost_connection(guest: StandIn, ctx: StageContext) -> None:
    assert run_in_guest(ctx, "sh", "-c", "kill -KILL $PPID")[0] == 255


def test_words_arrive_as_they_were_given(guest: StandIn, ctx: StageContext) -> None:
    words = ["two words", "it's", '"quoted"', "line\nbreak", "$HOME", "`id`", "*", "", "-n", "a;b", "\\", "é"]
    print_each = "import sys; sys.stdout.buffer.write('\\0'.join(sys.argv[1:]).encode())"
    code, output = run_in_guest(ctx, sys.executable, "-c", print_each, *words)
    assert code == 0
    assert output.stdout.decode().split("\0") == words


def test_streams_come_apart_and_byte_for_byte(guest: StandIn, ctx: StageContext) -> None:
    code, output = run_in_guest(ctx, "sh", "-c", r"printf '\377\0out'; printf '\376err' >&2; exit 3")
    assert (code, output.stdout, output.stderr) == (3, b"\xff\0out", b"\xfeerr")


def test_a_megabyte_comes_whole(guest: StandIn, ctx: StageContext) -> None:
    _, output = run_in_guest(ctx, "head", "-c", "1048576", "/dev/zero")
    assert output.stdout == bytes(1048576)


def test_output_comes_while_the_command_runs(guest: StandIn, ctx: StageContext, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    request = ExecRequest(
        vm_id=VM,
        generation=1,
        address=ADDRESS,
        argv=("sh", "-c", f"echo first; until test -e {gate}; do sleep 0.01; done; echo second"),
        timeout_s=DEADLINE_S,
    )

    def open_the_gate(_: str, chunk: bytes) -> None:
        if chunk == b"first\n":
            gate.touch()

    assert exec_stage.do(request, replace(ctx, emit=open_the_gate)) == {"exit_code": 0}


def test_a_command_that_takes_too_long_is_cut_off(guest: StandIn, ctx: StageContext) -> None:
    with pytest.raises(StageFailedError, match=r"did not end within 0\.5 s"):
        run_in_guest(ctx, "sleep", "60", timeout_s=0.5)


def test_a_cancelled_job_ends_its_command_soon(guest: StandIn, ctx: StageContext) -> None:
    cancelled = threading.Event()
    started = time.monotonic()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(CancelledError):
        run_in_guest(replace(ctx, wish=lambda: CANCEL * cancelled.is_set()), "sleep", "60")
    assert time.monotonic() - started < DEADLINE_S


def test_a_stopping_worker_lets_its_commands_go(guest: StandIn, ctx: StageContext) -> None:
    ctx.host.stopping.set()
    with pytest.raises(UnavailableError):
        run_in_guest(ctx, "sleep", "60")


def test_a_guest_that_is_not_there_is_our_failure(stand_in: StandIn, ctx: StageContext) -> None:
    with pytest.raises(GuestUnreachableError, match="connection to the guest") as caught:
        run_in_guest(ctx, "true")
    assert "Connection refused" in caught.value.details


def test_a_connection_lost_in_the_middle_is_our_failure(guest: StandIn, ctx: StageContext) -> None:
    with pytest.raises(GuestUnreachableError, match="connection to the guest"):
        run_in_guest(ctx, "sh", "-c", "kill -KILL $(ps -o ppid= -p $PPID)")


def test_a_guest_that_makes_ssh_talk_without_end_is_cut_off(
    guest: StandIn, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_commands, "_MAX_LOG_BYTES", 100)
    with pytest.raises(GuestUnreachableError, match="connection to the guest"):
        run_in_guest(ctx, "true")


def test_a_guest_with_another_host_key_gets_no_command(
    guest: StandIn, ctx: StageContext, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    guest.trust(tmp_path / "other")
    with pytest.raises(GuestUnreachableError, match="connection to the guest") as caught:
        run_in_guest(ctx, "touch", str(tmp_path / "was here"))
    assert "Host key verification failed" in caught.value.details
    assert not (tmp_path / "was here").exists()


def test_fifty_commands_run_at_once(guest: StandIn, ctx: StageContext) -> None:
    with ThreadPoolExecutor(50) as pool:
        codes = pool.map(lambda n: run_in_guest(ctx, "sh", "-c", f"exit {n}", timeout_s=60)[0], range(50))
        assert list(codes) == list(range(50))


# --- wait_ready ----------------------------------------------------------------------------------


def test_a_guest_that_comes_late_is_waited_for(stand_in: StandIn, ctx: StageContext) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_ready.do, ready(), ctx)
        stand_in.start()
        waiting.result(DEADLINE_S)


def test_a_guest_that_never_comes_is_given_up_and_its_console_spoken_of(
    stand_in: StandIn, ctx: StageContext
) -> None:
    with pytest.raises(StageFailedError, match=r"did not answer SSH within 0\.3 s") as caught:
        wait_ready.do(ready(timeout_s=0.3), ctx)
    assert "its console" in caught.value.details


def test_a_server_with_another_key_is_refused_at_once(
    stand_in: StandIn, ctx: StageContext, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    stand_in.trust(tmp_path / "other")
    stand_in.start()
    with pytest.raises(StageFailedError, match="another SSH server"):
        wait_ready.do(ready(), ctx)


def test_a_guest_that_does_not_admit_our_key_is_not_ready(stand_in: StandIn, ctx: StageContext) -> None:
    admitted = ctx.host.paths.identity.with_suffix(".pub")
    admitted.write_text("")
    stand_in.start()
    with pytest.raises(StageFailedError, match="did not answer SSH") as caught:
        wait_ready.do(ready(timeout_s=3), ctx)
    assert "Permission denied" in caught.value.details


def test_waiting_ends_when_the_job_is_cancelled_and_is_handed_over_when_the_worker_stops(
    stand_in: StandIn, ctx: StageContext
) -> None:
    with pytest.raises(CancelledError):
        wait_ready.do(ready(), replace(ctx, wish=lambda: CANCEL))
    with pytest.raises(StageFailedError, match="its VMM is gone") as caught:
        wait_ready.do(ready(), replace(ctx, wish=lambda: "its VMM is gone"))
    assert "its console" in caught.value.details
    ctx.host.stopping.set()
    with pytest.raises(HandOverError):
        wait_ready.do(ready(), ctx)


# --- guest_shutdown ------------------------------------------------------------------------------


def shut_down(ctx: StageContext, timeout_s: float) -> bool:
    request = GuestShutdownRequest(vm_id=VM, generation=1, address=ADDRESS, timeout_s=timeout_s)
    return bool(guest_shutdown.do(request, ctx)["graceful"])


def test_a_guest_that_leaves_the_network_was_shut_down_gracefully(
    stand_in: StandIn, ctx: StageContext, tmp_path: Path
) -> None:
    stand_in.start(instead=f'echo "$SSH_ORIGINAL_COMMAND" > {tmp_path}/asked; ip link set lo down')
    stand_in.wait_for_port()
    assert shut_down(ctx, timeout_s=DEADLINE_S)
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("sh -c 'sync; if ")
    assert "then reboot; else poweroff; fi'" in asked, "Firecracker ends when its guest restarts"


def test_a_guest_that_stays_falls_through_in_time(stand_in: StandIn, ctx: StageContext) -> None:
    stand_in.start(instead="true")
    stand_in.wait_for_port()
    started = time.monotonic()
    assert not shut_down(ctx, timeout_s=1)
    assert time.monotonic() - started < DEADLINE_S


@pytest.mark.parametrize("lost", ["known_hosts", "identity"])
def test_a_guest_whose_key_is_gone_is_not_waited_for(
    stand_in: StandIn, ctx: StageContext, paths: HostPaths, lost: str
) -> None:
    stand_in.start(instead="true")
    stand_in.wait_for_port()
    (paths.identity if lost == "identity" else paths.known_hosts(VM)).unlink()
    started = time.monotonic()
    assert not shut_down(ctx, timeout_s=60)
    assert time.monotonic() - started < DEADLINE_S


def test_a_guest_without_poweroff_is_not_waited_for(stand_in: StandIn, ctx: StageContext) -> None:
    stand_in.start(instead="exit 127")
    stand_in.wait_for_port()
    started = time.monotonic()
    assert not shut_down(ctx, timeout_s=60)
    assert time.monotonic() - started < DEADLINE_S


def test_a_guest_that_is_off_already_is_no_error(stand_in: StandIn, ctx: StageContext) -> None:
    with IPRoute() as ip:
        ip.link("set", index=1, state="down")
    assert not shut_down(ctx, timeout_s=DEADLINE_S)


def test_a_timeout_of_zero_asks_nothing(stand_in: StandIn, ctx: StageContext, tmp_path: Path) -> None:
    stand_in.start(instead=f"touch {tmp_path}/asked")
    stand_in.wait_for_port()
    assert not shut_down(ctx, timeout_s=0)
    assert not (tmp_path / "asked").exists()
