"""Guests that boot: one farm for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from farm_box import Box, farm_box
from netns import inside


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
