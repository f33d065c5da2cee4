"""Is this machine ready? Facts are gathered, then judged by pure functions; nothing is changed."""

from banger.doctor.checks import examine
from banger.doctor.facts import Facts
from banger.doctor.gathering import gather
from banger.doctor.report import Check, Status

__all__ = ["Check", "Facts", "Status", "examine", "gather"]
