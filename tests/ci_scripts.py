"""The shell of the CI adapters, taken from where their users take it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github/actions/banger-batch/action.yml"
GITLAB = ROOT / "ci/gitlab.yml"
DOCUMENT = ROOT / "docs/ci.md"


def action() -> dict[str, Any]:
    """Return the action for GitHub."""
    return dict(yaml.safe_load(ACTION.read_text()))


def github_script() -> str:
    """Return what the action's only step runs, as bash."""
    (step,) = action()["runs"]["steps"]
    return str(step["run"])


def github_variables(**inputs: str) -> dict[str, str]:
    """Return the variables that the step gets of inputs, those that are not given as by default."""
    known = action()
    values = {name: given.get("default", "") for name, given in known["inputs"].items()} | inputs
    (step,) = known["runs"]["steps"]
    return {
        variable: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: values[found[1]], text)
        for variable, text in step["env"].items()
    }


def gitlab_job() -> dict[str, Any]:
    """Return the template's job."""
    return dict(yaml.safe_load(GITLAB.read_text())[".banger-batch"])


def jenkins_script() -> str:
    """Return what the pipeline of docs/ci.md runs, as sh."""
    (found,) = re.findall(r"sh '''\n(.*?)'''", DOCUMENT.read_text(), re.DOTALL)
    return textwrap.dedent(found)
