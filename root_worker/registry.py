"""Root's own memory: one JSON file a VM, written whole (fsync, rename, directory fsync).

It fences late requests (generation), keeps slots apart, and says which processes are a VM's. It is
root's truth: Redis and the unprivileged side cannot write it.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from banger.contracts.errors import PolicyError
from banger.contracts.registry import Entry
from root_worker.ops.lock import held

_BALLAST_BYTES = 16 * 1024 * 1024
_FULL_BYTES = 256 * 1024


class Registry:
    """The registry directory. All methods are safe against other threads and processes of root."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def locked(self) -> AbstractContextManager[int]:
        """Hold the registry's lock: one writer a host."""
        return held(self._directory / ".lock")

    def get(self, vm_id: str) -> Entry | None:
        """Return the VM's entry, or None where root knows nothing of it."""
        try:
            return Entry.model_validate_json(self._file(vm_id).read_bytes())
        except FileNotFoundError:
            return None

    def entries(self) -> list[Entry]:
        """Return all entries, by VM id."""
        return [
            Entry.model_validate_json(file.read_bytes()) for file in sorted(self._directory.glob("*.json"))
        ]

    def admit(self, vm_id: str, generation: int, slot: int | None = None) -> Entry:
        """Fence and record a request, before its first side effect.

        StaleGenerationError when a later start has been here; PolicyError when the slot is another VM's
        or not the one this VM had.
        """
        with self.locked():
            known = self.get(vm_id)
            entry = (known or Entry(vm_id=vm_id, generation=0)).advanced(generation)
            if slot is not None:  # of the others all are read for it, but only once
                entry = entry.in_slot(slot, self._others(vm_id) if entry.slot is None else ())
            return self._changed(known, entry)

    def fence(self, vm_id: str, generation: int) -> Entry | None:
        """Record a request to remove something of a VM; return its entry, None where root knows of none.

        What is not in the registry is nobody's to remove, whatever it is called. StaleGenerationError as
        above.
        """
        with self.locked():
            known = self.get(vm_id)
            if known is None:  # of an entry that never came to be
                self._file(vm_id).with_suffix(".new").unlink(missing_ok=True)
            return self._changed(known, known.advanced(generation)) if known else None

    def update(self, vm_id: str, room: tuple[int, int] | None = None, /, **changes: object) -> Entry:
        """Change fields of an admitted VM's entry and return it.

        ``room`` is how many vCPUs and MiB all VMs of this host may have together; PolicyError above that.
        """
        with self.locked():
            entry = self.get(vm_id)
            if entry is None:
                raise PolicyError(f"VM {vm_id} is not in root's registry")
            entry = Entry.model_validate(entry.model_dump() | changes)
            if room:
                entry.require_room(self._others(vm_id), *room)
            self._write(entry)
            return entry

    def rest(self, vm_id: str, image: str, base: str) -> None:
        """Remember what a VM's snapshot rests on; refused where that is not what it was (``resting_on``)."""
        with self.locked():
            known = self.get(vm_id) or Entry(vm_id=vm_id, generation=0)
            self._changed(known, known.resting_on(image, base, () if known.base else self._others(vm_id)))

    def forget(self, vm_id: str) -> None:
        """Remove the VM's entry, and what a full disk left of a newer one; forgives exactly their absence."""
        with self.locked():
            self._file(vm_id).with_suffix(".new").unlink(missing_ok=True)
            self._file(vm_id).unlink(missing_ok=True)
            self._sync()

    def keep_ballast(self) -> None:
        """Hold 16 MiB of the disk while there is room, and give up half of what is left when there is none.

        A delete is what frees a disk, and for one Redis, the ledger and this registry have to write first.
        """
        with suppress(OSError), (self._directory / ".ballast").open("ab") as ballast:
            held = os.fstat(ballast.fileno()).st_blocks * 512  # what is a copy may be a hole
            disk = os.statvfs(self._directory)
            free = disk.f_bavail * disk.f_frsize
            if free < _FULL_BYTES:
                ballast.truncate(held // 2)
            elif held < _BALLAST_BYTES and free > 4 * _BALLAST_BYTES:
                os.posix_fallocate(ballast.fileno(), 0, _BALLAST_BYTES)

    def _changed(self, known: Entry | None, entry: Entry) -> Entry:
        if entry != known:
            self._write(entry)
        return entry

    def _others(self, vm_id: str) -> list[Entry]:
        return [entry for entry in self.entries() if entry.vm_id != vm_id]

    def _file(self, vm_id: str) -> Path:
        return self._directory / f"{vm_id}.json"

    def _write(self, entry: Entry) -> None:
        target = self._file(entry.vm_id)
        scratch = target.with_suffix(".new")
        try:
            with scratch.open("wb") as file:
                file.write(entry.model_dump_json().encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(scratch)  # else nobody is told which disk is full
            raise
        scratch.replace(target)
        self._sync()

    def _sync(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
