"""Which host gets a VM: pure filters over what hosts say, each counting what it removed and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from banger.contracts.errors import CapacityError, InvalidInputError, NotFoundError, StageFailedError
from banger.contracts.sizes import format_mib
from banger.contracts.spec import VmSpec
from banger.hosts import HostImage, HostInfo

_DISKS = {"disk_mib": "work disk", "system_overlay_mib": "system disk"}
_LESS = "Ask for less, delete VMs, or add a host; `banger host list` shows what is free."
_ANOTHER_VMM = (
    "Ask for another VMM, or for no limit of the network; or mend that on a host: `banger doctor` there says "
    "how, `banger host show` what runs VMs on each."
)


class Used(NamedTuple):
    """What a host's leases hold: VMs, memory in MiB, vCPUs; and how many batches' jobs its worker is at."""

    slots: int = 0
    memory_mib: int = 0
    vcpus: int = 0
    commands: int = 0


class Candidate(NamedTuple):
    """A host that can take the VM, and the image it would use."""

    host: HostInfo
    image: HostImage


def place(spec: VmSpec, hosts: Sequence[HostInfo], used: dict[str, Used]) -> list[Candidate]:
    """Return the hosts that can take the VM, the emptiest first.

    NotFoundError when no host has the image or the name asked for, InvalidInputError when the disk is
    below the image's seed, CapacityError saying how many hosts each filter removed otherwise.
    """
    removed: list[str] = []

    def keep(what: str, left: list[HostInfo]) -> list[HostInfo]:
        if gone := len(remaining) - len(left):
            removed.append(f"{gone} of {len(hosts)}: {what}")
        return left

    remaining = list(hosts)
    if spec.host is not None:
        remaining = [host for host in remaining if host.name == spec.host]
        if not remaining:
            raise NotFoundError(
                f"there is no host {spec.host!r}",
                details="hosts: " + (", ".join(host.name for host in hosts) or "none"),
                resolution="`banger host list` shows them.",
            )
    remaining = keep("no worker serves it", [host for host in remaining if host.alive])
    with_image = [host for host in remaining if host.image(spec.image)]
    if remaining and not with_image:
        raise NotFoundError(
            f"no host has an image {spec.image!r}",
            details="images: " + (", ".join(sorted({i.name for h in remaining for i in h.images})) or "none"),
            resolution="`banger image build` makes one, `banger image list` shows them.",
        )
    remaining = keep(f"no image {spec.image}", with_image)
    _refuse_below_seed(spec, remaining)
    refusals = {host.name: _vmm_refusal(spec, host) for host in remaining}
    for why in filter(None, dict.fromkeys(refusals.values())):
        remaining = keep(why, [host for host in remaining if refusals[host.name] != why])
    advice = _ANOTHER_VMM if refusals and not remaining else _LESS
    for what, fits in _room(spec, used):
        remaining = keep(what, [host for host in remaining if fits(host)])
    if not remaining:
        raise CapacityError(
            "no host can take this VM",
            details="\n".join(removed) or "no host has joined the farm",
            resolution=advice,
        )
    remaining.sort(key=lambda host: (used.get(host.name, Used()).memory_mib / host.memory_mib, host.name))
    return [Candidate(host, image) for host in remaining if (image := host.image(spec.image))]


def _room(spec: VmSpec, used: dict[str, Used]) -> tuple[tuple[str, Callable[[HostInfo], bool]], ...]:
    """Return what a host may lack, and whether it has enough of it."""

    def taken(host: HostInfo) -> Used:
        return used.get(host.name, Used())

    disk_mib = max(spec.disk_mib, spec.system_overlay_mib)
    return (
        ("every slot of its network is taken", lambda host: taken(host).slots < host.slots),
        (
            f"less than {format_mib(spec.memory_mib)} of memory left",
            lambda host: taken(host).memory_mib + spec.memory_mib <= host.memory_mib,
        ),
        (
            f"less than {spec.vcpus} vCPUs left",
            lambda host: taken(host).vcpus + spec.vcpus <= host.vcpus,
        ),
        (
            "its worker is at as many jobs of batches as it can be",
            lambda host: taken(host).commands < host.commands,
        ),
        (f"less than {format_mib(disk_mib)} of disk free", lambda host: disk_mib <= host.disk_free_mib),
    )


def _vmm_refusal(spec: VmSpec, host: HostInfo) -> str:
    """Return why a host's root would refuse to launch the VM, empty where it would not, or does not tell."""
    try:
        host.runs_by(spec.vmm, spec.vcpus, limits_network=spec.net_rate_mib_s is not None)
    except StageFailedError as error:
        return ": ".join(filter(None, (error.brief, error.details)))
    return ""


def refuse_resize(spec: VmSpec, sizes: Mapping[str, int], host: HostInfo | None) -> None:
    """Raise InvalidInputError for a disk that would shrink, CapacityError where its host has no room.

    ``sizes`` are MiB by the specification's fields. Without the host's word the stage itself will tell.
    """
    for field, size in sizes.items():
        what, has = _DISKS[field], getattr(spec, field)
        if size < has:
            raise InvalidInputError(
                f"the {what} of {spec.name} only grows",
                details=f"it has {format_mib(has)}, asked {format_mib(size)}",
                resolution="Ask for more, or create a new VM.",
            )
        if host is not None and size - has > host.disk_free_mib:
            raise CapacityError(
                f"host {host.name} has no room for a {what} of {format_mib(size)}",
                details=f"it grows by {format_mib(size - has)}, and {format_mib(host.disk_free_mib)} is free",
                resolution="Ask for less, or delete VMs and images.",
            )


def _refuse_below_seed(spec: VmSpec, hosts: list[HostInfo]) -> None:
    for host in hosts:
        image = host.image(spec.image)
        if image and spec.disk_mib < image.seed_mib:
            raise InvalidInputError(
                f"a work disk of {format_mib(spec.disk_mib)} is smaller than the seed of image {image.name}",
                details=f"asked {format_mib(spec.disk_mib)}, the seed has {format_mib(image.seed_mib)}",
                resolution=f"Ask for --disk {format_mib(image.seed_mib)} or more.",
            )
