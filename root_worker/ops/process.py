"""Know a process by more than its pid: its start time and the boot it lives in, from /proc."""

from __future__ import annotations

from pathlib import Path

from root_worker.registry import Process

_PROC = Path("/proc")


def identify(pid: int) -> Process:
    """Return the identity of a process that exists now; ProcessLookupError when it does not, or is dead."""
    state, start_ticks = _state_and_start(pid)
    if state in "ZX":
        raise ProcessLookupError(f"process {pid} is dead")
    return Process(pid=pid, start_ticks=start_ticks, boot_id=_boot_id())


def alive(process: Process) -> bool:
    """Tell whether this very process still runs. A zombie is dead; so is all that ran before a reboot."""
    try:
        return identify(process.pid) == process
    except ProcessLookupError:
        return False


def _state_and_start(pid: int) -> tuple[str, int]:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except FileNotFoundError as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    # Fields 3 and 22 of proc(5); the name before them, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
