"""One test that fails where it is told to: a batch whose tests all pass shows little."""

from __future__ import annotations

import os


def test_example_is_not_told_to_fail():
    told = os.environ.get("EXAMPLE_FAIL")
    assert told != "1", "EXAMPLE_FAIL=1 makes this test fail"
