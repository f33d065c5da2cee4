"""One run of the chaos on one farm: the matrix or a sample of it, then a random schedule."""

from __future__ import annotations

import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from batch import Verdict
from cells import Cell
from chaos_farm import chaos_farm
from matrix import Matrix, sample
from recovery import Recoveries
from schedule import Schedule
from share import WHOLE, Share
from tally import Tally

Say = Callable[[str], None]


@dataclass
class Result:
    """What came of it. ``left`` is what was there, or missing, once all was over; ``kills`` the matrix's."""

    verdicts: list[Verdict] = field(default_factory=list)
    kills: int = 0
    left: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    recoveries: Recoveries = field(default_factory=Recoveries)

    def absorb(self, other: Result) -> None:
        """Add what came of it on another farm."""
        self.verdicts += other.verdicts
        self.kills += other.kills
        self.left += other.left
        self.tally.add(other.tally)
        self.recoveries.absorb(other.recoveries)


def run(
    *,
    seed: int,
    kills: int,
    cells: int | None,
    only: str = "",
    logs: Path | None = None,
    share: Share = WHOLE,
    say: Say,
) -> Result:
    """Run it and return what came of it. ``cells`` of the matrix (None: all), and ``kills`` at random.

    A run that breaks off says so among what is left: what it has found until then is told all the same.
    """
    result = Result()
    try:
        with chaos_farm() as farm:
            matrix = Matrix(farm, result.recoveries, say)
            schedule = Schedule(farm, seed + share.number, result.recoveries, say)
            result.verdicts, result.left, result.tally = matrix.verdicts, matrix.left, schedule.tally
            try:
                say("counting the points of every pipeline, without a kill")
                matrix.count()
                matrix.run([cell for cell in _chosen(matrix, seed, cells, only) if share.has(cell.title)])
                matrix.finish()
                schedule.run(share.part(kills))
            finally:
                result.kills = matrix.kills
                result.left += schedule.wrong
                if logs:
                    shutil.copytree(farm.box.settings.state_dir / "logs", logs, dirs_exist_ok=True)
    except KeyboardInterrupt:
        result.left.append("the run was interrupted")
    except Exception:
        say(traceback.format_exc())
        result.left += ["the run broke off:", *traceback.format_exc().splitlines()]
    return result


def end_well() -> None:
    """Let this process end by a signal with everything taken down that it has brought up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def say_since(began: float, text: str) -> None:
    """Print how far a run is that began then (seconds of the monotonic clock)."""
    print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)


def _chosen(matrix: Matrix, seed: int, count: int | None, only: str) -> list[Cell]:
    guests = matrix.guest_cells() if count is None else []  # half a minute each
    found = [cell for cell in (*matrix.cells(), *matrix.other_cells(), *guests) if only in cell.title]
    return found if count is None else sample(found, count, seed)
