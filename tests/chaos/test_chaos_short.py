"""A few minutes of ``make chaos``: some cells of the matrix and a short random schedule, by a seed.

The same seed each time, so that a run that fails does so for what was changed; ``BANGER_CHAOS_SEED=N`` is
another, and ``make chaos`` draws its own.
"""

from __future__ import annotations

import os
import time

import chaos_run
import pytest
from report import failures_text, matrix_text

SEED = 42
CELLS = 24

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


def test_nothing_leaks_and_nothing_is_lost_when_services_are_killed() -> None:
    seed = int(os.environ.get("BANGER_CHAOS_SEED", SEED))
    began = time.monotonic()
    print(f"BANGER_CHAOS_SEED={seed}")
    result = chaos_run.run(
        seed=seed, kills=8, cells=CELLS, say=lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}")
    )
    print(matrix_text(result.verdicts), result.recoveries.text(), sep="\n\n")
    wrong = failures_text(result.verdicts, result.left)
    assert not wrong, f"BANGER_CHAOS_SEED={seed} repeats this:\n{wrong}"
