"""One run of the chaos on one farm: the matrix or a sample of it, then a random schedule."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from batch import Verdict
from cells import Cell
from chaos_farm import chaos_farm
from matrix import Matrix, sample
from recovery import Recoveries
from schedule import Schedule


class Result(NamedTuple):
    """What came of it. ``left`` is what was there, or missing, once all was over."""

    verdicts: list[Verdict]
    left: list[str]
    schedule: str
    recoveries: Recoveries


def run(
    *,
    seed: int,
    kills: int,
    cells: int | None,
    only: str = "",
    logs: Path | None = None,
    say: Callable[[str], None],
) -> Result:
    """Run it and return what came of it. ``cells`` of the matrix (None: all), and ``kills`` at random."""
    recoveries = Recoveries()
    with chaos_farm() as farm:
        matrix, schedule = Matrix(farm, recoveries, say), Schedule(farm, seed, recoveries, say)
        try:
            say("counting the points of every pipeline, without a kill")
            matrix.count()
            matrix.run(_chosen(matrix, seed, cells, only))
            matrix.finish()
            schedule.run(kills)
        finally:
            if logs:
                shutil.copytree(farm.box.settings.state_dir / "logs", logs, dirs_exist_ok=True)
    return Result(matrix.verdicts, matrix.left + schedule.wrong, schedule.text(), recoveries)


def _chosen(matrix: Matrix, seed: int, count: int | None, only: str) -> list[Cell]:
    guests = matrix.guest_cells() if count is None else []  # half a minute each
    found = [cell for cell in (*matrix.cells(), *matrix.other_cells(), *guests) if only in cell.title]
    return found if count is None else sample(found, count, seed)
