"""What ``batch run`` and ``batch attach`` can be asked to show and to write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
