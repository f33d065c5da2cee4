"""``make chaos``: kill the farm's services at every point, then at random, and look for what is wrong.

It brings up farms, each in namespaces and directories of its own, and leaves nothing. Exit status 1 when a
cell of the matrix, or the random schedule, was not as it is to be.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from pathlib import Path

import chaos_run
import side_by_side
from leftovers import beside_others
from report import as_json, failures_text, matrix_text


def main() -> int:
    """Run what was asked for and print what came of it."""
    options = _options()
    chaos_run.end_well()
    started = time.monotonic()

    def say(text: str) -> None:
        chaos_run.say_since(started, text)

    say(f"seed {options.seed}, {options.farms} farms side by side")
    with beside_others():  # whose tests would take what is here for theirs
        result = side_by_side.run(
            options.farms,
            seed=options.seed,
            kills=options.kills,
            cells=options.cells,
            only=options.only,
            logs=options.logs,
            say=say,
        )
    print(matrix_text(result.verdicts))
    if result.verdicts:
        bad = sum(1 for verdict in result.verdicts if verdict.wrong)
        print(f"\n{len(result.verdicts)} cells in {result.kills} kills, {bad} of them not as they should be")
    if told := result.tally.text():
        print(f"\n{told}")
    print(f"\n{result.recoveries.text()}")
    if failed := failures_text(result.verdicts, result.left):
        print(f"\nNOT AS IT SHOULD BE (seed {options.seed}):\n{failed}")
    if options.json:
        said = {
            "seed": options.seed,
            "cells": as_json(result.verdicts),
            "kills": {"matrix": result.kills, "at random": result.tally.kills},
            "left": result.left,
            "recoveries": result.recoveries.rows(),
        }
        options.json.write_text(json.dumps(said, indent=2))
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the random schedule")
    parser.add_argument("--kills", type=int, default=100, help="in the random schedule (0: none)")
    parser.add_argument("--farms", type=int, default=2, help="side by side, each of its own seed at random")
    parser.add_argument("--cells", type=int, help="only so many cells of the matrix (0: none)")
    parser.add_argument("--only", default="", help="only cells whose title has this text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep the services' logs there at the end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
