"""``banger batch schema``: what may be in a plan's file, for editors and their like."""

from __future__ import annotations

import typer

from banger.cli.columns import print_json


def schema(ctx: typer.Context) -> int:
    """Print the JSON Schema of a plan's file.

    \b
    Examples:
      banger batch schema > plan.schema.json
    """
    from banger.batch.load import schema as plan_schema

    print_json(plan_schema())
    return 0
