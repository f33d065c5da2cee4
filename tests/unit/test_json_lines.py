"""What workers log: one line of JSON each, whatever a message made them say."""

from __future__ import annotations

import json
import logging
import sys

from banger.contracts.json_lines import JsonLines, readable


def _record(message: str, **more: object) -> logging.LogRecord:
    record = logging.LogRecord("root_worker.door", logging.WARNING, __file__, 1, message, (), None)
    record.__dict__.update(more, created=1_700_000_000.25, msecs=250.0)
    return record


def test_a_record_is_one_line_of_json_whatever_it_says() -> None:
    line = JsonLines().format(_record('refused "x"\n{"level": "info"}\x1b[2J'))
    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line) == {
        "at": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "root_worker.door",
        "message": 'refused "x"\n{"level": "info"}\x1b[2J',
    }


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        {}["oh"]
    except KeyError:
        line = JsonLines().format(_record("failed", exc_info=sys.exc_info()))
    assert json.loads(line)["error"].endswith("KeyError: 'oh'")


def test_people_read_time_level_and_message_and_other_lines_as_they_are() -> None:
    assert readable(JsonLines().format(_record("x"))) == "2023-11-14T22:13:20.250Z warning x"
    for other in ("1:M Ready to accept connections", "[]", "{}", '{"at": 1}', "null"):
        assert readable(other) == other
