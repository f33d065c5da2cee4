"""Which code root's services may run: what root alone can change and everybody can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from banger.contracts.errors import BangerError
from banger.system import code


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root-owned tree, whoever runs this; nothing above it is looked at."""
    (tmp_path / "banger" / "deep").mkdir(parents=True, mode=0o755)
    (tmp_path / "banger" / "deep" / "x.py").write_text("")
    monkeypatch.setattr(code, "HIDDEN", ())
    real = Path.lstat

    def as_roots(path: Path) -> os.stat_result:
        found = list(real(path))
        found[4] = 0
        if path in tmp_path.parents or path == tmp_path:
            found[0] = 0o40755
        return os.stat_result(found)

    monkeypatch.setattr(Path, "lstat", as_roots)
    return tmp_path / "banger"


def complaints(tree: Path) -> list[str]:
    return list(code.complaints_about((tree,)))


def test_code_of_root_that_all_can_read_is_trusted(tree: Path) -> None:
    assert complaints(tree) == []
    code.require_trusted((tree,))


def test_a_file_that_others_can_write_is_named(tree: Path) -> None:
    (tree / "deep" / "x.py").chmod(0o666)
    assert complaints(tree) == [f"{tree}/deep/x.py: others than root can write to it"]
    with pytest.raises(BangerError, match="must not run banger") as caught:
        code.require_trusted((tree,))
    assert "/opt/banger" in caught.value.resolution


def test_a_directory_that_its_group_can_write_is_named(tree: Path) -> None:
    (tree / "deep").chmod(0o775)
    assert complaints(tree) == [f"{tree}/deep: others than root can write to it"]


def test_what_services_cannot_read_is_named(tree: Path) -> None:
    (tree / "deep" / "x.py").chmod(0o600)
    assert complaints(tree) == [f"{tree}/deep/x.py: the services' users cannot read it"]


def test_code_in_a_home_is_seen_by_no_service(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "HIDDEN", (tree.parent,))
    assert complaints(tree) == [f"{tree}: services see no {tree.parent}"]


def test_code_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.py").write_text("")
    real = Path.lstat
    monkeypatch.setattr(
        Path, "lstat", lambda path: os.stat_result([*list(real(path))[:4], 1234, *list(real(path))[5:]])
    )
    found = list(code.complaints_about((tmp_path / "x.py",)))
    assert f"{tmp_path}/x.py: belongs to user 1234, not to root" in found
