"""The group ``banger image``: this machine's images."""

from __future__ import annotations

import time
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from banger.advice import START
from banger.cli import options
from banger.cli.columns import columns, pairs, print_json
from banger.cli.completion import local_images
from banger.cli.failure import say_error
from banger.cli.group import command, group
from banger.cli.session import Session, session_of
from banger.contracts.durations import format_duration
from banger.contracts.errors import BangerError, ConflictError, UnavailableError

if TYPE_CHECKING:
    from banger.images import Catalogue, FileDigest

app = group("Build and manage this machine's images.")

ImageRef = Annotated[
    str, typer.Argument(metavar="IMAGE", help="The image's name or id.", autocompletion=local_images)
]


class Recipe(StrEnum):
    """What can be built."""

    MICRO = "micro"
    DEBIAN = "debian"


@command(app, "build")
def build(
    ctx: typer.Context,
    recipe: Annotated[
        Recipe,
        typer.Argument(metavar="RECIPE", help="micro: busybox and dropbear. debian: systemd and OpenSSH."),
    ],
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="SUITE", help="Debian release; else this machine's own.")
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="PACKAGE", help="One more package; may be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call it; else as the recipe.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", metavar="URL", help="Debian mirror; else this machine's apt sources."),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Build an image from Debian packages, and the kernel that boots it. Needs root.

    \b
    Examples:
      sudo banger image build micro
      sudo banger image build debian --include git --include make --name ci
    """
    from banger.accelerator import probe
    from banger.images import build_image

    manifest = build_image(
        recipe.value,
        session_of(ctx).settings.paths,
        suite=suite,
        mirror=mirror,
        include=include or (),
        as_name=name,
        progress=lambda line: typer.echo(line, err=True),
    )
    probe(session_of(ctx).settings)  # a fresh host had no kernel to probe KVM with before
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        typer.echo(f"{manifest.name}: built as {manifest.id}")
    return 0


@command(app, "list")
def list_(ctx: typer.Context, as_json: options.Json = False) -> int:
    """List images, the newest of a name first.

    \b
    Examples:
      banger image list
    """
    images = catalogue_of(ctx).list()
    if as_json:
        print_json([image.model_dump(mode="json") for image in images])
        return 0
    rows = [
        (
            image.name,
            image.id,
            image.suite,
            image.ssh,
            _mib(image.rootfs),
            _mib(image.work_seed),
            image.kernel,
            age_of(image.created),
        )
        for image in images
    ]
    typer.echo(columns(("NAME", "ID", "SUITE", "SSH", "ROOTFS", "SEED", "KERNEL", "AGE"), rows))
    return 0


@command(app, "show")
def show(ctx: typer.Context, image: ImageRef, as_json: options.Json = False) -> int:
    """Show an image: the newest of a name, or the one with this id.

    \b
    Examples:
      banger image show micro
    """
    found = catalogue_of(ctx).resolve(image)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return 0
    files = [(name, f"{digest.bytes} bytes, sha256 {digest.sha256}") for name, digest in found.files.items()]
    typer.echo(
        pairs(
            [
                ("Name", found.name),
                ("Id", found.id),
                ("Suite", found.suite),
                ("SSH server", found.ssh),
                ("Packages", " ".join(found.packages)),
                ("Kernel", found.kernel),
                ("Built", f"{found.created:%Y-%m-%d %H:%M:%S %Z}"),
                *files,
            ]
        )
    )
    return 0


@command(app, "delete")
def delete(
    ctx: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE", help="Names (all their versions) or ids.", autocompletion=local_images
        ),
    ],
) -> int:
    """Delete images, and kernels that no image needs any more. Refused while a VM uses one. Needs root.

    \b
    Examples:
      sudo banger image delete ci
    """
    catalogue, users = catalogue_of(ctx), _users(session_of(ctx))
    worst = 0
    for ref in dict.fromkeys(images):
        try:
            deleted = catalogue.delete(ref, users)
        except BangerError as error:
            say_error(error)
            worst = max(worst, error.exit_code)
        else:
            typer.echo(f"{ref}: deleted {', '.join(image.id for image in deleted)}")
    return worst


def catalogue_of(ctx: typer.Context) -> Catalogue:
    """Return this machine's catalogue."""
    from banger.images import Catalogue

    return Catalogue(session_of(ctx).settings.paths)


def _users(session: Session) -> dict[str, list[str]]:
    """Return the names of VMs by the image they use. Without the farm's word, any VM here may use any."""
    from banger.contracts.names import is_id

    users: dict[str, list[str]] = {}
    try:
        for record in session.farm.list():
            users.setdefault(record.image, []).append(record.name)
    except UnavailableError as error:
        vms = session.settings.paths.vms
        if not vms.is_dir() or not any(is_id(entry.name) for entry in vms.iterdir()):
            return users
        raise ConflictError(
            "this host has VMs, and the farm cannot say which images they use",
            details=error.brief,
            resolution=f"{START} Then try again.",
        ) from error
    return users


def _mib(digest: FileDigest | None) -> str:
    return "" if digest is None else f"{-(-digest.bytes // 2**20)}MiB"


def age_of(created: datetime) -> str:
    """Return how long ago something was built."""
    return format_duration(time.time() - created.timestamp())
