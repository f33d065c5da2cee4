"""A plan from a YAML file: all that is wrong with it at once, each complaint with its line and column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from banger.batch.document import MAX_FILE_BYTES, Place, compose
from banger.batch.plan import Plan
from banger.batch.plan_keys import PLAN, SPLIT_FILES
from banger.batch.reading import MISSING, Loc, Reading, Schema
from banger.complaints import complaint
from banger.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MAX_COMPLAINTS = 40


def load_plan(path: Path) -> Plan:
    """Return the plan that a file holds; InvalidInputError with FILE:LINE:COLUMN of each complaint."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            f"the plan {path} cannot be read: {error.strerror}",
            resolution="Name a plan's file; a command to run goes after --.",
        ) from None
    return parse_plan(text, str(path))


def parse_plan(text: bytes, source: str) -> Plan:
    """Return the plan that a text is, ``source`` being its name in complaints; else InvalidInputError."""
    reading = Reading()
    data = reading.read(PLAN, compose(text, source), (), "")
    if data is not MISSING:
        _join_split(data, reading)
        try:
            plan = Plan.model_validate(data)
        except ValidationError as error:
            _add(error.errors(include_url=False), reading)
        else:
            if not reading.complaints:
                return plan
    raise _refusal(reading, source)


def schema() -> Schema:
    """Return the JSON Schema of a plan's file (draft 2020-12), for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "banger batch plan",
        "description": "One image, what to run in each VM, and how many times.",
    } | PLAN.schema()


def _join_split(data: dict[str, Any], reading: Reading) -> None:
    """Make one of ``split: junit-times`` and ``split_files:``."""
    files, split = data.pop(SPLIT_FILES, None), data.get("split")
    if files is not None and split is None and ("split",) not in reading.complained_of:
        reading.complain((SPLIT_FILES,), "needs `split: junit-times` or `split: round-robin` beside it")
    elif files is not None and split is not None and "files" in split:
        reading.complain((SPLIT_FILES,), "must not stand beside `split.files`")
    elif files is not None and split is not None:
        split["files"] = files
        for loc, place in [*reading.places.items()]:
            if loc[:1] == (SPLIT_FILES,):
                reading.places[("split", "files", *loc[1:])] = place
    elif split is not None and "files" not in split and (SPLIT_FILES,) not in reading.complained_of:
        reading.complain(("split",), f"needs `{SPLIT_FILES}`, the globs of the test files")


def _add(errors: list[ErrorDetails], reading: Reading) -> None:
    """Add what the model complains of, but what follows only from what was complained of already."""
    known = set(reading.complained_of)
    for item in errors:
        loc: Loc = tuple(item["loc"])
        if any(_is_about(loc, other) for other in known):
            continue
        found = next(loc[:end] for end in range(len(loc), -1, -1) if loc[:end] in reading.places)
        why = f"`{loc[-1]}` is missing" if item["type"] == "missing" else complaint(item)
        reading.complain(found, why)


def _is_about(loc: Loc, other: Loc) -> bool:
    """Tell whether one of the two is part of the other."""
    shorter = min(len(loc), len(other))
    return loc[:shorter] == other[:shorter]


def _refusal(reading: Reading, source: str) -> InvalidInputError:
    lines = [_line(source, *item) for item in sorted(reading.complaints)[:_MAX_COMPLAINTS]]
    if (more := len(reading.complaints) - len(lines)) > 0:
        lines.append(f"and {more} more")
    return InvalidInputError(
        f"{source} is not a valid plan",
        details="\n".join(lines),
        resolution="`banger batch schema` prints what a plan may hold.",
    )


def _line(source: str, place: Place, why: str) -> str:
    return f"{source}:{place.line}:{place.column}: {why}"
