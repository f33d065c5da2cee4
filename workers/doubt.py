"""What is seen once may be a moment between two stages. It is believed when it is seen again, later."""

from __future__ import annotations

from banger.contracts.inventory import Inventory
from banger.findings import Action, Finding

_APART_S = 5.0  # of root's clock


class Doubt:
    """Remembers since when each finding that is not sure has been there."""

    def __init__(self) -> None:
        self._since: dict[Finding, float] = {}

    def settle(self, findings: list[Finding], seen: Inventory) -> list[Finding]:
        """Return the findings of a look at this inventory; those that were not sure are, where they last."""
        # A clock that was set back in between begins anew, or nothing would be sure until it is there again.
        self._since = {
            one: min(self._since.get(one, _at(one, seen)), _at(one, seen)) for one in findings if not one.sure
        }
        sure = {one for one, since in self._since.items() if _at(one, seen) - since >= _APART_S}
        return [one.model_copy(update={"sure": True}) if one in sure else one for one in findings]


def _at(finding: Finding, seen: Inventory) -> float:
    """Return when root looked: at strays it looks less often than it tells of them."""
    return seen.objects_at if finding.action is Action.SWEEP else seen.at
