"""The claims of steps that wait for guests, renewed while this process is at them.

Were they made for as long as such a step may take, a worker's death would keep its VMs from everybody
for that long: a day, for a command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError
from banger.contracts.journal import Claim, Journal, Verdict


@dataclass(frozen=True)
class HeldClaims(Journal):
    """A journal that knows which of its claims are to be renewed. Thread-safe."""

    _held: dict[str, StageCall] = field(default_factory=dict)

    def claim(self, call: StageCall, token: str) -> Claim:
        """Claim a step; from now on the claim is renewed where the step waits."""
        claim = super().claim(call, token)
        if claim.verdict is Verdict.GO and call.table_row.waits:
            self._held[token] = call
        return claim

    def finished(self, call: StageCall, token: str, ms: float, data: dict[str, Any] | None) -> bool:
        """Report success."""
        self._held.pop(token, None)
        return super().finished(call, token, ms, data)

    def failed(self, call: StageCall, token: str, ms: float, error: BangerError) -> bool:
        """Report failure."""
        self._held.pop(token, None)
        return super().failed(call, token, ms, error)

    def release(self, call: StageCall, token: str) -> bool:
        """Give a claim back."""
        self._held.pop(token, None)
        return super().release(call, token)

    def renew_all(self) -> None:
        """Renew what is held; to be called a few times in each lease."""
        for token, call in tuple(self._held.items()):
            self.renew(call, token)
