"""One run of the chaos on one farm: the matrix or a sample of it, then a random schedule."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from batch import Verdict
from cells import Cell
from chaos_farm import ChaosFarm, chaos_farm
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
    sample: int | None,
    only: str = "",
    logs: Path | None = None,
    say: Callable[[str], None],
) -> Result:
    """Run it and return what came of it. ``sample`` None is the whole matrix, ``kills`` those at random."""
    recoveries = Recoveries()
    with chaos_farm() as farm:
        matrix = Matrix(farm, recoveries, say)
        say("counting the points of every pipeline, without a kill")
        matrix.count()
        matrix.run(_chosen(matrix, seed, sample, only))
        matrix.finish()
        schedule = Schedule(farm, seed, recoveries, say)
        schedule.run(kills)
        left = matrix.left + schedule.wrong
        result = Result(matrix.verdicts, left, schedule.text(), recoveries)
        if logs and (left or any(verdict.wrong for verdict in matrix.verdicts)):
            _keep(farm, logs)
    return result


def _chosen(matrix: Matrix, seed: int, count: int | None, only: str) -> list[Cell]:
    guests = matrix.guest_cells() if count is None else []  # half a minute each
    cells = [cell for cell in (*matrix.cells(), *matrix.other_cells(), *guests) if only in cell.title]
    return cells if count is None else sample(cells, count, seed)


def _keep(farm: ChaosFarm, logs: Path) -> None:
    shutil.copytree(farm.box.settings.state_dir / "logs", logs, dirs_exist_ok=True)
