"""What the JUnit files of a job say, from the tar that its guest wrote."""

from __future__ import annotations

import tempfile
from functools import reduce
from pathlib import Path
from typing import NamedTuple

from banger.batch.files import unpack_files
from banger.batch.junit import add_tests, counts, durations, read_junit_file
from banger.batch.state import Tests
from banger.contracts.errors import InvalidInputError

MAX_FILES = 500


class Tested(NamedTuple):
    """Counts, how long each test file took (seconds), and what to say of files that are no JUnit."""

    tests: Tests | None
    took_s: dict[str, float]
    notes: tuple[str, ...]


def read_tested(tar: Path) -> Tested:
    """Read the JUnit files of a tar; ``tests`` is None where there is no valid one."""
    found: list[Tests] = []
    took_s: dict[str, float] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix=".junit-", dir=tar.parent) as scratch:
        directory = Path(scratch, "files")
        unpacked = unpack_files(tar, directory)
        for name in unpacked.names[:MAX_FILES]:
            try:
                suites = read_junit_file(directory / name)
            except (InvalidInputError, OSError) as error:
                notes.append(f"junit: {name}: {error}")
                continue
            found.append(counts(suites))
            for file, seconds in durations(suites).items():
                took_s[file] = took_s.get(file, 0.0) + seconds
    return Tested(reduce(add_tests, found) if found else None, took_s, (*unpacked.notes, *notes[:10]))
