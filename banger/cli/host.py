"""The group ``banger host``: what hosts have, what VMs have taken of it, and what runs VMs there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.columns import columns, pairs, print_json
from banger.cli.completion import host_names
from banger.cli.group import command, group
from banger.cli.session import session_of
from banger.contracts.errors import NotFoundError
from banger.contracts.sizes import format_mib

if TYPE_CHECKING:
    from banger.hosts import HostInfo
    from banger.placement import Used

app = group("The farm's hosts.")


@command(app, "list")
def list_(ctx: typer.Context, as_json: options.Json = False) -> int:
    """List hosts with what is used, what there is, and what runs VMs there.

    \b
    Examples:
      banger host list
    """
    farm = session_of(ctx).farm
    found = [(host, farm.records.used(host.name)) for host in farm.hosts()]
    if as_json:
        print_json([_as_data(host, used) for host, used in found])
        return 0
    rows = [
        (
            host.name,
            "yes" if host.alive else "no",
            f"{used.slots}/{host.slots}",
            f"{used.vcpus}/{host.vcpus}",
            f"{format_mib(used.memory_mib)}/{format_mib(host.memory_mib)}",
            _gib(host.disk_free_mib),
            ",".join(host.vmms),
            host.accelerator or "",
            host.disk_backend,
            ",".join(dict.fromkeys(image.name for image in host.images)),
        )
        for host, used in found
    ]
    heading = ("NAME", "ALIVE", "VMS", "VCPUS", "MEMORY", "DISK-FREE", "VMMS", "ACCEL", "DISKS", "IMAGES")
    typer.echo(columns(heading, rows))
    return 0


@command(app, "show")
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="HOST", help="The host's name.", autocompletion=host_names)],
    as_json: options.Json = False,
) -> int:
    """Show a host.

    \b
    Examples:
      banger host show kitchen
    """
    farm = session_of(ctx).farm
    hosts = farm.hosts()
    host = next((host for host in hosts if host.name == name), None)
    if host is None:
        raise NotFoundError(
            f"there is no host {name!r}",
            details=f"hosts: {', '.join(host.name for host in hosts) or 'none'}",
            resolution="A host joins the farm when its worker starts.",
        )
    used = farm.records.used(name)
    if as_json:
        print_json(_as_data(host, used))
        return 0
    images = [
        f"{image.name} ({image.id}), {format_mib(image.rootfs_mib)}"
        + (f", work seed {format_mib(image.seed_mib)}" if image.seed_mib else "")
        for image in host.images
    ]
    typer.echo(
        pairs(
            [
                ("Name", host.name),
                ("Alive", "yes" if host.alive else "no: nobody serves its queue"),
                ("VMs", f"{used.slots} of {host.slots}"),
                ("vCPUs", f"{used.vcpus} of {host.vcpus} given away"),
                ("Memory", f"{format_mib(used.memory_mib)} of {format_mib(host.memory_mib)} given away"),
                ("Disk free", _gib(host.disk_free_mib)),
                ("VMMs", "\n".join(_vmms(host))),
                ("Default VMM", _default_vmm(host)),
                ("Accelerator", host.accelerator or ""),
                ("Disk backend", host.disk_backend),
                ("Network", host.network),
                ("Uids", f"from {host.uid_base}"),
                ("Images", "\n".join(images)),
            ]
        )
    )
    return 0


def _as_data(host: HostInfo, used: Used) -> dict[str, Any]:
    free = {
        "slots": host.slots - used.slots,
        "memory_mib": host.memory_mib - used.memory_mib,
        "vcpus": host.vcpus - used.vcpus,
    }
    told = {"slots": host.slots, "used": used._asdict(), "free": free}
    return host.model_dump(mode="json") | {"vmms": host.vmms, "default_vmm": host.default_vmm} | told


def _vmms(host: HostInfo) -> Iterable[str]:
    """Yield a line for each VMM, with why it can run no VM there."""
    for name, obstacle in (host.vmm_obstacles or {}).items():
        yield f"no {name}: {obstacle}" if obstacle else name


def _default_vmm(host: HostInfo) -> str:
    """Return what runs a VM for which no VMM is asked, and what is configured there."""
    return f"{host.default_vmm or 'none'} (vmm = {host.vmm})" if host.vmm else ""


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f}GiB"
