"""The commands of docs/production.md by their heading: what the lab runs, it reads there."""

from __future__ import annotations

import re

from lab.recipe import ROOT

DOCUMENT = ROOT / "docs/production.md"
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def blocks(heading: str) -> tuple[str, ...]:
    """Return the blocks of commands beneath a heading; KeyError when the document has no such heading."""
    return sections()[heading]


def sections() -> dict[str, tuple[str, ...]]:
    """Return the blocks of commands of every heading, each as a shell reads it."""
    _, *parts = _HEADING.split(DOCUMENT.read_text())
    return {heading: _blocks(text) for heading, text in zip(parts[::2], parts[1::2], strict=True)}


def _blocks(text: str) -> tuple[str, ...]:
    """Return the runs of indented lines, which is how our documents write commands."""
    found = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return tuple(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found)
