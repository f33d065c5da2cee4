"""This tree as the wheel that an administrator installs, and again as if it were another version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab.connection import LabError
from lab.recipe import ROOT

_DEADLINE_S = 120.0


def build_wheel(target: Path, *, version: str | None = None) -> Path:
    """Build the wheel into an empty directory, from a copy of the tree, and return it."""
    source = target / "source"
    unwanted = shutil.ignore_patterns(".*", "tests", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted)
    if version is not None:
        _say_version(source / "pyproject.toml", "version", version)
        _say_version(source / "banger/__init__.py", "__version__", version)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps")
    build = ("--no-build-isolation", "--wheel-dir", target, source)
    made = subprocess.run((*pip, *build), check=False, capture_output=True, timeout=_DEADLINE_S)
    if made.returncode:
        raise LabError(f"pip makes no wheel of this tree\n{made.stderr.decode(errors='replace')[-4000:]}")
    shutil.rmtree(source)
    (wheel,) = target.glob("banger-*.whl")
    return wheel


def _say_version(file: Path, key: str, version: str) -> None:
    text, found = re.subn(rf'^{key} = ".*"$', f'{key} = "{version}"', file.read_text(), flags=re.M)
    assert found == 1, f"{file.name} has no line `{key}`"
    file.write_text(text)
