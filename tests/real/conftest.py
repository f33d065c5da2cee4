"""Guests that boot: one farm for all of them, and what a test says to a guest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from farm_box import Box, farm_box
from netns import inside

from banger.ssh import ssh_argv


@pytest.fixture(scope="session")
def real_farm() -> Iterator[Box]:
    """A farm as `banger farm up` starts it, with both images."""
    with farm_box("micro", "debian") as box:
        yield box


@pytest.fixture(scope="module")
def box(real_farm: Box) -> Iterator[Box]:
    """The farm, from within its network."""
    with inside(real_farm.network):
        yield real_farm


def guest(
    box: Box, name: str, *argv: str, stdin: bytes = b"", good: int | None = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a guest as `banger vm exec` does; its exit code must be ``good``."""
    record = box.farm.require_running(name)
    command = ssh_argv(box.paths, record.id, str(record.address), argv)
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert good in (None, done.returncode), done
    return done


def said(box: Box, name: str, *argv: str) -> str:
    """Return what a command in a guest prints."""
    return guest(box, name, *argv).stdout.decode()
