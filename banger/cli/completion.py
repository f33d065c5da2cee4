"""What the shell completes: names and ids. No complaints, and no waiting prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable

import typer

from banger.cli.session import session_of

DEADLINE_S = 1.0


def vm_names(ctx: typer.Context) -> list[str]:
    """Return the names of the farm's VMs."""
    return _in_time(lambda: [record.name for record in session_of(ctx).farm.list()])


def job_ids(ctx: typer.Context) -> list[str]:
    """Return the ids of the jobs that are not over."""
    return _in_time(lambda: [job.id for job in session_of(ctx).farm.jobs()])


def batch_refs(ctx: typer.Context) -> list[str]:
    """Return what batches can be named by: their ids, their names, and the word for the youngest."""

    def refs() -> list[str]:
        known = session_of(ctx).farm.batches.store.all()
        return ["last", *(ref for info in known for ref in (info.id, info.name))] if known else []

    return _in_time(refs)


def batch_jobs(ctx: typer.Context) -> list[str]:
    """Return the numbers of the jobs of the batch that was named before."""

    def numbers() -> list[str]:
        store = session_of(ctx).farm.batches.store
        return [str(index) for index in range(store.find(ctx.params["batch"]).total)]

    return _in_time(numbers)


def host_images(ctx: typer.Context) -> list[str]:
    """Return the names of the images that hosts have."""
    return _in_time(lambda: [image.name for host in session_of(ctx).farm.hosts() for image in host.images])


def host_names(ctx: typer.Context) -> list[str]:
    """Return the names of the farm's hosts."""
    return _in_time(lambda: [host.name for host in session_of(ctx).farm.hosts()])


def local_images(ctx: typer.Context) -> list[str]:
    """Return the names of this machine's images."""

    def names() -> list[str]:
        from banger.images.catalogue import Catalogue

        return [image.name for image in Catalogue(session_of(ctx).settings.paths).list()]

    return _in_time(names)


def _in_time(names: Callable[[], list[str]]) -> list[str]:
    """Return the names, or none where they do not come in time or at all."""
    found: list[str] = []

    def work() -> None:
        try:
            found.extend(sorted(set(names())))
        except Exception:
            return  # a prompt is no place for complaints: the command itself will say what is wrong

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return list(found)
