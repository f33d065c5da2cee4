"""Several farms side by side, each in a process of its own: a run mostly waits for processes to start."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import chaos_run
from chaos_run import Result
from share import Share

Say = Callable[[str], None]


def run(farms: int, *, logs: Path | None, say: Say, **asked: Any) -> Result:
    """Run on so many farms what ``chaos_run.run`` runs on one, each its share; return what came of all."""
    if farms == 1:
        return chaos_run.run(logs=logs, say=say, **asked)
    began = time.monotonic()
    # Not forked: each process has namespaces of its own, which must not be this one's.
    with ProcessPoolExecutor(farms, multiprocessing.get_context("spawn")) as processes:
        futures = [
            processes.submit(
                _one, Share(number, farms), began, logs=logs and logs / f"farm-{number}", asked=asked
            )
            for number in range(farms)
        ]
        first, *others = [future.result() for future in futures]
    for other in others:
        first.absorb(other)
    return first


def _one(share: Share, began: float, *, logs: Path | None, asked: dict[str, Any]) -> Result:
    def say(text: str) -> None:
        chaos_run.say_since(began, f"farm {share.number}: {text}")

    chaos_run.end_well()
    return chaos_run.run(logs=logs, say=say, share=share, **asked)
