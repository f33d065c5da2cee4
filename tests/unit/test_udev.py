"""The rules by which udev leaves VMs' block devices alone."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from farm_facts import VM

from banger.contracts.names import HostPaths, dm_name
from banger.embedded import udev
from banger.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run")


@pytest.fixture
def reloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(udev, "UDEV", tmp_path / "udev")
    monkeypatch.setattr(udev, "find_tool", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(udev, "run", lambda argv, **_: asked.append(argv))
    return asked


def test_they_name_our_snapshots_and_what_is_beneath_the_state_directory() -> None:
    first, second = udev.rules(HostPaths(Path("/var/lib/banger"), Path("/run/banger"))).splitlines()
    (named,) = re.findall(r'ENV{DM_NAME}=="([^"]*)", ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1"', first)
    # The last three are of volume groups, as Debian's installer calls them on hosts named banger.
    strangers = ("banger-vg", "banger-0123456789abc", "banger--vg-root", "banger-home", "banger--vg-swap_1")
    assert [name for name in (dm_name(VM), *strangers) if fnmatchcase(name, named)] == [dm_name(VM)]
    assert 'ATTR{loop/backing_file}=="/var/lib/banger/*"' in second


def test_they_are_written_once_and_read_at_once_and_go_with_the_farm(
    settings: Settings, reloads: list[tuple[str, ...]]
) -> None:
    udev.UDEV.mkdir()
    for _ in range(2):
        udev.ensure(settings)
    (file,) = udev.UDEV.rglob("*.rules")
    assert file.name == f"59-{settings.paths.cgroups}.rules"
    assert file.read_text() == udev.rules(settings.paths)
    assert reloads == [("/usr/bin/udevadm", "control", "--reload")]
    for _ in range(2):
        udev.remove(settings)
    assert not file.exists()


def test_without_udev_nothing_is_written(settings: Settings, reloads: list[tuple[str, ...]]) -> None:
    udev.ensure(settings)
    udev.remove(settings)
    assert (udev.UDEV.exists(), reloads) == (False, [])
