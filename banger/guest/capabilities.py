"""Capabilities: what a VM has, as small values that say what the guest must be given for it.

A capability contributes files that root writes into the system disk and lines of /etc/fstab.
NAT is none of these: the guest cannot tell whether the host forwards its packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from banger.contracts.names import Slot
from banger.contracts.requests import GuestFile, Mount

_SSHD = """\
PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile /root/.ssh/authorized_keys
"""


class Capability(NamedTuple):
    """What one capability contributes to the guest's system disk."""

    name: str
    files: tuple[GuestFile, ...] = ()
    mounts: tuple[Mount, ...] = ()


def identity(name: str) -> Capability:
    """The guest knows its own name, and finds an address for it without DNS."""
    return Capability(
        "identity",
        files=(
            GuestFile(path="/etc/hostname", content=f"{name}\n"),
            GuestFile(path="/etc/hosts", content=f"127.0.0.1 localhost\n127.0.1.1 {name}\n"),
        ),
    )


def resolver(servers: Sequence[str]) -> Capability:
    """The guest asks these name servers (IP addresses): the next where one refuses, or cannot be reached.

    No ``search``: a VM's name is NAME.vm, and each name that does not exist would be asked for twice.
    """
    content = "".join(f"nameserver {server}\n" for server in dict.fromkeys(servers))
    return Capability("resolver", files=(GuestFile(path="/etc/resolv.conf", content=content),))


def network(slot: Slot) -> Capability:
    """The guest has its slot's address, set by a script of ours and not by the kernel's ``ip=``.

    The kernel would wait for a network card whose driver is not loaded yet.
    """
    settings = {
        "ADDRESS": slot.address,
        "PREFIX": slot.prefix,
        "GATEWAY": slot.gateway,
        "MAC": slot.mac,
    }
    script = files("banger.guest").joinpath("network-up").read_text()
    return Capability(
        "network",
        files=(
            GuestFile(
                path="/etc/banger/network.conf",
                content="".join(f"{key}={value}\n" for key, value in settings.items()),
            ),
            GuestFile(path="/usr/local/lib/banger/network-up", content=script, mode=0o755),
        ),
    )


def ssh() -> Capability:
    """Root logs in with the farm's key, and in no other way."""
    return Capability("ssh", files=(GuestFile(path="/etc/ssh/sshd_config.d/99-banger.conf", content=_SSHD),))


def work_disk() -> Capability:
    """The second drive is /root.

    Not ``nofail``: a guest that came up without it would let work land on the system disk, unseen.
    Field six is 2, so that a guest with e2fsck repairs the disk before it mounts it.
    """
    return Capability(
        "work-disk",
        mounts=(Mount(source="/dev/vdb", target="/root", fstype="ext4", options="defaults", passno=2),),
    )
