"""The lab's own tool: what it takes for a host's name, and what its cache is known by."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import __main__ as tool
from lab import guards, recipe
from lab.connection import Connection


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guards, "missing", lambda: None)
    monkeypatch.setattr(tool, "RUN_DIR", tmp_path / "lab")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "A", "-x"])
@pytest.mark.parametrize("verb", ["--up", "--down", "--install"])
def test_what_is_no_name_is_nobodys_directory(
    verb: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    assert tool.main([verb, name]) == 1
    assert f"{name!r} is no name of a host" in capsys.readouterr().err
    assert (tmp_path / "x").is_dir()


@pytest.mark.parametrize("words", [["--up"], ["--down", "a", "b"], ["--put", "a", "b"], ["--list", "a"]])
def test_words_that_are_missing_or_too_many_are_told(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(words) == 1
    assert "scripts/lab --help" in capsys.readouterr().err


def test_a_host_that_was_left_half_made_can_be_forgotten(tmp_path: Path) -> None:
    (tmp_path / "lab/half").mkdir(parents=True)
    Connection(tmp_path / "lab/half").close()
    assert tool.main(["--down", "half"]) == 0
    assert not (tmp_path / "lab/half").exists()


@pytest.mark.parametrize("file", ["tests/lab/debian.py", "banger/images/initrd.py", "banger/images/apt.py"])
def test_other_code_makes_another_debian_and_another_disk(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.debian_digest(), recipe.host_digest()
    read = Path.read_bytes
    changed = recipe.ROOT / file
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == changed))
    after = recipe.debian_digest(), recipe.host_digest()
    assert before[0] != after[0]
    assert before[1] != after[1]
