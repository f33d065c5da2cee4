"""Errors as people see them: what, why, what to do."""

from __future__ import annotations

import os
import re
import sys
import traceback
from textwrap import indent

import typer

from banger.contracts.errors import BangerError

_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\u00a0-\U0010ffff]")


def printable(text: str) -> str:
    """Return the text without what could steer a terminal: parts of it may come from a guest."""
    return _UNPRINTABLE.sub("?", text.replace("\r\n", "\n"))


def say_error(error: BangerError, about: str = "") -> None:
    """Print an error to stderr: ``banger: BRIEF``, its details and its resolution indented."""
    prefix = f"banger: {about}: " if about else "banger: "
    brief, _, more = error.brief.strip().partition("\n")
    lines = [f"{prefix}{brief}"]
    lines += [indent(part.strip("\n"), "  ") for part in (more, error.details, error.resolution) if part]
    typer.echo(printable("\n".join(lines)), err=True)


def say_usage(error: typer.TyperException) -> None:
    """Print what is wrong with a command line, and where help is."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    typer.echo(printable(f"banger: {message[:1].lower()}{message[1:]}"), err=True)
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is not None:
        typer.echo(f"  See `{context.command_path} --help`.", err=True)


def say_unexpected(error: Exception) -> None:
    """Print a defect in one line; with BANGER_DEBUG set, its traceback before that."""
    if os.environ.get("BANGER_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    typer.echo(printable(f"banger: internal error: {said}"), err=True)
    typer.echo("  Please report it, with the traceback that BANGER_DEBUG=1 shows.", err=True)
