"""Unit tests reach nothing: no socket, and no program but through a fake."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def no_socket() -> Iterator[None]:
    """Close the network; socketpairs and Unix sockets stay, since event loops need them."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(autouse=True)
def no_program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a program, unless it tests a door itself (``test_*shell.py``)."""
    if request.path.name.endswith("shell.py"):
        return

    def refuse(_self: object, argv: object, *_rest: object, **_options: object) -> None:
        pytest.fail(f"a unit test started {argv}; give it a fake, or make it an integration test")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    # A fake process has a number that means another's group, or init's.
    monkeypatch.setattr(os, "killpg", lambda _pid, _signal: None)
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda _self: None)
