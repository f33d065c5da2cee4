"""Whether a record says what is: a VM's state against what the kernel and root's registry show."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chaos_farm import ChaosFarm
from farm_box import Box
from snapshot import registry
from stub_vmm import STARTED

from banger.contracts.journal import leases_key
from banger.contracts.names import tap_name
from banger.contracts.states import State
from banger.records import Record


class Found(NamedTuple):
    """What there is of a VM. ``vmms`` lead their sessions, ``keepers`` do not."""

    vmms: int
    keepers: int
    tap: bool
    jail: bool
    directory: bool
    entry: dict[str, Any] | None
    intent: dict[str, Any] | None
    lease: str | None
    starts: int

    @property
    def nothing(self) -> bool:
        """Whether there is nothing of it at all."""
        return not any((self.vmms, self.keepers, self.tap, self.jail, self.directory, self.entry, self.lease))


def find(box: Box, vm_id: str, slot: int | None) -> Found:
    """Return what there is of a VM now."""
    client: Any = box.admin.redis
    entry = registry(box).get(vm_id)
    number = slot if slot is not None else (entry or {}).get("slot")
    vmms, keepers = _processes(box.settings.uid_base + number) if number is not None else (0, 0)
    intent = None
    with contextlib.suppress(FileNotFoundError):
        intent = json.loads(box.paths.intent(vm_id).read_text())
    started = 0
    with contextlib.suppress(FileNotFoundError):
        started = box.paths.serial_log(vm_id).read_text(errors="replace").count(STARTED)
    return Found(
        vmms,
        keepers,
        f"{tap_name(vm_id)}:" in Path("/proc/thread-self/net/dev").read_text(),
        box.paths.jail(vm_id).exists(),
        box.paths.vm(vm_id).exists(),
        entry,
        intent,
        client.hget(leases_key(box.settings.host), vm_id),
        started,
    )


def recorded(farm: ChaosFarm, vm_id: str) -> State:
    """Return the state that a VM's record says now."""
    record = farm.box.admin.get(vm_id)
    return record.state if record else State.GONE


def untrue(farm: ChaosFarm, vm_id: str, expected: State, starts: int | None) -> list[str]:
    """Return what is wrong with a VM whose job has ended, nothing where its record is true."""
    record = farm.box.admin.get(vm_id)
    found = find(farm.box, vm_id, record.slot if record else None)
    return [*_of_the_record(record, expected), *_of_the_host(record, found, starts)]


def _of_the_record(record: Record | None, expected: State) -> Iterator[str]:
    state = record.state if record else State.GONE
    if state is not expected:
        yield f"its record says {state}, not {expected}: {record.error if record else ''}"
    if record and record.job:
        yield f"its record has the job {record.job} still"


def _of_the_host(record: Record | None, found: Found, starts: int | None) -> Iterator[str]:
    if record is None or (record.state is State.ERROR and record.slot is None):
        if not found.nothing:
            yield f"something of it is left: {found}"
        return
    running = record.state is State.RUNNING
    if (found.vmms, found.keepers) != ((1, 1) if running else (0, 0)):
        yield f"it is {record.state} and has {found.vmms} VMMs and {found.keepers} keepers"
    for name, there in (("tap", found.tap), ("jail", found.jail)):
        # An undo that failed, on a full disk, may have left them: the state says so, and delete tries again.
        if there is not running and record.state is not State.ERROR:
            yield f"it is {record.state} and its {name} is {'' if there else 'not '}there"
    half_undone = record.state is State.ERROR and not found.directory  # where one undo failed, others did not
    if not found.directory and not half_undone:
        yield "its directory is not there"
    if found.entry is None or found.entry["generation"] != record.generation:
        yield f"root's registry says {found.entry}, its record generation {record.generation}"
    elif running and found.entry["launched"] != record.generation:
        yield f"root's registry says launched {found.entry['launched']}, not {record.generation}"
    if found.lease != f"{record.slot}:{record.spec.memory_mib}:{record.spec.vcpus}":
        yield f"its lease is {found.lease}"
    # The state there may be the job's still, until reconcile has come by: what counts then is what is found.
    if not half_undone and (not found.intent or found.intent["generation"] != record.generation):
        yield f"its intent file says {found.intent}, its record generation {record.generation}"
    if starts is not None and found.starts != starts:
        yield f"a VMM was started {found.starts} times, not {starts}"


def vmms(box: Box) -> list[int]:
    """Return the processes that are VMMs of this farm now."""
    base = box.settings.uid_base
    return [pid for pid, leads in _living(range(base, base + 1000)) if leads]


def _processes(uid: int) -> tuple[int, int]:
    leading = [leads for _, leads in _living((uid,))]
    return leading.count(True), leading.count(False)


def _living(uids: Container[int]) -> Iterator[tuple[int, bool]]:
    """Yield each process of these uids, and whether it leads a session of its own."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = (path / "status").read_text()
            if "\nState:\tZ" in status:
                continue
            if int(status.partition("\nUid:")[2].split(maxsplit=1)[0]) in uids:
                session = int((path / "stat").read_text().rpartition(")")[2].split()[3])
                yield int(path.name), session == int(path.name)
