"""The names of what Redis holds of batches. What each of them is, ``banger.batch.store`` says."""

from __future__ import annotations

ALL_BATCHES = "banger:batches"
ACTIVE_BATCHES = "banger:batches:active"


def batch_key(batch: str) -> str:
    """Return the key of a batch (a hash)."""
    return f"banger:batch:{batch}"


def batch_events_key(batch: str) -> str:
    """Return the key of a batch's events (a stream): ``job`` with its new state, ``batch`` with a word."""
    return f"banger:batch:{batch}:events"


def times_key(name: str) -> str:
    """Return the key of what took how long in batches of this name (a hash)."""
    return f"banger:batch-times:{name}"


def answer_key(answer: str) -> str:
    """Return the key under which a host answers with a piece of a file (a string)."""
    return f"banger:answer:{answer}"
