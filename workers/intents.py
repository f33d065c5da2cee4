"""The intent files: what this host was last told of each VM, so that the farm can be told when it forgets.

Written before the first ticket of a job is sealed, and again when the VM has come to rest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from banger.contracts.errors import CapacityError
from banger.contracts.names import HostPaths, is_id
from banger.records import Record
from workers.new_file import new_file

log = logging.getLogger("banger.intents")

_one_writer = threading.Lock()  # reconcile writes them too, under the same scratch name


def remember(paths: HostPaths, record: Record, *, make: bool = False) -> None:
    """Write a VM's intent file, where its directory is there or it is to be made now.

    One that is younger stays: Redis was restored from an older copy. A full disk is no reason not to go on:
    what frees it is a job as well.
    """
    directory = paths.vm(record.id)
    if not directory.exists():
        if not make:
            return
        make_directory(directory)
    with _one_writer:
        known = recall(paths, record.id)
        if known is not None and (known == record or known.rev > record.rev):
            return
        try:
            with new_file(paths.intent(record.id), 0o600) as scratch:
                scratch.write_text(record.model_dump_json())
        except FileNotFoundError:
            return  # its directory was removed a moment ago, and the VM with it
        except CapacityError as error:
            log.warning("%s", error.brief)


def make_directory(directory: Path) -> None:
    """Make a VM's directory: a job's begin does, and no stage, which may come late, after the VM is gone."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o711)  # others pass through to the files they own, and see no names


def recall(paths: HostPaths, vm_id: str) -> Record | None:
    """Return what a VM's intent file says; None where there is none, or it cannot be read."""
    try:
        return Record.model_validate_json(paths.intent(vm_id).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        log.warning("the intent file of VM %s cannot be read", vm_id)
        return None


def all_of_them(paths: HostPaths) -> Iterator[Record]:
    """Yield the intents of this host."""
    for directory in sorted(paths.vms.iterdir()):
        if is_id(directory.name) and (record := recall(paths, directory.name)):
            yield record
