"""The SSH key and known_hosts by which a person's banger enters guests: in that person's home.

Root has the farm's own. What an owner's banger knows of guests' host keys it learns on the VM's host, from
the file that the worker made with the key: under the VM's id, so that an address may have another guest
tomorrow.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import NamedTuple, Protocol

from banger.advice import OWNER
from banger.contracts.errors import UnavailableError
from banger.contracts.names import HostPaths, is_id, link_alias


class SshKeys(Protocol):
    """A private key, and where the host key of a guest is known."""

    @property
    def identity(self) -> Path:
        """The private key."""

    def known_hosts(self, vm_id: str) -> Path:
        """Return a known_hosts file that has this guest's key, under ``link_alias(vm_id)``."""


class OwnerKeys(NamedTuple):
    """The key pair and known_hosts beneath ``directory``, of the person that runs this process."""

    directory: Path
    host: HostPaths

    @property
    def identity(self) -> Path:
        """The private key; UnavailableError where this user has none."""
        key = self.directory / "id_ed25519"
        if not key.exists():
            raise UnavailableError(
                "this user has no key to the farm's guests",
                details=f"{key} does not exist",
                resolution=OWNER,
            )
        return key

    def known_hosts(self, vm_id: str) -> Path:
        """Return this user's known_hosts, with this guest's line, and without those of VMs that are gone."""
        _ = self.identity  # who has no key needs no acquaintances, and has no place to keep them
        self.refresh(vm_id)
        return self._file

    def refresh(self, *more: str) -> None:
        """Bring known_hosts up to date with this host: the VMs that it names, and these."""
        with (self.directory / "known_hosts.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._file.read_text() if self._file.exists() else ""
            named = [
                line.split()[0].removeprefix(link_alias("")) for line in before.splitlines() if line.strip()
            ]
            lines = [self._line(vm_id) for vm_id in dict.fromkeys([*named, *more]) if is_id(vm_id)]
            after = "".join(lines)
            if after != before:
                scratch = self.directory / "known_hosts.new"
                scratch.write_text(after)
                scratch.replace(self._file)

    @property
    def _file(self) -> Path:
        return self.directory / "known_hosts"

    def _line(self, vm_id: str) -> str:
        """Return the line that this host has for a VM, nothing where it has no such VM.

        It is about that VM alone: one pattern more, and it would vouch for others.
        """
        try:
            said = self.host.known_hosts(vm_id).read_text()
        except FileNotFoundError:
            return ""
        match = re.fullmatch(rf"{link_alias(vm_id)} ssh-ed25519 [A-Za-z0-9+/=]+( [^\n]*)?\n", said)
        return said if match else ""


def forget_gone(host: HostPaths) -> None:
    """Take VMs that are gone out of this user's known_hosts, where there is one."""
    keys = keys_of_this_user(host)
    if isinstance(keys, OwnerKeys) and keys.directory.is_dir():
        keys.refresh()


def keys_of_this_user(host: HostPaths) -> SshKeys:
    """Return root's keys, which are the farm's own, or those of the user that this process is."""
    return host if os.geteuid() == 0 else OwnerKeys(own_ssh_directory(Path.home()), host)


def own_ssh_directory(home: Path) -> Path:
    """Return where a user's key to guests is, beside the rest of what banger keeps in a home."""
    return home / ".config" / "banger" / "ssh"
