"""A VM's specification, from what is wanted and the configured defaults; what is wrong with it, in words."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError
from banger.contracts.spec import VmSpec
from banger.settings import Settings

_DEFAULTS = ("image", "vcpus", "memory_mib", "disk_mib", "system_overlay_mib", "dns", "ready_timeout_s")


def wanted_spec(settings: Settings, name: str, wanted: dict[str, Any]) -> VmSpec:
    """Return the specification; None among what is wanted stands for the default.

    InvalidInputError naming each field that is not valid.
    """
    given = {key: value for key, value in wanted.items() if value is not None}
    defaults = {key: getattr(settings, key) for key in _DEFAULTS}
    try:
        return VmSpec.model_validate(defaults | given | {"name": name})
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidInputError:
    for item in error.errors():
        if item["loc"] == ("name",):
            return InvalidInputError(
                f"{item['input']!r} is not a VM name",
                details="a name is a DNS label: 1 to 63 of a-z, 0-9 and -, not beginning or ending with -",
                resolution="Choose such a name; it is not changed for you.",
            )
    return InvalidInputError(
        "the VM that was asked for is not valid",
        details="\n".join(complaints(error)),
        resolution="`banger vm create --help` shows what can be asked.",
    )
