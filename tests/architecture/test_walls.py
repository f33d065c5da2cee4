"""Walls that no import contract can express."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from sources import ROOT, files, imported_modules

PACKAGES = ("banger", "workers", "root_worker")
DOORS = {"banger/shell.py", "root_worker/shell.py"}
STAGES = [
    file for side in ("workers", "root_worker") for file in files(f"{side}/stages") if file.stem != "__init__"
]
MAX_FUNCTION_LINES = 70
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

every_file = pytest.mark.parametrize(
    "file",
    [file for package in PACKAGES for file in files(package)],
    ids=lambda file: str(file.relative_to(ROOT)),
)


@every_file
def test_processes_are_started_through_the_doors_alone(file):
    if str(file.relative_to(ROOT)) in DOORS:
        return
    for node in ast.walk(ast.parse(file.read_text())):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        started = name.startswith(("subprocess.", "os.spawn", "os.posix_spawn", "os.popen", "os.system"))
        assert not started, f"{file.name}:{getattr(node, 'lineno', 0)} calls {name}"


@every_file
def test_a_function_fits_a_screen(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, f"{file.name}: {node.name}"


@every_file
def test_a_module_is_named_for_what_it_does(file):
    assert file.stem not in VAGUE_NAMES


@pytest.mark.parametrize("file", STAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_stage_module_has_do_or_undo_and_no_other_stage(file):
    functions = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert functions & {"do", "undo"}
    assert not any(".stages." in module for module in imported_modules(file))


def test_importing_the_contracts_loads_nothing_else_of_banger():
    code = (
        "import pkgutil, sys, banger.contracts as c\n"
        "for m in pkgutil.iter_modules(c.__path__):\n"
        "    if m.name != 'transport':\n"  # Celery's own line to Redis, with a reason in its first lines
        "        __import__('banger.contracts.' + m.name)\n"
        "print(*(m for m in sys.modules if m.startswith(('banger.', 'celery', 'redis'))"
        " and not m.startswith('banger.contracts')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
