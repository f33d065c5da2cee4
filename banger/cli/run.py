"""``banger run``: a command in a VM of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from banger.cli import options
from banger.cli.columns import print_json
from banger.cli.follow import follow
from banger.cli.progress import stage_view
from banger.cli.session import session_of
from banger.cli.vm_guest import EXEC_FAILED
from banger.contracts.durations import parse_duration
from banger.contracts.errors import InternalError

if TYPE_CHECKING:
    from banger.output import Output

_TIMEOUT_S = 3600.0


def run(
    ctx: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command, word for word.")],
    image: options.ImageOption = None,
    keep: Annotated[
        bool, typer.Option("--keep/--rm", help="Keep the VM, or remove it (the default).")
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Cut the command off after this time (1h)."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The VM's name.")] = None,
    vcpus: options.Vcpus = None,
    memory: options.Memory = None,
    disk: options.Disk = None,
    system_disk: options.SystemDisk = None,
    nat: options.Nat = False,
    ttl: options.Ttl = None,
    label: options.Label = None,
    host: options.Host = None,
    vmm: options.Vmm = None,
    disk_rate: options.DiskRate = None,
    disk_ops: options.DiskOps = None,
    net_rate: options.NetRate = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """Make a VM, run a command in it, remove it.

    The exit code is the command's, and 125 where banger itself failed.

    The VM is removed whatever happens, also on Ctrl-C. The command has no stdin: make a VM and use `banger vm
    exec` for that. With --json, stdout has the result alone, and all that the command prints goes to stderr.

    \b
    Examples:
      banger run -- uname -a
      banger run --image debian --memory 2GiB --nat -- sh -c 'apt-get update && apt-get -y install gcc'
      banger run --keep --name probe -- ls /
    """
    session = session_of(ctx)
    session.failure_code = EXEC_FAILED
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
    )
    timeout_s = _TIMEOUT_S if timeout is None else parse_duration(timeout, "timeout")
    spec = session.farm.run_spec(name, keep=keep, **asked)
    submission = session.farm.submit_run(spec, command, timeout_s, keep=keep)
    out = sys.stderr.buffer if as_json else sys.stdout.buffer
    outcome = follow(submission, stage_view(quiet=quiet, keep=False), _Copier(out))
    if outcome.exit_code is None:
        raise InternalError("the command ended without an exit code")
    if as_json:
        told = {"id": submission.vm_id, "name": spec.name, "job": submission.job}
        print_json(told | {"state": outcome.state, "exit_code": outcome.exit_code})
    elif keep:
        typer.echo(f"banger: VM {spec.name} stays; `banger vm delete {spec.name}` removes it", err=True)
    return outcome.exit_code


class _Copier:
    """Copies output as it comes, byte for byte."""

    def __init__(self, stdout: BinaryIO) -> None:
        self._streams = {"stdout": stdout, "stderr": sys.stderr.buffer}

    def __call__(self, output: Output) -> None:
        """Write a chunk at once."""
        stream = self._streams[output.stream]
        stream.write(output.data)
        stream.flush()
