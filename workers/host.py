"""What an unprivileged stage is given beside its request: this host, and its job's line to the user."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Literal

from banger.batch.fetching import Fetcher
from banger.batch.store import Batches
from banger.contracts.names import HostPaths


@dataclass(frozen=True)
class WorkHost:
    """This host, as the unprivileged worker sees it. ``names``: it has a name server of the farm's.

    ``stopping`` is set when the worker shuts down.
    """

    name: str
    paths: HostPaths
    network: IPv4Network
    uid_base: int
    disk_backend: Literal["auto", "reflink", "copy", "dm-snapshot"] = "auto"
    names: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)


def _nothing() -> str:
    return ""


def _discard(_stream: Literal["stdout", "stderr"], _chunk: bytes) -> None:
    return


@dataclass(frozen=True)
class StageContext:
    """A stage's surroundings: its host, why its job is to stop (``stopped``), and where its output goes.

    While nobody wants it to stop, ``wish`` returns nothing.
    """

    host: WorkHost
    wish: Callable[[], str] = _nothing
    emit: Callable[[Literal["stdout", "stderr"], bytes], None] = _discard


@dataclass(frozen=True, kw_only=True)
class BatchContext(StageContext):
    """What a stage of a batch's job is given beside: what the batch is to do, and what other hosts have."""

    batches: Batches
    fetcher: Fetcher
