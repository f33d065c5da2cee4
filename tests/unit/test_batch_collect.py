"""What is brought out of a guest leaves its host's disk some room, and what was left behind is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO

import pytest

from workers.stages import collect

MIB = 1 << 20
LIMIT = 8 * MIB


class Guest:
    """A guest that has so many bytes to send."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, said: bytes, into: IO[bytes], max_bytes: int) -> bool:
        into.write(b"x" * min(self.left, max_bytes))
        return self.left <= max_bytes


def bring(tmp_path: Path, size: int, *, names: int = 1) -> tuple[list[str], int]:
    tar = tmp_path / "artifacts.tar"
    wanted = [f"file-{number}" for number in range(names)]
    notes = [*collect._bring("artifacts", wanted, tar, LIMIT, Guest(size).take)]
    return notes, tar.stat().st_size if tar.exists() else 0


def free(monkeypatch: pytest.MonkeyPatch, above: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=collect.KEPT_FREE_BYTES + above)
    monkeypatch.setattr(collect.shutil, "disk_usage", lambda _: usage)


def test_all_of_it_is_taken_where_there_is_room(tmp_path: Path) -> None:
    assert bring(tmp_path, 3 * MIB) == ([], 3 * MIB)


def test_what_is_too_large_is_cut_and_said(tmp_path: Path) -> None:
    assert bring(tmp_path, 9 * MIB) == (
        ["artifacts: more than 8 MiB; what came first was taken"],
        LIMIT,
    )


@pytest.mark.parametrize(("above", "taken"), [(2 * MIB, 2 * MIB), (0, 0), (-5 * MIB, 0)])
def test_a_disk_that_is_nearly_full_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: int, taken: int
) -> None:
    free(monkeypatch, above)
    said = f"artifacts: this host's disk is nearly full; {taken >> 20} MiB were taken"
    assert bring(tmp_path, 3 * MIB) == ([said], taken)


def test_nothing_and_too_many_are_said(tmp_path: Path) -> None:
    assert bring(tmp_path, 0, names=0) == (["artifacts: no file of the guest matches"], 0)
    notes, _ = bring(tmp_path, MIB, names=collect.MAX_FILES + 1)
    assert notes == ["artifacts: 10001 files match, and 10000 were taken"]
