"""What an attempt of a batch's job leaves on its host, and how it is asked for: a piece at a time.

A host's files are reached from nowhere else. Who wants one orders a piece of it on that host's queue, again
and again; Redis holds a piece until it is read, a minute at most, and never more than a reader has asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import ConfigDict, Field

from banger.contracts.names import HostPaths
from banger.contracts.requests import Frozen

FileName = Literal["output.log", "artifacts.tar", "junit.tar", "upload.tar"]
PIECE_BYTES = 1024 * 1024
ANSWER_TTL_S = 60


class Piece(Frozen):
    """A piece of a file, and the file's size by now; ``size`` is None where there is no such file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    size: int | None
    data: Annotated[bytes, Field(max_length=PIECE_BYTES)] = b""


def attempt_directory(paths: HostPaths, batch: str, index: int, attempt: int) -> Path:
    """Return where an attempt's files lie on its host."""
    return paths.batches / batch / f"{index}-{attempt}"


def uploaded_spooled(paths: HostPaths, batch: str) -> Path:
    """Return where the front leaves what is uploaded, on the host where the batch was submitted."""
    return paths.spool / f"{batch}.upload"


def uploaded(paths: HostPaths, batch: str) -> Path:
    """Return where a host's worker keeps what was uploaded."""
    return paths.batches / batch / "upload.tar"


def secrets_left(paths: HostPaths, batch: str) -> Path:
    """Return where the front leaves the values of the plan's secrets, for that host's worker alone."""
    return paths.spool / f"{batch}.secrets"


def read_piece(file: IO[bytes], offset: int) -> Piece:
    """Return the piece of a file that begins at ``offset`` bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(offset)
    return Piece(size=size, data=file.read(PIECE_BYTES))
