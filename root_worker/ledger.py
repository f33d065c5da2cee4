"""The tickets that were used: each runs once at most, whoever sends it again, whatever Redis remembers."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path


class Ledger:
    """Spent tickets by nonce, on disk until they would have expired anyway. Thread-safe."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        file.touch(mode=0o600)
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        # A mark outlives this process; a power cut takes the latest, and with them what they were about.
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        self._database.execute("CREATE TABLE IF NOT EXISTS spent (nonce TEXT PRIMARY KEY, expires REAL)")

    def is_spent(self, nonce: str) -> bool:
        """Tell whether the ticket was used."""
        with self._lock:
            return bool(self._database.execute("SELECT 1 FROM spent WHERE nonce = ?", (nonce,)).fetchone())

    def spend(self, nonce: str, expires: float) -> bool:
        """Use the ticket up; False when it was used before. Expired ones are forgotten by and by."""
        with self._lock:
            self._database.execute("DELETE FROM spent WHERE expires < ?", (time.time(),))
            marked = self._database.execute("INSERT OR IGNORE INTO spent VALUES (?, ?)", (nonce, expires))
            return marked.rowcount == 1
