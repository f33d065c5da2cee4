"""Groups and commands, all set up alike: plain help that loads fast and reads well in a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_WORD_TYPE = re.compile(r" <(?:str|path|list\[str\])>$")
_WORDS = "banger.words"


class _Command(TyperCommand):
    """A command whose usage line is written as in manual pages, and whose arguments are plainly words."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line, without braces around what is required."""
        pieces = [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]
        return ["-- COMMAND..." if piece == "COMMAND..." else piece for piece in pieces]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options; that an argument is a string needs no saying."""
        super().format_options(ctx, formatter)
        formatter.buffer = [_WORD_TYPE.sub(_blank, piece) for piece in formatter.buffer]


class _WithCommand(_Command):
    """A command after whose arguments ``--`` and a command line may come, which is kept apart from them."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take what comes before ``--``; ``words_after`` gives the rest."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_WORDS] = args[:at], tuple(args[at + 1 :])
        return super().parse_args(ctx, args)


def words_after(ctx: typer.Context) -> tuple[str, ...]:
    """Return what stands after ``--`` on the command line of a command that may have that."""
    words: tuple[str, ...] = ctx.meta.get(_WORDS, ())
    return words


class _InOrder(TyperGroup):
    """A group that lists its commands in the order of ``FIRST``, then as they were added."""

    FIRST = ("vm", "run", "batch", "job", "image", "kernel", "host", "farm", "system")

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        names = super().list_commands(ctx)
        return [name for name in self.FIRST if name in names] + [
            name for name in names if name not in self.FIRST
        ]


def group(summary: str, *, completion: bool = False) -> typer.Typer:
    """Return a group of commands; called without one of them it prints its help and ends with 2."""
    app = typer.Typer(
        help=summary,
        cls=_InOrder,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=completion,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(require_command)
    return app


def command(
    app: typer.Typer, name: str, *, with_command: bool = False, **settings: Any
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add a function to a group as the command ``name``; what it returns is the exit code.

    ``with_command``: a command line may follow after ``--``, for ``words_after``.
    """
    return app.command(name, cls=_WithCommand if with_command else _Command, **settings)


def require_command(ctx: typer.Context) -> None:
    """Print the help of a group that was called without a command, and end with 2."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def _blank(found: re.Match[str]) -> str:
    return " " * len(found.group())
