"""``banger vm create`` and ``banger vm set``: what a VM shall be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from banger.cli import options
from banger.cli.columns import print_json
from banger.cli.follow import follow
from banger.cli.interrupt import Followed
from banger.cli.progress import Stopwatch, stage_view
from banger.cli.session import session_of

if TYPE_CHECKING:
    from banger.records import Record


def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A DNS label that no other VM has.")],
    image: options.ImageOption = None,
    vcpus: options.Vcpus = None,
    memory: options.Memory = None,
    disk: options.Disk = None,
    system_disk: options.SystemDisk = None,
    nat: options.Nat = False,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Boot it, or only make its disks.")
    ] = True,
    ttl: options.Ttl = None,
    label: options.Label = None,
    host: options.Host = None,
    vmm: options.Vmm = None,
    disk_rate: options.DiskRate = None,
    disk_ops: options.DiskOps = None,
    net_rate: options.NetRate = None,
    autostart: options.Autostart = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the end, or only for the job's acceptance.")
    ] = True,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """Make a VM and wait until it answers SSH.

    Ctrl-C cancels it, and waits until what was made is removed again.

    \b
    Examples:
      banger vm create dev
      banger vm create web --image debian --memory 1GiB --nat --label team=web
      banger vm create ci-7 --ttl 2h --no-wait --json
      banger vm create slow --vmm firecracker --disk-rate 50MiB --net-rate 10MiB
    """
    farm, watch = session_of(ctx).farm, Stopwatch()
    asked = options.wanted(
        image=image,
        vcpus=vcpus,
        memory=memory,
        disk=disk,
        system_disk=system_disk,
        nat=nat,
        ttl=ttl,
        label=label,
        host=host,
        vmm=vmm,
        disk_rate=disk_rate,
        disk_ops=disk_ops,
        net_rate=net_rate,
        autostart=autostart,
    )
    submission = farm.submit_create(farm.spec(name, **asked), start=start)
    if not wait:
        submission.accepted()
        accepted = {"id": submission.vm_id, "name": name, "job": submission.job}
        if as_json:
            print_json(accepted)
        else:
            typer.echo(f"{name}: accepted (id {submission.vm_id}, job {submission.job})")
        return 0
    follow(submission, stage_view(quiet=quiet))
    record = farm.show(submission.vm_id)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        typer.echo(f"{record.name}: {whereabouts(record)} after {watch}")
    return 0


def set_(
    ctx: typer.Context,
    name: options.Ref,
    vcpus: options.Vcpus = None,
    memory: options.Memory = None,
    disk: options.Disk = None,
    system_disk: options.SystemDisk = None,
    autostart: options.Autostart = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """Change a stopped VM. Its disks only grow.

    \b
    Examples:
      banger vm set dev --memory 1GiB --vcpus 2
      banger vm set dev --disk 16GiB
      banger vm set dev --system-disk 16GiB
      banger vm set dev --autostart
    """
    farm = session_of(ctx).farm
    sizes = {
        "memory_mib": options.size(memory, "memory"),
        "disk_mib": options.size(disk, "disk"),
        "system_overlay_mib": options.size(system_disk, "system disk"),
    }
    followed = Followed()
    with stage_view(quiet=quiet, keep=False) as view, followed.left_by_ctrl_c(view.note):
        heard = followed.hearing(name, view.event)
        record = farm.set(name, vcpus=vcpus, **sizes, autostart=autostart, on_event=heard)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        typer.echo(f"{record.name}: changed; the next start shows it to the guest")
    return 0


def whereabouts(record: Record) -> str:
    """Return a VM's state, and its address where it has one that answers."""
    running = record.state == "running" and record.address
    return f"{record.state} at {record.address}" if running else str(record.state)
