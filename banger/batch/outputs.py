"""What the front writes of a batch, and whether it can be: that is found out before the batch begins."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from banger.contracts.errors import InvalidInputError


class Outputs(NamedTuple):
    """What is to be written: directories for artifacts and logs, files for the rest."""

    artifacts: Path | None = None
    logs: Path | None = None
    junit: Path | None = None
    summary: Path | None = None

    def make_ready(self) -> None:
        """Make directories that are missing; InvalidInputError where something could not be written."""
        for path in (self.artifacts, self.logs):
            if path is not None:
                _make_ready(path, path)
        for path in (self.junit, self.summary):
            if path is not None:
                _make_ready(path, path.parent)
                if path.is_dir():
                    raise InvalidInputError(f"{path} is a directory", resolution="Name a file to write.")


def _make_ready(path: Path, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written: {error.strerror}", resolution="Name a place of your own."
        ) from None
