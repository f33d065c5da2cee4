"""A stage that does not end: its step is reported as failed while it hangs, so that its job is undone.

What hangs cannot be ended from outside: it keeps its thread, and its VM to itself, until it comes back. Then
nobody hears what it has to say, but what has waited for it is rung for at once (``runner``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from banger.contracts.calls import StageCall
from banger.contracts.errors import StageFailedError
from banger.contracts.journal import Claim, Journal, Verdict

AtWork = dict[str, tuple[StageCall, float]]
"""By token: a step that was begun and not ended, and when that was (monotonic seconds)."""


@dataclass(frozen=True)
class WatchedJournal(Journal):
    """A journal that knows which steps its process is at. Thread-safe."""

    at_work: AtWork = field(default_factory=dict)

    def claim(self, call: StageCall, token: str) -> Claim:
        """Claim a step; from now on it is watched."""
        claim = super().claim(call, token)
        if claim.verdict is Verdict.GO:
            self.at_work[token] = call, time.monotonic()
        return claim

    def release(self, call: StageCall, token: str) -> bool:
        """Give a claim back."""
        self.at_work.pop(token, None)
        return super().release(call, token)

    def _finish(self, call: StageCall, token: str, *how: Any) -> bool:
        self.at_work.pop(token, None)
        return super()._finish(call, token, *how)

    def give_up(self) -> list[StageCall]:
        """Report what is beyond its deadline as failed, and return it; to be called every few seconds."""
        given_up = []
        for token, (call, began) in tuple(self.at_work.items()):
            took_s, deadline_s = time.monotonic() - began, call.table_row.deadline_s
            error = StageFailedError(f"{call.stage} did not end within {deadline_s:g} s", details="it hangs")
            if took_s <= deadline_s:
                continue
            try:
                if self.failed(call, token, took_s * 1000, error):
                    given_up.append(call)
            except Exception:  # Redis is away: it is beyond its deadline at the next look too
                self.at_work[token] = call, began
                raise
        return given_up
