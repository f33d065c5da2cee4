"""Notice that the host was rebooted, and go on noticing it until what ran at that time is dealt with.

The boot's id is noted in a file only then: a worker that dies in between finds the old one, and starts anew.
A job that went on meanwhile has the boot that it is of with its other marks in Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import sha256

from banger.contracts.boot import boot_id
from banger.contracts.errors import CapacityError
from banger.contracts.inventory import Inventory
from banger.contracts.names import HostPaths
from banger.findings import Action, Finding
from banger.pipelines import COMMANDS, PIPELINES
from banger.records import Job
from workers.new_file import new_file

log = logging.getLogger("banger.reconcile")

_SINCE = frozenset({Action.KILL, Action.RESTART})  # what is begun for VMMs that have died with the host
_APART_S = 5.0  # of root's clock: an inventory may still be from before the reboot


def to_do_again(job: Job) -> list[str]:
    """Return the steps of a job that have to be done once more since its host was rebooted. Pure.

    All of them, where it starts a VM: what they made in the kernel is gone, and what they made on the disk
    they find there. None where it only ends one. None either where its guest's command has begun, which is
    begun once: that step fails then, and tells. And none of a job that was not taken up yet, or by a banger
    that did not note in which boot.
    """
    pipeline = PIPELINES[job.pipeline]
    begun = any(row.stage in COMMANDS and step in job.steps for step, row in pipeline.steps.items())
    if begun or not pipeline.starts or not job.boot:
        return []
    return [step for step, mark in job.steps.items() if mark == "done"]


class Reboot:
    """Whether the host was rebooted since its worker last had dealt with that."""

    def __init__(self, paths: HostPaths) -> None:
        self._file = paths.vms / ".boot-id"
        self._since: float | None = None

    @property
    def pending(self) -> bool:
        """Tell whether the host was rebooted, and what ran then may be still to be dealt with."""
        return self._noted() not in (None, boot_id())

    def job(self, vm_id: str) -> str:
        """Return the id of the job that boots a VM again: the same one, however often that is asked for."""
        return sha256(f"{boot_id()} {vm_id}".encode()).hexdigest()[:12]

    def looked(self, findings: Iterable[Finding], inventory: Inventory | None) -> None:
        """Note this boot once a look has found nothing left to be done, in what root saw since it."""
        if self._noted() == boot_id() or inventory is None or inventory.unreadable:
            return
        self._since = inventory.at if self._since is None else min(self._since, inventory.at)
        seen_since = inventory.at - self._since >= _APART_S or self._noted() is None
        if seen_since and not any(finding.action in _SINCE for finding in findings):
            try:
                with new_file(self._file, 0o600) as scratch:
                    scratch.write_text(boot_id())
            except CapacityError as error:  # the disk is full, and what frees it comes after us
                log.warning("the reboot is not noted: %s", error.brief)

    def _noted(self) -> str | None:
        """Return the boot that was noted last; None where none ever was, as on a new host."""
        try:
            return self._file.read_text().strip()
        except FileNotFoundError:
            return None
