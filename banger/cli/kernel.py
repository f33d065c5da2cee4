"""The group ``banger kernel``: what boots this machine's images."""

from __future__ import annotations

import typer

from banger.cli import options
from banger.cli.columns import columns, print_json
from banger.cli.group import command, group
from banger.cli.image import age_of, catalogue_of

app = group("This machine's kernels.")


@command(app, "list")
def list_(ctx: typer.Context, as_json: options.Json = False) -> int:
    """List kernels, the newest first.

    \b
    Examples:
      banger kernel list
    """
    catalogue = catalogue_of(ctx)
    found = catalogue.kernels()
    if as_json:
        print_json([kernel.model_dump(mode="json") for kernel in found])
        return 0
    images = catalogue.list()
    rows = [
        (
            kernel.id,
            kernel.version,
            kernel.suite,
            ",".join(sorted({image.name for image in images if image.kernel == kernel.id})),
            age_of(kernel.created),
        )
        for kernel in found
    ]
    typer.echo(columns(("ID", "VERSION", "SUITE", "IMAGES", "AGE"), rows))
    return 0
