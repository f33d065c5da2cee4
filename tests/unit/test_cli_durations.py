"""Times as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.contracts.durations import format_duration, parse_duration
from banger.contracts.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), (" 1.5H ", 5400)],
)
def test_a_time_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "soon", "1w", "30 m", "1e9", "99999d", "h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="ttl"):
        parse_duration(text, "ttl")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0ms"), (0.0124, "12ms"), (4.71, "4.7s"), (59.99, "1m0s"), (3599.9, "1h0m"), (90000, "1d1h")],
)
def test_a_time_is_shown_at_a_glance(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=1, max_value=1e7))
def test_a_shown_time_reads_back_as_nearly_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05)
