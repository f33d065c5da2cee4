"""A worker's log as JSON lines, Celery's own among them: what a message made it say stays one line."""

from __future__ import annotations

import json
import logging
import time
from typing import Any


class JsonLines(logging.Formatter):
    """Formats a record as one line: when (UTC), how grave, who, what, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        entry = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def log_json_lines(loglevel: int = logging.INFO, **_: Any) -> None:
    """Set all of a process's logging up so, to stderr; for Celery's ``setup_logging`` signal."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=loglevel, handlers=[handler], force=True)


def readable(line: str) -> str:
    """Return such a line as people read it; any other line as it is."""
    try:
        entry = json.loads(line)
        words = [entry["at"], entry["level"], entry["message"]]
    except (ValueError, TypeError, KeyError):
        return line
    return " ".join(map(str, words)) + (f"\n{entry['error']}" if "error" in entry else "")
