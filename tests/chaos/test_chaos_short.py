"""A few minutes of ``make chaos``: some cells of the matrix and a short random schedule, by a seed.

Another seed each time; what failed is repeated with ``BANGER_CHAOS_SEED=N``.
"""

from __future__ import annotations

import os
import secrets
import time

import chaos_run
import pytest
from report import failures_text, matrix_text

CELLS = 24

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


def test_nothing_leaks_and_nothing_is_lost_when_services_are_killed() -> None:
    seed = int(os.environ.get("BANGER_CHAOS_SEED", secrets.randbelow(10**6)))
    began = time.monotonic()
    print(f"BANGER_CHAOS_SEED={seed}")
    result = chaos_run.run(
        seed=seed, kills=8, cells=CELLS, say=lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}")
    )
    print(matrix_text(result.verdicts), result.recoveries.text(), sep="\n\n")
    wrong = failures_text(result.verdicts, result.left)
    assert not wrong, f"BANGER_CHAOS_SEED={seed} repeats this:\n{wrong}"
