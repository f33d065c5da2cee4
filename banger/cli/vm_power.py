"""Starting and ending VMs, several at once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from banger.cli import options
from banger.cli.session import session_of
from banger.cli.several import each
from banger.cli.vm_create import whereabouts


class Signal(StrEnum):
    """What a VMM can be sent."""

    TERM = "TERM"
    INT = "INT"
    KILL = "KILL"


def start(ctx: typer.Context, names: options.Refs, quiet: options.Quiet = False) -> int:
    """Boot stopped VMs and wait until they answer SSH.

    \b
    Examples:
      banger vm start dev
      banger vm start web-1 web-2 web-3
    """
    farm = session_of(ctx).farm
    return each(names, lambda ref, on_event: whereabouts(farm.start(ref, on_event)), quiet=quiet)


def stop(
    ctx: typer.Context, names: options.Refs, timeout: options.StopTimeout = None, quiet: options.Quiet = False
) -> int:
    """Shut VMs down and keep their disks. A guest that takes too long is ended by force.

    \b
    Examples:
      banger vm stop dev
      banger vm stop dev --timeout 1m
    """
    farm, timeout_s = session_of(ctx).farm, options.duration(timeout)
    return each(names, lambda ref, on_event: whereabouts(farm.stop(ref, timeout_s, on_event)), quiet=quiet)


def restart(
    ctx: typer.Context, names: options.Refs, timeout: options.StopTimeout = None, quiet: options.Quiet = False
) -> int:
    """Stop VMs and boot them again.

    \b
    Examples:
      banger vm restart dev
    """
    farm, timeout_s = session_of(ctx).farm, options.duration(timeout)
    return each(names, lambda ref, on_event: whereabouts(farm.restart(ref, timeout_s, on_event)), quiet=quiet)


def kill(
    ctx: typer.Context,
    names: options.Refs,
    signal: Annotated[
        Signal, typer.Option("--signal", "-s", case_sensitive=False, help="What the VMM is sent first.")
    ] = Signal.KILL,
    quiet: options.Quiet = False,
) -> int:
    """End VMs without asking their guests, as pulling the plug does. Their disks are kept.

    \b
    Examples:
      banger vm kill dev
      banger vm kill dev --signal TERM
    """
    farm = session_of(ctx).farm
    return each(names, lambda ref, on_event: whereabouts(farm.kill(ref, str(signal), on_event)), quiet=quiet)
