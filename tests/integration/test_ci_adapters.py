"""What CI adapters ask of banger, and that they end as it does. One of them runs a batch in tests/real."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from ci_scripts import action, github_script, github_variables, gitlab_job, jenkins_script
from farm_box import eventually

from banger.batch.annotations import step_outputs
from banger.batch.state import BatchInfo, Verdict

pytestmark = pytest.mark.integration

# Notes what it is asked, and ends as CODE says.
STAND_IN = """\
#!/bin/sh
printf '%s\\n' "$@" > asked.new
mv asked.new asked
trap 'exit 130' INT
[ -z "$WAITS" ] || while :; do sleep 0.05; done
exit "${CODE:-0}"
"""


class Workspace(NamedTuple):
    """A directory in which CI runs something, with a stand-in for banger on the PATH."""

    directory: Path

    def start(self, *argv: str, **variables: str) -> subprocess.Popen[bytes]:
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        return subprocess.Popen(argv, cwd=self.directory, env={"PATH": path} | variables)

    def run(self, *argv: str, **variables: str) -> int:
        return self.start(*argv, **variables).wait(20)

    @property
    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/banger").write_text(STAND_IN)
    (tmp_path / "bin/banger").chmod(0o755)
    return Workspace(tmp_path)


def bash(script: str) -> tuple[str, ...]:
    """Return how GitHub's runner starts a bash step, and GitLab's its script, for all that matters here."""
    return ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)


# --- GitHub --------------------------------------------------------------------------------------


def test_githubs_inputs_become_options_and_no_shell_reads_them(workspace: Workspace) -> None:
    variables = github_variables(
        plan="ci/my plan.yaml",
        directory=".",
        junit="$(touch evil).xml",
        artifacts="out",
        args="--env\nA=b c; touch evil\n--fail-fast\n",
    )
    assert workspace.run(*bash(github_script()), **variables) == 0
    assert workspace.asked == [
        *("batch", "run", "ci/my plan.yaml", "--env", "A=b c; touch evil", "--fail-fast"),
        *("--directory", ".", "--junit", "$(touch evil).xml", "--artifacts", "out"),
    ]
    assert not (workspace.directory / "evil").exists()


def test_githubs_step_needs_a_plan_alone(workspace: Workspace) -> None:
    assert workspace.run(*bash(github_script()), **github_variables(plan="plan.yaml")) == 0
    assert workspace.asked == ["batch", "run", "plan.yaml"]


def test_githubs_outputs_are_those_that_banger_gives() -> None:
    info = BatchInfo(
        id="0123456789ab", name="n", state="ended", image="i", host="h", total=1, created_at=1, deadline_at=2
    )
    given = {line.partition("=")[0] for line in step_outputs(info, 0).splitlines()}
    assert action()["outputs"].keys() == given
    assert {f"${{{{ steps.batch.outputs.{name} }}}}" for name in given} == {
        output["value"] for output in action()["outputs"].values()
    }
    assert {*Verdict} <= given


def test_a_workflow_that_is_cancelled_interrupts_banger_itself(workspace: Workspace) -> None:
    step = workspace.start(*bash(github_script()), **github_variables(plan="plan.yaml"), WAITS="1")
    try:
        eventually((workspace.directory / "asked").exists)
        step.send_signal(signal.SIGINT)  # GitHub's runner tells the step's first process, no other
        assert step.wait(20) == 130
    finally:
        step.kill()
        step.wait()


# --- GitLab and Jenkins --------------------------------------------------------------------------


def test_gitlabs_script_asks_for_what_its_job_keeps(workspace: Workspace) -> None:
    job = gitlab_job()
    variables = job["variables"] | {"BATCH_PLAN": "my plan.yaml", "BATCH_ARGS": "--directory . --fail-fast"}
    assert workspace.run(*bash("\n".join(job["script"])), **variables, GITLAB_CI="true") == 0
    words = workspace.asked
    assert words[:3] == ["batch", "run", "my plan.yaml"]
    assert words[-3:] == ["--directory", ".", "--fail-fast"]
    assert words[words.index("--junit") + 1] == job["artifacts"]["reports"]["junit"]
    for option in ("--junit", "--summary", "--artifacts"):
        assert words[words.index(option) + 1].startswith(job["artifacts"]["paths"][0])


def test_gitlabs_script_needs_nothing_said(workspace: Workspace) -> None:
    job = gitlab_job()
    assert workspace.run(*bash("\n".join(job["script"])), **job["variables"]) == 0
    assert workspace.asked[2:4] == ["plan.yaml", "--junit"]


def test_jenkins_script_asks_for_what_its_pipeline_keeps(workspace: Workspace) -> None:
    assert workspace.run("sh", "-e", "-c", jenkins_script()) == 0
    assert workspace.asked == shlex.split(
        "batch run ci/plan.yaml --directory . --junit banger/junit.xml --summary banger/summary.md "
        "--artifacts banger/artifacts"
    )


SCRIPTS: dict[str, Callable[[], tuple[tuple[str, ...], dict[str, str]]]] = {
    "github": lambda: (bash(github_script()), github_variables(plan="plan.yaml")),
    "gitlab": lambda: (bash("\n".join(gitlab_job()["script"])), gitlab_job()["variables"]),
    "jenkins": lambda: (("sh", "-e", "-c", jenkins_script()), {}),
}


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
@pytest.mark.parametrize("system", SCRIPTS)
def test_each_ends_as_the_batch_does(workspace: Workspace, system: str, code: int) -> None:
    argv, variables = SCRIPTS[system]()
    assert workspace.run(*argv, **variables, CODE=str(code)) == code
