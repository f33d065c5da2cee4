"""The supervisor with small stand-in services: restart, order of stopping, bounds, orphans."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from banger.embedded.account import as_user
from banger.embedded.lock import holder
from banger.embedded.plan import FarmStatus, Plan, Service
from banger.embedded.view import Cover, covered_argv
from banger.shell import ENVIRONMENT, run

pytestmark = pytest.mark.integration

DEADLINE_S = 10.0


def eventually(condition, deadline_s: float = DEADLINE_S):
    """Return the condition's first truthy value; fail when the deadline passes."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return value


def service(tmp_path: Path, name: str, script: str, *, stop_s: float = 2, needs=()) -> Service:
    return Service(
        name=name,
        argv=as_user("root", ("/bin/bash", "-c", script)),
        env=ENVIRONMENT,
        user="root",
        log=tmp_path / f"{name}.log",
        serves=name,
        ready_line="I am ready",
        needs=needs,
        stop_s=stop_s,
    )


WAITS = "echo I am ready; trap 'echo ended; exit' TERM; while :; do sleep 0.05; done"
IS_DEAF = "trap '' TERM; echo I am ready; while :; do sleep 0.05; done"


@pytest.fixture
def farm(tmp_path):
    """Start a supervisor of the given services; it is ended with the test."""
    plans = []

    def start(*services: Service, stop_order=None) -> Plan:
        plan = Plan(
            services=services,
            stop_order=stop_order or (tuple(one.name for one in services),),
            lock_file=tmp_path / "lock",
            status_file=tmp_path / "status.json",
            log=tmp_path / "supervisor.log",
        )
        plans.append(plan)
        run(
            (sys.executable, "-m", "banger.embedded.supervisor"),
            stdin=plan.model_dump_json().encode(),
            deadline_s=DEADLINE_S,
        )
        return plan

    yield start
    for plan in plans:
        end(plan)


def status(plan: Plan) -> FarmStatus:
    if not plan.status_file.exists():
        return FarmStatus()
    return FarmStatus.model_validate_json(plan.status_file.read_bytes())


def end(plan: Plan) -> None:
    if pid := holder(plan.lock_file):
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: holder(plan.lock_file) is None)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_service_starts_after_what_it_needs(farm, tmp_path):
    plan = farm(
        service(tmp_path, "late", WAITS, needs=("early",)),
        service(tmp_path, "early", f"sleep 0.3; {WAITS}"),
    )
    eventually(lambda: status(plan).ready)
    started = {one.name: one.since for one in status(plan).services}
    assert (started["late"] - started["early"]).total_seconds() > 0.3


def test_a_killed_service_is_started_again_and_counted(farm, tmp_path):
    plan = farm(service(tmp_path, "one", WAITS))
    eventually(lambda: status(plan).ready)
    first = status(plan).services[0].pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: status(plan).services[0].restarts == 1 and status(plan).ready)
    assert status(plan).services[0].pid != first


def test_services_are_stopped_group_after_group(farm, tmp_path):
    ends = tmp_path / "ends"
    says = "echo I am ready; trap 'sleep 0.2; echo {} >>{}; exit' TERM; while :; do sleep 0.05; done"
    plan = farm(
        *(service(tmp_path, name, says.format(name, ends)) for name in ("redis", "worker")),
        stop_order=(("worker",), ("redis",)),
    )
    eventually(lambda: status(plan).ready)
    end(plan)
    assert ends.read_text().split() == ["worker", "redis"]


def test_a_service_that_will_not_end_is_killed_in_time(farm, tmp_path):
    plan = farm(service(tmp_path, "deaf", IS_DEAF, stop_s=0.5))
    eventually(lambda: status(plan).ready)
    pid = status(plan).services[0].pid
    began = time.monotonic()
    end(plan)
    assert time.monotonic() - began < 3
    assert is_gone(pid)


def test_a_killed_supervisor_leaves_no_service_behind(farm, tmp_path):
    plan = farm(service(tmp_path, "one", WAITS))
    eventually(lambda: status(plan).ready)
    pid = status(plan).services[0].pid
    os.kill(holder(plan.lock_file), signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    assert holder(plan.lock_file) is None


def test_the_code_is_seen_beneath_a_closed_directory_and_nothing_else_is(tmp_path):
    closed = tmp_path / "home"
    code = closed / "clone" / "banger"
    code.mkdir(parents=True)
    (code / "module").write_text("hello")
    (closed / "secret").write_text("secret")
    closed.chmod(0o700)
    staging = tmp_path / "view"
    staging.mkdir()
    for parent in tmp_path.parents:
        if not parent.stat().st_mode & 0o001:
            closed = parent  # pytest's own directories are closed already: the topmost counts
    cover = Cover(closed, (code,), ())
    shown = run(
        covered_argv(
            as_user(
                "daemon",
                (
                    "/bin/sh",
                    "-c",
                    'cat "$0"/module; echo; touch "$0"/x; ls -A "$1"',
                    str(code),
                    str(tmp_path / "home"),
                ),
            ),
            (cover,),
            staging,
        ),
        deadline_s=DEADLINE_S,
    )
    assert shown.stdout.decode().split() == ["hello", "clone"]
    assert b"Permission denied" in shown.stderr or b"Read-only file system" in shown.stderr
