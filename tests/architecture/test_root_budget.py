"""Root's code is read in one sitting: its size and what it may import are bounded here."""

from __future__ import annotations

import sys

import pytest
from sources import ROOT, code_lines, files, imported_modules

# Of all of root_worker; raise it with a reason. 1,500 until root looked for all that a kill leaves behind:
# seven kinds of objects, in a file of its own that changes nothing. 1,566 until it asked for its host's seat;
# 1,570 until messages that Redis could not be told of stopped taking its threads' places; 1,575 until VMs got
# units of systemd's: asked for, waited for, and made to be gone; 1,680 until it asked the kernel how full
# snapshots are, and said why there is no loop device or snapshot; 1,740 until Firecracker came: a driver, and
# a hundred lines that make its jail, a program of their own; 1,990 until it told of a bridge that is full.
MAX_CODE_LINES = 2000
# Of the contracts that it imports: models and pure functions, which cannot act. 1,700 until whose the
# objects are that root finds was decided there, with the table of states and the kernel's numbers; 1,990
# until both workers came to ask there whether theirs is the one machine of its host's name; 2,080 until the
# table of stages got the three of a batch's job, which are the worker's; 2,115 until both
# workers had messages free their places; 2,125 until what systemd is asked for a VM was said there; 2,130
# until snapshots that fill up, and bases that have changed; 2,205 until there were two VMMs to choose from,
# and Firecracker's API; 2,300 until a full disk was told as what it is by both workers; 2,315 until strangers
# were kept from asking for VMs' names; 2,325 until a step was refused in another boot than its job's.
MAX_PURE_LINES = 2340
MAX_FILE_LINES = 250
ALLOWED = {"celery", "kombu", "pydantic", "pyroute2", "cryptography", "root_worker"}


def test_roots_code_stays_within_the_budget():
    lines = {str(file.relative_to(ROOT)): code_lines(file) for file in files("root_worker")}
    total = sum(lines.values())
    assert total <= MAX_CODE_LINES, (
        f"{total} lines; the longest: {sorted(lines.items(), key=lambda x: -x[1])[:5]}"
    )


def test_what_root_takes_from_the_contracts_is_bounded_too():
    known = {f"banger.contracts.{file.stem}": file for file in files("banger/contracts")}
    seen: set[str] = set()
    ahead = [module for file in files("root_worker") for module in imported_modules(file)]
    while ahead:
        module = ahead.pop()
        if module in known and module not in seen:
            seen.add(module)
            ahead += imported_modules(known[module])
    total = sum(code_lines(known[module]) for module in seen)
    assert total <= MAX_PURE_LINES, f"{total} lines in {len(seen)} files"


@pytest.mark.parametrize("file", files("root_worker"), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_of_root_is_short_and_imports_only_what_root_may(file):
    assert len(file.read_text().splitlines()) <= MAX_FILE_LINES
    for module in imported_modules(file):
        top = module.partition(".")[0]
        allowed = top in ALLOWED or top in sys.stdlib_module_names
        assert allowed or f"{module}.".startswith("banger.contracts."), f"{file.name} imports {module}"


@pytest.mark.parametrize("file", files("banger/contracts"), ids=lambda file: file.name)
def test_what_root_shares_with_the_front_imports_nothing_more(file):
    for module in imported_modules(file):
        top = module.partition(".")[0]
        allowed = top in ("pydantic", "cryptography", "kombu") or top in sys.stdlib_module_names
        assert allowed or module.startswith("banger.contracts"), f"{file.name} imports {module}"
