"""The plans of docs/batches.md are plans, and the full one has an example of every key."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from banger.batch.expand import expand
from banger.batch.load import parse_plan
from banger.batch.plan_keys import PLAN

PAGE = Path(__file__).parents[2] / "docs" / "batches.md"


def plans() -> list[str]:
    """Return the page's indented blocks that begin with a name."""
    blocks = re.findall(r"(?:^    .*\n)+", PAGE.read_text(), re.MULTILINE)
    texts = ["".join(line[4:] for line in block.splitlines(keepends=True)) for block in blocks]
    return [text for text in texts if re.search("^name:", text, re.MULTILINE)]


def test_the_plans_of_the_page_are_plans() -> None:
    small, full = (parse_plan(text.encode(), "batches.md") for text in plans())
    assert len(expand(small)) == 2
    assert len(expand(full)) == 16


def test_the_full_one_has_an_example_of_every_key() -> None:
    data = yaml.safe_load(plans()[1])
    assert {key.name for key in PLAN.keys} - {"count"} == data.keys()
    for name in ("vm", "retries"):
        (shape,) = (key.shape for key in PLAN.keys if key.name == name)
        assert {key.name for key in shape.keys} == data[name].keys()  # type: ignore[attr-defined]
