"""Arguments and options that several commands share, each described once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from banger.cli.completion import host_images, host_names, vm_names
from banger.contracts.durations import parse_duration
from banger.contracts.errors import InvalidInputError
from banger.contracts.sizes import parse_mib

Ref = Annotated[str, typer.Argument(metavar="NAME", help="The VM's name or id.", autocompletion=vm_names)]
Refs = Annotated[
    list[str], typer.Argument(metavar="NAME", help="VMs by name or id.", autocompletion=vm_names)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show the stages.")]
StopTimeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="How long the guest may take to shut down (10m at most), then by force.",
    ),
]

ImageOption = Annotated[
    str | None, typer.Option("--image", metavar="NAME", help="Image name or id.", autocompletion=host_images)
]
Vcpus = Annotated[int | None, typer.Option("--vcpus", metavar="N", help="Virtual processors.")]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory, such as 512MiB.")]
Disk = Annotated[
    str | None, typer.Option("--disk", metavar="SIZE", help="Work disk (the guest's /root), such as 8GiB.")
]
SystemDisk = Annotated[
    str | None, typer.Option("--system-disk", metavar="SIZE", help="Room for changes to the system disk.")
]
Nat = Annotated[bool, typer.Option("--nat", help="Let the guest reach the internet.")]
Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="Delete the VM after this time: 30m, 2h, 1d.")
]
Label = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")
]
Autostart = Annotated[
    bool | None,
    typer.Option("--autostart/--no-autostart", help="Boot it again when its host was rebooted while it ran."),
]
Vmm = Annotated[
    str | None,
    typer.Option("--vmm", metavar="VMM", help="What runs it: auto (its host decides), qemu or firecracker."),
]
DiskRate = Annotated[
    str | None,
    typer.Option("--disk-rate", metavar="SIZE", help="What each disk moves a second at most, such as 50MiB."),
]
DiskOps = Annotated[
    int | None, typer.Option("--disk-ops", metavar="N", help="Operations of each disk a second at most.")
]
NetRate = Annotated[
    str | None,
    typer.Option(
        "--net-rate", metavar="SIZE", help="What it sends, and receives, a second at most (Firecracker only)."
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host", metavar="NAME", help="The host to run on; else one is chosen.", autocompletion=host_names
    ),
]


def parse_labels(labels: list[str] | None) -> dict[str, str]:
    """Return ``key=value`` options as a dictionary; InvalidInputError for other text or a key given twice."""
    parsed: dict[str, str] = {}
    for text in labels or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidInputError(
                f"label {text!r} is not KEY=VALUE", resolution="Write it like --label team=web."
            )
        if key in parsed:
            raise InvalidInputError(f"label {key!r} is given twice", resolution="Give each label once.")
        parsed[key] = value
    return parsed


def wanted(
    *,
    image: str | None,
    vcpus: int | None,
    memory: str | None,
    disk: str | None,
    system_disk: str | None,
    nat: bool,
    ttl: str | None,
    label: list[str] | None,
    host: str | None,
    autostart: bool | None = None,
    vmm: str | None = None,
    disk_rate: str | None = None,
    disk_ops: int | None = None,
    net_rate: str | None = None,
) -> dict[str, Any]:
    """Return the options of a new VM in the words of ``Farm.spec``; None where the default is wanted."""
    return {
        "image": image,
        "vcpus": vcpus,
        "memory_mib": size(memory, "memory"),
        "disk_mib": size(disk, "disk"),
        "system_overlay_mib": size(system_disk, "system disk"),
        "nat": nat,
        "ttl_s": None if ttl is None else parse_duration(ttl, "ttl"),
        "labels": parse_labels(label),
        "host": host,
        "autostart": autostart,
        "vmm": vmm,
        "disk_rate_mib_s": size(disk_rate, "disk rate"),
        "disk_ops_s": disk_ops,
        "net_rate_mib_s": size(net_rate, "net rate"),
    }


def size(text: str | None, what: str) -> int | None:
    """Return an optional size in MiB."""
    return None if text is None else parse_mib(text, what)


def duration(text: str | None, what: str = "timeout") -> float | None:
    """Return an optional time in seconds; ``0`` is allowed, and means at once."""
    if text is None:
        return None
    return 0.0 if text.strip() in ("0", "0s") else parse_duration(text, what)
