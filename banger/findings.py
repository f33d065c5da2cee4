"""What reconcile finds on a host, and what it does about it: as the CLI shows it and a script reads it."""

from __future__ import annotations

from enum import StrEnum

from banger.contracts.requests import Frozen

REPORT_TTL_S = 600
UNKEPT = "its keeper is gone: nobody reads its console, or ends it in time while the farm is away; restart it"


def report_key(look: str) -> str:
    """Return the key of what hosts found when they were asked to look (a hash): host to its report."""
    return f"banger:reconcile:{look}"


class Action(StrEnum):
    """What is done about a finding."""

    RING = "ring"  # send the job's messages again: finish it, or unwind it
    CANCEL = "cancel"  # ask the job to stop
    FAIL = "fail"  # have the job fail, which can come to nothing
    DELETE = "delete"
    KILL = "kill"  # make it stopped
    RESTART = "restart"
    RENEW = "renew"  # restart it on a larger disk, or let the restart tell why it cannot be
    RESTORE = "restore"  # write the record as the host knows it
    LOSE = "lose"  # note that the host has nothing of it
    SWEEP = "sweep"  # make it root's again, and delete it
    CLEAR = "clear"  # remove what is left of a removed directory
    NONE = "none"  # leave it alone, and tell


class Finding(Frozen):
    """One thing that is not as it should be.

    ``vm_id`` is empty where no VM is concerned. What is not ``sure`` is left alone until it is seen again
    some seconds later: it may be a moment between two stages. ``rev`` is the record's at that moment, and
    ``outcome`` says what became of it.
    """

    vm_id: str = ""
    name: str = ""
    rev: int = 0
    what: str
    action: Action = Action.NONE
    sure: bool = True
    outcome: str = ""


class Report(Frozen):
    """What one look at a host found (``at`` in epoch seconds)."""

    host: str
    at: float
    findings: tuple[Finding, ...]
