"""What was done and what happened in a random schedule, counted."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """``did`` counts operations by verb and outcome, ``happened`` faults by what they are called."""

    kills: int = 0
    did: Counter[tuple[str, str]] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count in what was done on another farm."""
        self.kills += other.kills
        self.did += other.did
        self.happened += other.happened

    def text(self) -> str:
        """Return what people read, in a few lines; nothing where nothing was killed."""
        if not self.kills:
            return ""
        happened = ", ".join(f"{count} {what}" for what, count in sorted(self.happened.items()))
        lines = textwrap.wrap(f"AT RANDOM  {happened}", 110, subsequent_indent=" " * 11)
        lines += ["", f"{'OPERATION':<16} {'DONE':>6}   NOT DONE"]
        for verb in dict.fromkeys(sorted(verb for verb, _ in self.did)):
            others = {what: count for (v, what), count in self.did.items() if v == verb and what != "done"}
            told = ", ".join(f"{count} {what}" for what, count in sorted(others.items())) or "-"
            lines += [f"{verb:<16} {self.did[verb, 'done']:>6}   {told}"]
        return "\n".join(lines)
