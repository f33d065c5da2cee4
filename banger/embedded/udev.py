"""What udev does with VMs' block devices: it makes their nodes, and reads nothing that is on them.

By its own rules it looks into every new block device, as root, and names it by what it says of itself: a
guest could give its file system the UUID of one of the host's, or put a part of a RAID there that is then
assembled. Ours are this boot's, and are there before root attaches the first disk.
"""

from __future__ import annotations

from pathlib import Path

from banger.contracts.names import HostPaths, dm_name
from banger.settings import Settings
from banger.shell import find_tool, run

UDEV = Path("/run/udev")
_DEADLINE_S = 20.0
_ID = "[0-9a-f]" * 12  # and no more: banger--vg-root is the disk of a Debian host that is called banger


def ensure(settings: Settings) -> None:
    """Write the rules where udev runs; it reads them at once. Needs root."""
    file, text = _file(settings.paths), rules(settings.paths)
    if not UDEV.is_dir() or (file.exists() and file.read_text() == text):
        return
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
    run((find_tool("udevadm"), "control", "--reload"), deadline_s=_DEADLINE_S)


def remove(settings: Settings) -> None:
    """Take the rules away; udev notices with its next event. Forgives exactly their absence."""
    _file(settings.paths).unlink(missing_ok=True)


def rules(paths: HostPaths) -> str:
    """Return the rules: for snapshots by their names, for loop devices by the files beneath them. Pure."""
    blind = 'ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1", ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1"'
    files = f"{paths.state.resolve()}/*"
    unread = 'ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", ENV{SYSTEMD_READY}="0"'
    return (
        f'SUBSYSTEM=="block", KERNEL=="dm-*", ENV{{DM_NAME}}=="{dm_name(_ID)}", {blind}\n'
        f'SUBSYSTEM=="block", KERNEL=="loop*", ATTR{{loop/backing_file}}=="{files}", {unread}\n'
    )


def _file(paths: HostPaths) -> Path:
    """Return this farm's file. Device-mapper's rules (55) name a device, and the next (60) read it."""
    return UDEV / "rules.d" / f"59-{paths.cgroups}.rules"
