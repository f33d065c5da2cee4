"""What a VM is, or is becoming, and what may become of it: one table, which the record store itself enforces.

Each script that writes a record's state does so through ``MOVE``, which knows the table and refuses the rest.
Which pipeline leads where stands in ``banger.pipelines``; a test holds the two against each other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """The state of a VM's record. ``gone`` is that of one that is not there."""

    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CHANGING = "changing"
    DELETING = "deleting"
    ERROR = "error"
    LOST = "lost"  # its host has nothing of it: it holds no name and no slot, and waits to be deleted
    GONE = "gone"


class Transition(NamedTuple):
    """One legal change: the script that makes it (``expire`` is Redis itself), the state before and after."""

    cause: str
    before: State
    after: State


_TABLE = """
reserve | gone                       | creating
begin   | running stopped error      | starting stopping
begin   | stopped                    | changing
begin   | running stopped error lost | deleting
settle  | creating                   | running stopped error gone
settle  | starting                   | running error
settle  | stopping                   | stopped error
settle  | changing                   | stopped
settle  | deleting                   | gone error
lose    | creating starting running stopping stopped changing deleting error | lost
restore | creating starting running stopping stopped changing deleting error | running stopped error
restore | gone lost                  | running stopped error
expire  | error lost                 | gone
"""
TRANSITIONS = frozenset(
    Transition(cause.strip(), State(before), State(after))
    for cause, earlier, later in (row.split("|") for row in _TABLE.strip().splitlines())
    for before in earlier.split()
    for after in later.split()
)

# The only place that writes a record's state. It counts the revision up, or changes nothing and returns the
# state that the record has: what a script does beside it comes after.
MOVE = """
local LEGAL = {TABLE}
local function move(vm, cause, after)
  local before = redis.call('HGET', vm, 'state') or 'gone'
  if not LEGAL[cause .. ' ' .. before .. ' ' .. after] then return before end
  redis.call('HSET', vm, 'state', after)
  redis.call('HINCRBY', vm, 'rev', 1)
end
""".replace("TABLE", ", ".join(f"['{' '.join(row)}']=true" for row in sorted(TRANSITIONS)))
