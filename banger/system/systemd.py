"""The line to systemd: ``systemctl``, and what it says of units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from banger.contracts.errors import BangerError
from banger.shell import find_tool, run

BOOTED = Path("/run/systemd/system")  # sd_booted(3): there where systemd is the system's manager
_DEADLINE_S = 300.0  # a stop takes 15 s at most; a start as long as a slow host takes to try KVM
_ASKED = (
    *("Id", "LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "ActiveEnterTimestamp"),
    *("NeedDaemonReload", "DropInPaths"),
)


class UnitState(BaseModel):
    """A unit as systemd sees it. ``since`` is its own text; ``stale``: the file changed since it was read."""

    model_config = ConfigDict(frozen=True)

    name: str
    load: str
    active: str
    sub: str
    pid: int
    restarts: int
    since: str
    stale: bool
    drop_ins: tuple[str, ...]

    @property
    def running(self) -> bool:
        """Whether it does what it is there for."""
        return self.active == "active"


def require() -> None:
    """Raise BangerError where this machine was not booted by systemd."""
    if not BOOTED.is_dir():
        raise BangerError(
            "systemd does not run here",
            details=f"there is no {BOOTED}",
            resolution="`sudo banger farm up` runs a farm without it.",
        )


def systemctl(*words: str, forgive: bool = False) -> None:
    """Run systemctl; with ``forgive``, that a unit is not there is no error."""
    run((find_tool("systemctl"), *words), deadline_s=_DEADLINE_S, good=range(256) if forgive else (0,))


def states(units: Sequence[str]) -> tuple[UnitState, ...]:
    """Return the units as they are now; anybody may ask. None where there are no units or no systemd."""
    if not units or not BOOTED.is_dir():
        return ()
    argv = (find_tool("systemctl"), "show", f"--property={','.join(_ASKED)}", *units)
    return parse(run(argv, deadline_s=_DEADLINE_S).stdout.decode(errors="replace"))


def require_running(units: Sequence[str]) -> tuple[UnitState, ...]:
    """Return the units' states; BangerError naming what does not run."""
    found = states(units)
    dead = [unit for unit in found if not unit.running]
    if dead:
        raise BangerError(
            f"{dead[0].name} does not run",
            details="\n".join(f"{unit.name}: {unit.active} ({unit.sub})" for unit in dead),
            resolution=f"journalctl -u {dead[0].name} says why; it is tried again every 2 s.",
        )
    return found


def parse(text: str) -> tuple[UnitState, ...]:
    """Return what ``systemctl show`` says: a block of NAME=VALUE lines a unit."""
    found = []
    for block in text.strip().split("\n\n"):
        said = dict(line.partition("=")[::2] for line in block.splitlines())
        if "Id" in said:
            found.append(
                UnitState(
                    name=said["Id"],
                    load=said.get("LoadState", ""),
                    active=said.get("ActiveState", ""),
                    sub=said.get("SubState", ""),
                    pid=int(said.get("MainPID") or 0),
                    restarts=int(said.get("NRestarts") or 0),
                    since=said.get("ActiveEnterTimestamp", ""),
                    stale=said.get("NeedDaemonReload") == "yes",
                    drop_ins=tuple(said.get("DropInPaths", "").split()),
                )
            )
    return tuple(found)
