"""reserve, undone: name and slot become free in the same transaction that ends the job."""

from __future__ import annotations

from banger.contracts.requests import UndoRequest
from workers.host import StageContext


def undo(request: UndoRequest, ctx: StageContext) -> None:
    """Do nothing here: this step carries ``release``, and the journal's last script acts on it."""
    del request, ctx
