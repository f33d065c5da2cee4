"""Root's ledger: a ticket is used once, by whoever comes first."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from root_worker.ledger import Ledger


def test_a_ticket_is_spent_once_and_stays_so(tmp_path: Path) -> None:
    later = time.time() + 60
    ledger = Ledger(tmp_path / "tickets")
    assert not ledger.is_spent("a")
    assert ledger.spend("a", later)
    assert not ledger.spend("a", later)
    again = Ledger(tmp_path / "tickets")  # as after a kill
    assert again.is_spent("a")
    assert not again.spend("a", later)


def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "tickets")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: ledger.spend("a", time.time() + 60), range(64)))
    assert won.count(True) == 1


def test_what_has_expired_is_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "tickets")
    ledger.spend("old", time.time() - 1)
    ledger.spend("new", time.time() + 60)
    assert not ledger.is_spent("old")


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    Ledger(tmp_path / "tickets").spend("a", time.time() + 60)
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())
