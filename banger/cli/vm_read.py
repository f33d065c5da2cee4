"""Reading about VMs: the list, one VM in full, its timeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.columns import columns, pairs, print_json
from banger.cli.session import Session, session_of
from banger.cli.timeline import timeline_text
from banger.contracts.durations import format_duration
from banger.contracts.sizes import format_mib
from banger.contracts.states import State

if TYPE_CHECKING:
    from banger.contracts.dm_snapshot import Overlay
    from banger.contracts.spec import VmSpec
    from banger.records import Record

_HEADING = ("NAME", "ID", "STATE", "HOST", "IMAGE", "VCPUS", "MEMORY", "ADDRESS", "AGE", "LABELS")


def list_(
    ctx: typer.Context,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only VMs in this state; may be repeated.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", metavar="KEY[=VALUE]", help="Only VMs with this label; may be repeated."
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """List VMs, the oldest first.

    \b
    Examples:
      banger vm list
      banger vm list --state running --label team=web
      banger vm list --json
    """
    records = [
        record
        for record in session_of(ctx).farm.list()
        if (not state or record.state in state) and all(_labelled(record, text) for text in label or [])
    ]
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        typer.echo(columns(_HEADING, [_cells(record) for record in records]))
    return 0


def show(
    ctx: typer.Context,
    name: options.Ref,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Also what happened to it, stage by stage.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Show a VM.

    \b
    Examples:
      banger vm show dev
      banger vm show dev --timeline
    """
    session = session_of(ctx)
    record = session.farm.show(name)
    found = session.farm.found(record)
    overlay = found.overlay if found else None
    vmm = f"{found.vmm}, {found.accelerator}" if found and found.vmm and found.alive else None
    events = session.farm.timeline(record.id) if timeline else []
    if as_json:
        more: dict[str, Any] = {"overlay": overlay.model_dump(mode="json") if overlay else None, "vmm": vmm}
        if timeline:
            more["timeline"] = [event.model_dump(mode="json") for event in events]
        print_json(record.model_dump(mode="json") | more)
        return 0
    typer.echo(pairs(_facts(record, session, overlay, vmm)))
    if timeline:
        typer.echo(f"\n{timeline_text(events)}")
    return 0


def _labelled(record: Record, text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in record.spec.labels and (not equals or record.spec.labels[key] == value)


def _cells(record: Record) -> tuple[object, ...]:
    spec = record.spec
    return (
        record.name,
        record.id,
        record.state,
        record.host,
        spec.image,
        spec.vcpus,
        format_mib(spec.memory_mib),
        record.address or "",
        format_duration(time.time() - record.created_at),
        _labels(record),
    )


def _facts(
    record: Record, session: Session, overlay: Overlay | None, vmm: str | None
) -> list[tuple[str, object]]:
    spec = record.spec
    used = f", {overlay}" if overlay else ""
    facts: list[tuple[str, object]] = [
        ("Name", record.name),
        ("Id", record.id),
        ("State", record.state),
        ("Host", record.host),
        ("Address", record.address or ""),
        ("Image", f"{spec.image} ({record.image})"),
        ("Kernel", record.kernel),
        ("VMM", vmm or f"{spec.vmm}, when it runs"),
        ("vCPUs", spec.vcpus),
        ("Memory", format_mib(spec.memory_mib)),
        ("Work disk", format_mib(spec.disk_mib)),
        ("System disk", f"{format_mib(spec.system_overlay_mib)} for changes{used}"),
        ("Internet", "by NAT" if spec.nat else "no"),
        ("Autostart", "when its host was rebooted" if spec.autostart else "no"),
        ("Labels", _labels(record)),
        ("Created", _when(record.created_at)),
        ("Starts", record.generation),
    ]
    if rates := _rates(record.spec):
        facts.append(("Limits", rates))
    if record.expires_at is not None:
        left = format_duration(record.expires_at - time.time())
        facts.append(("Expires", f"{_when(record.expires_at)} (in {left})"))
    if record.job is not None:
        facts.append(("Job", record.job))
    if record.host == session.settings.host and record.state is not State.LOST:
        facts.append(("Console", session.settings.paths.serial_log(record.id)))
    if record.error:
        said = [record.error.get(part) for part in ("brief", "details", "resolution")]
        stage, pipeline = record.error.get("stage"), record.error.get("pipeline")
        where = f"in {stage} of {pipeline}" if stage and pipeline else f"in {stage}" if stage else ""
        if record.state is State.ERROR and not record.error.get("resolution"):
            said.append(_way_out(record))
        facts.append(("Error", "\n".join(filter(None, [where, *said]))))
    return facts


def _way_out(record: Record) -> str:
    """Return what can be done about a VM in error whose error does not say."""
    if record.slot is None:  # its name may be another's by now
        return f"`banger vm delete {record.id}` removes it."
    return f"`banger vm start {record.name}` tries again, `banger vm delete {record.name}` removes it."


def _rates(spec: VmSpec) -> str:
    """Return what is limited a second, empty where nothing is."""
    disk = [] if spec.disk_rate_mib_s is None else [f"{format_mib(spec.disk_rate_mib_s)}/s"]
    disk += [] if spec.disk_ops_s is None else [f"{spec.disk_ops_s} operations/s"]
    network = [] if spec.net_rate_mib_s is None else [f"network {format_mib(spec.net_rate_mib_s)}/s"]
    return "; ".join([*([f"each disk {', '.join(disk)}"] if disk else []), *network])


def _labels(record: Record) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(record.spec.labels.items()))


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))
