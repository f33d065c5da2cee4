"""What a plan's file says, as options of ``batch run``: one for each of ``banger.batch.flags.Flags``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_Words = list[str] | None
_Text = str | None
_Number = int | None
_Switch = bool | None

Name = Annotated[_Text, typer.Option("--name", metavar="NAME", help="The batch's name; else the image's.")]
Count = Annotated[_Number, typer.Option("--count", metavar="N", help="Copies of each combination.")]
Shards = Annotated[_Number, typer.Option("--shards", metavar="N", help="Parts of each combination.")]
Nat = Annotated[_Switch, typer.Option("--nat/--no-nat", help="Let the guests reach the internet, or not.")]
Env = Annotated[_Words, typer.Option("--env", "-e", metavar="K=V", help="A variable; may be repeated.")]
Secret = Annotated[
    _Words,
    typer.Option(
        "--secret", metavar="NAME=env:VAR", help="A secret, from VAR or from file:PATH; may be repeated."
    ),
]
Upload = Annotated[
    _Words, typer.Option("--upload", metavar="PATH", help="Copied into each guest; may be repeated.")
]
Workdir = Annotated[
    _Text, typer.Option("--workdir", metavar="DIR", help="Where the commands run (/root/work).")
]
Setup = Annotated[
    _Words, typer.Option("--setup", metavar="LINE", help="A shell line to run first; may be repeated.")
]
Collect = Annotated[
    _Words, typer.Option("--collect", metavar="GLOB", help="A job's artifacts; may be repeated.")
]
CollectJunit = Annotated[
    _Words, typer.Option("--collect-junit", metavar="GLOB", help="A job's JUnit files; may be repeated.")
]
Timeout = Annotated[
    _Text, typer.Option("--timeout", metavar="TIME", help="How long a job's commands may take (1h).")
]
BatchTimeout = Annotated[
    _Text, typer.Option("--batch-timeout", metavar="TIME", help="How long all may take (1d).")
]
Retries = Annotated[
    _Text,
    typer.Option("--retries", metavar="infra=N,test=N", help="More attempts of a job (infra=1,test=0)."),
]
Keep = Annotated[
    _Text, typer.Option("--keep", metavar="WHEN", help="Keep the VM: never (default), on-failure, always.")
]
KeepTtl = Annotated[_Text, typer.Option("--keep-ttl", metavar="TIME", help="How long a kept VM stays (1h).")]
MaxParallel = Annotated[
    _Number, typer.Option("--max-parallel", metavar="N", help="Jobs at work at once, at most.")
]
FailFast = Annotated[
    _Switch, typer.Option("--fail-fast/--no-fail-fast", help="Stop at the first job that fails.")
]

# No flag of a plan's, but what the paths in one mean.
Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="DIR",
        help="What the plan's paths are relative to; else its own directory.",
        exists=True,
        file_okay=False,
    ),
]

# What is called as in a plan, and where it is not (--artifacts and --junit are what we write): flag -> name.
OPTIONS = {"artifacts": "collect", "junit": "collect_junit", "secrets": "secret"} | {
    flag: flag
    for flag in (
        *("name", "image", "count", "shards", "vcpus", "memory", "disk", "system_disk", "nat", "env"),
        *("upload", "workdir", "setup", "timeout", "batch_timeout", "retries", "keep", "keep_ttl"),
        *("max_parallel", "fail_fast", "host", "vmm", "disk_rate", "disk_ops", "net_rate"),
    )
}
