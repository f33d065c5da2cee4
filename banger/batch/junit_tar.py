"""What a job's ``junit.tar`` says: counted on the job's host, so that nobody has to fetch it to know."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from banger.batch.files import JUNIT_BOUNDS, unpack_files
from banger.batch.junit import MAX_DURATIONS, add_tests, counts, durations, read_junit_file
from banger.batch.state import Tests
from banger.contracts.errors import InvalidInputError

MAX_NOTES = 10


class Counted(NamedTuple):
    """The tests of all files together, the seconds each test file took, and what could not be read."""

    tests: Tests
    took_s: dict[str, float]
    notes: tuple[str, ...]


def count_junit(tar: Path) -> Counted:
    """Count the tests of a job's JUnit files; none of them is believed, and one at a time is in memory.

    What the tar holds is unpacked beside it for as long as that takes. OSError where the disk fails us.
    """
    tests, took_s, notes = Tests(), dict[str, float](), list[str]()
    with tempfile.TemporaryDirectory(prefix=".junit-", dir=tar.parent) as scratch:
        unpacked = unpack_files(tar, Path(scratch, "files"), JUNIT_BOUNDS)
        notes += [f"junit: {note}" for note in unpacked.notes]
        for name in unpacked.names:
            try:
                suites = read_junit_file(Path(scratch, "files", name))
            except InvalidInputError as error:
                notes.append(f"{_shown(name)}: {error.brief}")
                continue
            tests = add_tests(tests, counts(suites))
            for key, seconds in durations(suites).items():
                if key in took_s or len(took_s) < MAX_DURATIONS:
                    took_s[key] = round(took_s.get(key, 0.0) + seconds, 6)
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES - 1 :] = [f"junit: {len(notes) - MAX_NOTES + 1} more files could not be read"]
    return Counted(tests, took_s, tuple(notes))


def _shown(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name[:100])
