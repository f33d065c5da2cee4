"""The fixture ``lab``: one host, with a farm installed from this tree's wheel, for all tests of the lab."""

from __future__ import annotations

import os

import pytest

ASKED = "BANGER_LAB"  # set by scripts/lab: a plain pytest never boots a host


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the lab, with the reason, unless it was asked for."""
    if os.environ.get(ASKED):
        return
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason="needs the lab: make lab"))
