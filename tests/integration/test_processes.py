"""A VM's processes are those of its uid, whoever says what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from root_worker.vmm import processes

pytestmark = pytest.mark.integration

US = os.getuid()
THREAD_LIVES_ON = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit of this one thread
"""


@pytest.fixture
def start() -> Iterator[Callable[[str], int]]:
    """Start Python programs that print a line once they are ready; each leads a session."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(code: str) -> int:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def alive(uid: int | None = US) -> dict[int, bool]:
    with processes.held(uid) as found:
        return {one.pid: one.is_vmm for one in found}


def test_who_leads_a_session_is_the_vmm_and_others_are_not(start):
    leader = start("import time; print(flush=True); time.sleep(60)")
    assert alive()[leader]
    assert alive()[os.getpid()] == (os.getsid(0) == os.getpid())


def test_another_uids_processes_are_none_of_ours():
    assert os.getpid() not in alive(US + 1)


def test_what_makes_a_vms_jail_is_found_by_its_group_and_is_no_vmm_and_no_keeper(start):
    if US != 0:
        pytest.skip("needs root")
    uid = 300_007
    pid = start(f"import os, time; os.setgroups([5, {uid}]); print(flush=True); time.sleep(60)")
    with processes.held(uid) as found:
        assert [(one.pid, one.is_vmm, one.is_keeper) for one in found] == [(pid, False, False)]
    processes.end(uid, "KILL")
    assert alive(uid) == {}


def test_a_vm_without_a_slot_has_none():
    assert alive(None) == {}


def test_a_zombie_is_dead(start):
    pid = start("print(flush=True); import time; time.sleep(60)")
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert "Z (zombie)" in Path(f"/proc/{pid}/status").read_text()
    assert pid not in alive()


def test_a_zombie_whose_threads_live_on_is_not(start):
    pid = start(THREAD_LIVES_ON)
    while "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
        pass
    assert pid in alive()


def test_who_hides_behind_an_owner_of_root_is_found(start):
    pid = start("import ctypes, time; ctypes.CDLL(None).prctl(4, 0); print(flush=True); time.sleep(60)")
    assert Path(f"/proc/{pid}").stat().st_uid == 0
    assert pid in alive()


def test_a_pid_that_became_a_strangers_while_we_looked_is_left_alone(monkeypatch):
    """At first it reads as the VM's; when its pidfd is open, it is another's already."""
    asked: list[int] = []

    def changing(pid: int) -> bytes:
        asked.append(pid)
        uid = 300_007 if pid == os.getpid() and asked.count(pid) == 1 else US
        return f"Name:\tpytest\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n".encode()

    monkeypatch.setattr(processes, "_status", changing)
    assert alive(300_007) == {}
    assert asked.count(os.getpid()) == 2


def test_a_strangers_group_is_not_a_vms_nor_is_one_that_is_cut_short(monkeypatch):
    def with_groups(uid: int, groups: str) -> bytes:
        return f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t{groups}".encode()

    monkeypatch.setattr(processes, "_pids", lambda: [os.getpid()])
    for status, found in (
        (with_groups(0, "300007 \n"), True),
        (with_groups(1000, "300007 \n"), False),
        (with_groups(0, "4 300007"), False),  # as of 30000721, where the line goes on
    ):
        monkeypatch.setattr(processes, "_status", lambda _, status=status: status)
        assert (os.getpid() in alive(300_007)) == found


@pytest.mark.timeout(20)
def test_processes_that_come_as_fast_as_it_looks_do_not_hold_it(monkeypatch):
    looks: list[int] = []

    def always_another() -> list[int]:
        looks.append(5_000_000 + len(looks))  # above what any kernel gives
        return looks[-1:]

    monkeypatch.setattr(processes, "_pids", always_another)
    assert alive() == {}
