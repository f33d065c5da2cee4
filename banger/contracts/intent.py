"""The intent file of a VM: what this host set out to make, readable when Redis is lost.

It is written before the first side effect, so there is no crash after which a VM's traces are nobody's.
"""

from __future__ import annotations

from typing import Literal

from banger.contracts.errors import StageFailedError
from banger.contracts.names import ImageId, VmId, VmName
from banger.contracts.requests import Frozen, OverlayRequest, SizeMib


class Intent(Frozen):
    """One VM as it was asked for. ``generation`` is that of its creation."""

    version: Literal[1] = 1
    vm_id: VmId
    generation: int
    name: VmName | None
    image: ImageId
    overlay_mib: SizeMib

    @classmethod
    def of(cls, request: OverlayRequest) -> Intent:
        """Return the intent that a request for an overlay states."""
        return cls.model_validate(request.model_dump())


def read(text: bytes) -> Intent:
    """Return the intent that an intent file holds; StageFailedError when it holds none."""
    try:
        return Intent.model_validate_json(text)
    except ValueError as error:
        raise StageFailedError("An intent file is damaged", details=str(error)) from error
