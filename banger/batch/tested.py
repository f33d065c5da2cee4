"""What the JUnit files of a job say, from the tar that its guest wrote."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from banger.batch.files import JUNIT_BOUNDS, unpack_files
from banger.batch.junit import MAX_DURATIONS, add_tests, counts, durations, read_junit_file
from banger.batch.state import Tests
from banger.contracts.errors import InvalidInputError

MAX_FILES = 500
MAX_NOTES = 10


class Tested(NamedTuple):
    """Counts, how long each test file took (seconds), and what to say of files that are no JUnit."""

    tests: Tests | None
    took_s: dict[str, float]
    notes: tuple[str, ...]


def read_tested(tar: Path) -> Tested:
    """Read the JUnit files of a tar; ``tests`` is None where there is no valid one.

    One file at a time is in memory, the first MAX_FILES count, and all of them lie beside the tar for as long
    as that takes. OSError where this machine's disk fails us.
    """
    tests: Tests | None = None
    took_s: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix=".junit-", dir=tar.parent) as scratch:
        directory = Path(scratch, "files")
        unpacked = unpack_files(tar, directory, JUNIT_BOUNDS)
        notes = [f"junit: {note}" for note in unpacked.notes]
        if len(unpacked.names) > MAX_FILES:
            notes.append(f"junit: {len(unpacked.names)} files, of which {MAX_FILES} were read")
        for name in unpacked.names[:MAX_FILES]:
            try:
                suites = read_junit_file(directory / name)
            except InvalidInputError as error:
                notes.append(f"junit: {_shown(name)}: {error.brief}")
                continue
            tests = add_tests(tests or Tests(), counts(suites))
            _add_times(took_s, durations(suites))
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES - 1 :] = [f"junit: {len(notes) - MAX_NOTES + 1} more files could not be read"]
    return Tested(tests, took_s, tuple(notes))


def _add_times(took_s: dict[str, float], more: dict[str, float]) -> None:
    for file, seconds in more.items():
        if file in took_s or len(took_s) < MAX_DURATIONS:
            took_s[file] = round(took_s.get(file, 0.0) + seconds, 6)


def _shown(name: str) -> str:
    """Return a guest's name for a file, fit for a line on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:100])
