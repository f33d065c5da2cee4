"""The names of this host's VMs, as the farm's name server reads them: one file for each address.

A projection of the records, and of nothing else: a VM has a name from the moment its host begins to make or
start it until it begins to stop or delete it, or fails. So what a guest runs at boot finds its own name, and
a VM that is stopped has none, as it has nobody to answer. A file is named by its address and not by its VM:
addresses are used again, and the name server keeps a place in its memory for each file that it ever saw.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path

from banger.contracts.names import is_id, is_label
from banger.contracts.states import State
from banger.name_server import DOMAIN
from banger.records import Record
from workers.host import WorkHost

log = logging.getLogger("banger.names")

_NAMED = frozenset({State.CREATING, State.STARTING, State.RUNNING})


def line(record: Record, host: str, network: IPv4Network) -> str | None:
    """Return what a VM's file says: address, name and id; None where it has no name on this host now. Pure.

    Nothing that is no label, or no guest's address here, gets into it, whoever wrote the record.
    """
    if record.state not in _NAMED or record.host != host or record.address is None:
        return None
    try:
        address = IPv4Address(record.address)
    except AddressValueError:
        return None
    if address not in network or not is_label(record.name) or not is_id(record.id):
        return None
    return f"{address} {record.name}.{DOMAIN} # {record.id}\n"


def whose(text: str) -> str:
    """Return the id of the VM that a file is of, empty where it says none. Pure."""
    return text.rpartition("# ")[2].strip()


class Names:
    """The files, and the one who writes them at a time. Without a name server there are none."""

    def __init__(self, host: WorkHost) -> None:
        self._host = host
        self._directory = host.paths.names
        self._one_writer = threading.Lock()

    def follow(self, record: Record) -> None:
        """Give a VM its name, or take it away, as its record is now. That fails no job."""
        if not self._host.names:
            return
        with self._one_writer:
            self._follow(record)

    def settle(self, records: Mapping[str, Record], again: Callable[[str], Record | None]) -> None:
        """Make the files say what this host's records say.

        Those were read a while ago: what differs is looked at ``again`` first, while nobody else writes. A VM
        that Redis has forgotten keeps its name as long as this host has its directory, and so its story.
        """
        if not self._host.names:
            return
        told = {text.partition(" ")[0]: text for text in map(self._line, records.values()) if text}
        there = dict(self._files())
        for address in sorted(told.keys() | there.keys()):
            if told.get(address) == there.get(address):
                continue
            with self._one_writer:
                for vm_id in {whose(text) for text in (told.get(address), there.get(address)) if text}:
                    self._look_again(vm_id, address, again)

    def _look_again(self, vm_id: str, address: str, again: Callable[[str], Record | None]) -> None:
        record = again(vm_id) if is_id(vm_id) else None
        if record is not None:
            self._follow(record)
        if record is None or record.address != address:
            forgotten = record is None and is_id(vm_id) and self._host.paths.vm(vm_id).exists()
            if not forgotten:
                self._remove(address, vm_id)

    def _follow(self, record: Record) -> None:
        text = self._line(record)
        if text is not None:
            self._write(text.partition(" ")[0], text)
        elif record.address:
            self._remove(record.address, record.id)

    def _line(self, record: Record) -> str | None:
        return line(record, self._host.name, self._host.network)

    def _write(self, address: str, text: str) -> None:
        path = self._directory / address
        if _content(path) == text:
            return
        scratch = path.with_name(f".{address}.new")  # dnsmasq passes over names that begin with a dot
        try:
            scratch.write_text(text)
            scratch.chmod(0o644)
            scratch.replace(path)
        except OSError as error:
            log.warning("the name of %s is not written: %s", address, error)

    def _remove(self, address: str, vm_id: str) -> None:
        """Remove an address' file where it is this VM's: it may be the next one's by now."""
        path = self._directory / Path(address).name
        try:
            if whose(_content(path) or "") == vm_id:
                path.unlink(missing_ok=True)
        except OSError as error:  # no job fails of it, and reconcile has more to look at
            log.warning("the name of %s is not removed: %s", address, error)

    def _files(self) -> Iterator[tuple[str, str]]:
        try:
            paths = list(self._directory.iterdir())
        except OSError as error:  # reconcile has more to look at
            log.warning("names cannot be read: %s", error)
            return
        for path in paths:
            if not path.name.startswith("."):
                yield path.name, _content(path) or ""


def _content(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
