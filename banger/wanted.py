"""A VM's specification, from what is wanted and the configured defaults; what is wrong with it, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError
from banger.contracts.spec import VmSpec
from banger.contracts.vmm import MAX_FIRECRACKER_VCPUS, WantedVmm

if TYPE_CHECKING:
    from banger.settings import Settings

_DEFAULTS = ("image", "vcpus", "memory_mib", "disk_mib", "system_overlay_mib", "dns", "ready_timeout_s")


def wanted_spec(settings: Settings, name: str, wanted: dict[str, Any]) -> VmSpec:
    """Return the specification; None among what is wanted stands for the default.

    InvalidInputError naming each field that is not valid, or what no host could do for it.
    """
    given = {key: value for key, value in wanted.items() if value is not None}
    defaults = {key: getattr(settings, key) for key in _DEFAULTS}
    try:
        spec = VmSpec.model_validate(defaults | given | {"name": name})
    except ValidationError as error:
        raise _invalid(error) from None
    refuse_impossible(spec.vmm, spec.vcpus, limits_network=spec.net_rate_mib_s is not None)
    return spec


def refuse_impossible(wanted: WantedVmm, vcpus: int, *, limits_network: bool) -> None:
    """Raise InvalidInputError for what the VMM that was asked for can do on no host.

    The rest is its host's to judge.
    """
    if wanted == "qemu" and limits_network:
        raise InvalidInputError(
            "QEMU does not limit a guest's network",
            details="a limit for the network was asked for, and QEMU to run the VM",
            resolution="Leave out one of the two: Firecracker limits it.",
        )
    if wanted == "firecracker" and vcpus > MAX_FIRECRACKER_VCPUS:
        raise InvalidInputError(
            f"Firecracker gives a guest {MAX_FIRECRACKER_VCPUS} vCPUs at most, not {vcpus}",
            resolution="Ask for fewer, or have QEMU run it.",
        )


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
