"""Test files over shards, so that all shards take about as long, by what the files took in the past."""

from __future__ import annotations

import heapq
import math
import posixpath
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from banger.batch.globs import Globs
from banger.batch.ignoring import Ignored
from banger.batch.plan import MAX_SHARD_FILES, Plan
from banger.batch.upload_tree import below
from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError

_MAX_SEEN = 1_000_000
_MAX_NAMED = 5


def sharded(plan: Plan, directory: Path, times: Mapping[str, float]) -> Plan:
    """Return the plan with the files of its shards, where it has a split; ``times`` is as JUnit names things.

    ``directory`` is the plan's. InvalidInputError as of ``files_of``, and for a shard of none or too many.
    """
    if plan.split is None:
        return plan
    files = files_of(plan.split.files, directory)
    if len(files) < (shards := plan.shards or 1):
        raise InvalidInputError(
            f"the plan has {shards} shards, and only {len(files)} files to split",
            resolution="Have fewer shards: most test commands run everything where they are given no file.",
        )
    known = times_of_files(times, files) if plan.split.by == "junit-times" else {}
    parts = split(files, known, shards)
    try:
        return Plan.model_validate(plan.model_dump(exclude_unset=True) | {"shard_files": parts})
    except ValidationError as error:
        raise InvalidInputError(
            "the test files cannot be split like this", details="\n".join(complaints(error))
        ) from None


def files_of(globs: Sequence[str], directory: Path) -> tuple[str, ...]:
    """Return the files below ``directory`` that the globs mean, without those left out by .bangerignore.

    They are sorted. InvalidInputError where there are none, more than MAX_SHARD_FILES, or some that have
    whitespace in their names.
    """
    root, wanted = directory.resolve(), Globs(globs)
    found = []
    for seen, entry in enumerate(below("", root, Ignored(root))):
        if seen >= _MAX_SEEN:
            raise InvalidInputError(f"{directory} has more than {_MAX_SEEN} files to look at")
        if stat.S_ISREG(entry.status.st_mode) and wanted.matches(entry.path):
            found.append(entry.path)
    if not found:
        raise InvalidInputError(
            f"no file of {directory} is meant by {', '.join(globs)}",
            resolution="Globs are relative to the plan's directory, and .bangerignore leaves files out.",
        )
    if len(found) > MAX_SHARD_FILES:
        raise InvalidInputError(f"{len(found)} files are to be split; {MAX_SHARD_FILES} is the most")
    _refuse_whitespace(found)
    return tuple(sorted(found))


def split(files: Sequence[str], times: Mapping[str, float], shards: int) -> tuple[tuple[str, ...], ...]:
    """Return the files of each shard: the longest first, each to the shard that has least to do yet.

    ``times`` is seconds by file; a file without one counts as the median of the others, and where no file has
    one they are dealt out in turn. The same input is the same split. A shard may be left without files.
    InvalidInputError for a name with whitespace: a shard's files are one variable, with spaces between.
    """
    files = sorted(set(files))
    _refuse_whitespace(files)
    known = {file: times[file] for file in files if file in times and _is_time(times[file])}
    if not known:
        return tuple(tuple(files[shard::shards]) for shard in range(shards))
    usual = median(known.values())
    parts: list[list[str]] = [[] for _ in range(shards)]
    loads = [(0.0, 0, shard) for shard in range(shards)]  # seconds, files, and which
    for file in sorted(files, key=lambda file: (-known.get(file, usual), file)):
        load, count, shard = loads[0]
        parts[shard].append(file)
        heapq.heapreplace(loads, (load + known.get(file, usual), count + 1, shard))
    return tuple(tuple(sorted(part)) for part in parts)


def times_of_files(times: Mapping[str, float], files: Iterable[str]) -> dict[str, float]:
    """Return seconds by file, of seconds by what JUnit's test cases name: ``file``, or ``classname``.

    A path may begin further up or further down than ours, and a class name is the file's path with dots and
    maybe classes behind it (``tests.unit.test_x.TestFoo``). What may be of several files is of none.
    """
    paths, modules = _Endings("/"), _Endings(".")
    for file in files:
        paths.add(file, file)
        modules.add(posixpath.splitext(file)[0].replace("/", "."), file)
    found: dict[str, float] = defaultdict(float)
    for key, seconds in times.items():
        whose = _file_of(key, paths, modules)
        if whose is not None and _is_time(seconds):
            found[whose] += seconds
    return dict(found)


def _file_of(key: str, paths: _Endings, modules: _Endings) -> str | None:
    path = posixpath.normpath(key)
    candidates = [paths.whole(path)]
    candidates += [paths.whole(ending) for ending in _endings(path, "/")]
    candidates += [paths.ending(path)]
    starts = [*_starts(key, ".")]
    candidates += [modules.whole(start) for start in starts]
    candidates += [modules.ending(start) for start in starts]
    return next((file for file in candidates if file is not None), None)


def _is_time(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds >= 0


class _Endings:
    """Files by their names, and by every ending of a name that is one file's alone."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._whole: dict[str, str | None] = {}
        self._ending: dict[str, str | None] = {}

    def add(self, name: str, file: str) -> None:
        self._whole[name] = None if name in self._whole else file
        for ending in _endings(name, self._separator):
            self._ending[ending] = None if ending in self._ending else file

    def whole(self, name: str) -> str | None:
        return self._whole.get(name)

    def ending(self, name: str) -> str | None:
        return self._ending.get(name)


def _endings(name: str, separator: str) -> Iterator[str]:
    """Yield what is behind each separator, the longest first."""
    for match in re.finditer(re.escape(separator), name):
        yield name[match.end() :]


def _starts(name: str, separator: str) -> Iterator[str]:
    """Yield the name and what is before each separator, the longest first."""
    while name:
        yield name
        name = name.rpartition(separator)[0]


def _refuse_whitespace(files: Sequence[str]) -> None:
    spaced = [repr(file) for file in files if re.search(r"[\s\x00-\x1f\x7f]", file)]
    if spaced:
        raise InvalidInputError(
            f"{len(spaced)} files to be split have whitespace in their names",
            details="\n".join(spaced[:_MAX_NAMED]),
            resolution="Rename them: a shard gets its files as one variable, with spaces between.",
        )
