"""The emulator beneath the lab's host: its command line, and its monitor."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from lab import recipe

BINARY = Path("/usr/bin/qemu-system-x86_64")
MEMORY_MIB = int(os.environ.get("BANGER_LAB_MEMORY_MIB", "4096"))

_MONITOR_S = 10.0
# All that can be emulated, AMD's virtualization too, so that the host has a KVM that works; but for page
# tables of five levels, whose walks cost a tenth of the time. With ``xlevel`` it tells of its caches and
# topology: Firecracker asks any AMD processor for these, until there are no more caches, and one that does
# not know the question answers another.
_CPU = "max,la57=off,xlevel=0x8000001e"
# The kernel's own log is the console's, and so is the journal's last word where SSH never answers. A CPU that
# nobody else gets for 40 s is a panic, with what each CPU was about. Large pages make the emulator forget all
# its translations where one of them changes.
_KERNEL_WORDS = (
    "console=ttyS0 loglevel=5 panic=-1 softlockup_panic=1 softlockup_all_cpu_backtrace=1 watchdog_thresh=20 "
    "mitigations=off audit=0 systemd.show_status=error transparent_hugepage=never"
)


def argv(directory: Path, disk: Path, images: Path | None, port: int) -> tuple[str, ...]:
    """Return the QEMU of a host: logs and sockets are in ``directory``, the changes of its disk in TMPDIR.

    The network is the one forwarded port: ``restrict`` keeps everything else from leaving.
    """
    drives = [_drive(disk / "rootfs.ext4", "snapshot=on,cache=unsafe")]
    if images is not None:
        drives.append(_drive(images, "readonly=on"))
    return (
        str(BINARY),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,usb=off,smbus=off,hpet=off", "-accel", "tcg,thread=multi", "-cpu", _CPU),
        *("-smp", str(recipe.CPUS), "-m", str(MEMORY_MIB)),
        *("-kernel", str(disk / "vmlinuz"), "-initrd", str(disk / "initrd.img"), "-append", _KERNEL_WORDS),
        *("-serial", f"file:{directory / 'serial.log'}"),
        *("-qmp", f"unix:{directory / 'monitor'},server=on,wait=off"),
        *(word for drive in drives for word in ("-drive", drive)),
        *("-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net0,romfile=", "-device", "virtio-rng-pci"),
    )


def monitor(directory: Path, command: str) -> None:
    """Tell the QEMU of a directory something; OSError when there is none that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.settimeout(_MONITOR_S)
        talk.connect(str(directory / "monitor"))
        lines = talk.makefile("rw")
        lines.readline()  # its greeting
        for execute in ("qmp_capabilities", command):
            lines.write(json.dumps({"execute": execute}) + "\n")
            lines.flush()
            lines.readline()


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _drive(path: Path, more: str) -> str:
    return f"file={path},format=raw,if=virtio,{more}"
