"""What a check says."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Status(StrEnum):
    """``warn``: something is slower, or a part of it does not work. ``fail``: VMs do not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(BaseModel):
    """One check: what was found, what that means, and how to mend it (empty where nothing is to mend)."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    found: str
    meaning: str
    remedy: str = ""


def ok(name: str, found: str, meaning: str) -> Check:
    """Return a check that found all well."""
    return Check(name=name, status=Status.OK, found=found, meaning=meaning)


def warn(name: str, found: str, meaning: str, remedy: str) -> Check:
    """Return a check whose finding is tolerable."""
    return Check(name=name, status=Status.WARN, found=found, meaning=meaning, remedy=remedy)


def fail(name: str, found: str, meaning: str, remedy: str) -> Check:
    """Return a check whose finding keeps VMs from working."""
    return Check(name=name, status=Status.FAIL, found=found, meaning=meaning, remedy=remedy)
