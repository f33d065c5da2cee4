"""What the commands of one command line share: the settings and the farm, made when first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import typer

    from banger.farm import Farm
    from banger.settings import Settings


class Session:
    """Settings and farm. ``failure_code`` is what the process ends with when banger itself fails."""

    def __init__(self) -> None:
        self.failure_code = 1

    @cached_property
    def settings(self) -> Settings:
        """This process's settings."""
        from banger.settings import load_settings

        return load_settings()

    @cached_property
    def farm(self) -> Farm:
        """The farm that the settings name."""
        from banger.farm import Farm

        return Farm(self.settings)


def session_of(ctx: typer.Context) -> Session:
    """Return the session of a command."""
    return cast("Session", ctx.find_root().obj)
