"""What ``batch run`` and ``batch attach`` can be asked to show and to write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from banger.batch.outputs import Outputs

Junit = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write one JUnit file of all jobs.", show_default=False),
]
Summary = Annotated[
    Path | None,
    typer.Option("--summary", metavar="FILE", help="Write a summary in Markdown.", show_default=False),
]
Artifacts = Annotated[
    Path | None,
    typer.Option(
        "--artifacts", metavar="DIR", help="Bring artifacts here, a directory a job.", show_default=False
    ),
]
Logs = Annotated[
    Path | None,
    typer.Option("--logs", metavar="DIR", help="Bring each job's log here.", show_default=False),
]
Follow = Annotated[
    str | None,
    typer.Option("--follow", metavar="JOB", help="Print what this job prints, instead of the table."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No table; of jobs that did not pass alone, a line each.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the verdict as JSON on stdout, all else on stderr.")
]

OURS_FAILED = 3
"""What we end with when we fail ourselves: 1 would be that a job's command did."""

EXIT_CODES = """\b
Exit codes:
  0    all jobs passed
  1    a job's command failed, or took too long
  2    what was asked for is refused, and nothing was begun
  3    no command failed, but the infrastructure did, or banger itself
  130  cancelled, or left with Ctrl-C"""


def outputs(ctx: typer.Context) -> Outputs:
    """Return what a command is asked to write."""
    from banger.batch.outputs import Outputs

    return Outputs(**{name: ctx.params[name] for name in Outputs._fields})
