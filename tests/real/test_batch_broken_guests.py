"""Guests that go away in the middle of their work: each is told by name, and none is taken for a red test."""

from __future__ import annotations

from pathlib import Path

import pytest
from farm_box import Box, eventually

from banger.batch.plan import Matrix, Plan, Retries, VmPlan
from banger.batch.state import Verdict

pytestmark = pytest.mark.real

HOW = {
    "powers-off": "poweroff -f; sleep 600",
    "panics": "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 600",
    "hangs": "sleep 600",
}
# A connection that is silent is given up after 30 s: in less than that all three would be time-outs.
TIMEOUT_S = 45.0


def test_a_guest_that_goes_away_is_an_infrastructure_error_and_one_that_hangs_a_timeout(
    box: Box, tmp_path: Path
) -> None:
    before = box.traces()
    cases = " ".join(f"{how}) {command};;" for how, command in HOW.items())
    plan = Plan(
        name="broken",
        image="micro",
        vm=VmPlan(memory_mib=128),
        matrix=Matrix(axes={"how": tuple(HOW)}),
        run=(f"case $BANGER_MATRIX_HOW in {cases} esac",),
        timeout_s=TIMEOUT_S,
        retries=Retries(infra=0),
        max_parallel=3,
    )
    farm = box.farm
    batch = farm.batches.submit(plan, tmp_path).id
    for _ in farm.batches.follow(batch):
        pass
    jobs = {job.matrix["how"]: job for job in farm.batches.store.jobs(batch)}
    assert {how: job.verdict for how, job in jobs.items()} == {
        "powers-off": Verdict.INFRA_ERROR,
        "panics": Verdict.INFRA_ERROR,
        "hangs": Verdict.TIMED_OUT,
    }
    for how in ("powers-off", "panics"):
        assert jobs[how].stage == "work"
        assert "connection to the guest" in (jobs[how].reason or "")
    eventually(lambda: box.traces() == before, 20)
