"""The VM of each attempt: what the plan says of it, and what follows from the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batch_facts import BATCH, batch, plan

from banger.batch.plan import Plan
from banger.batch.state import JobState
from banger.batch.vms import Planned, attempt_order, begun, placed, taken_back, vm_spec
from banger.contracts.errors import InvalidInputError
from banger.contracts.names import is_label
from banger.contracts.spec import VmSpec
from banger.orders import Order
from banger.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, run_dir=tmp_path, host="here", memory_mib=333)


def waiting(wanted: Plan, index: int = 0) -> JobState:
    job = Planned.of(wanted).jobs[index]
    return JobState(index=index, title=job.title, matrix=job.matrix)


def test_an_attempt_has_a_vm_and_a_job_of_its_own_and_is_counted() -> None:
    first = begun(batch(), waiting(plan()), 10.0)
    again = begun(batch(), first.model_copy(update={"state": "waiting"}), 20.0)
    assert (first.state, first.attempt, first.began_at) == ("starting", 1, 10.0)
    assert (again.attempt, again.attempts[0]) == (2, first.attempts[0])
    assert len({first.vm, again.vm, first.job, again.job}) == 4
    assert (first.vm_name, again.vm_name) == ("tests-bababa-0", "tests-bababa-0-2")
    assert (again.attempts[-1].vm, again.attempts[-1].job) == (again.vm, again.job)


def test_the_longest_name_is_one_yet() -> None:
    long = batch(name="n" * 40)
    old = JobState(index=9999, title="x", attempts=begun(long, waiting(plan()), 1.0).attempts * 11)
    assert is_label(begun(long, old, 1.0).vm_name or "")


def test_where_it_runs_stands_with_the_job_and_its_attempt() -> None:
    old = begun(batch(), waiting(plan()), 10.0)
    new = placed(old, "there")
    assert (new.state, new.host, new.attempts[-1].host) == ("running", "there", "there")
    assert placed(new, "there") == new


def test_what_is_taken_back_is_as_it_was() -> None:
    for old in (
        waiting(plan(matrix={"axes": {"os": ["a"]}})),
        JobState(index=0, title="job 0", attempts=begun(batch(), waiting(plan()), 1.0).attempts),
    ):
        assert taken_back(begun(batch(), old, 10.0)) == old


def spec_of(settings: Settings, wanted: Plan, index: int = 0, **info: Any) -> VmSpec:
    told = batch(**info)
    return vm_spec(settings, told, Planned.of(wanted), begun(told, waiting(wanted, index), 1.0))


def test_the_plan_says_what_the_vm_is_and_the_settings_the_rest(settings: Settings) -> None:
    said = spec_of(settings, plan(vm={"vcpus": 3, "disk_mib": 100, "nat": True}, host="there"))
    assert (said.vcpus, said.disk_mib, said.nat, said.host) == (3, 100, True, "there")
    assert said.memory_mib == 333
    assert said.ephemeral
    assert said.labels == {"batch": BATCH, "job": "0"}


def test_the_plan_says_what_runs_the_vm_and_its_limits(settings: Settings) -> None:
    limits = {"vmm": "firecracker", "disk_rate_mib_s": 50, "disk_ops_s": 1000, "net_rate_mib_s": 10}
    assert spec_of(settings, plan(vm=limits)).model_dump(include=limits.keys()) == limits
    assert spec_of(settings, plan()).model_dump(include=limits.keys()) == dict.fromkeys(limits) | {
        "vmm": "auto"
    }


def test_an_axis_cannot_ask_for_more_than_the_vmm_can(settings: Settings) -> None:
    wanted = plan(vm={"vmm": "firecracker"}, matrix={"axes": {"vcpus": ["32", "33"]}})
    assert spec_of(settings, wanted, 0).vcpus == 32
    with pytest.raises(InvalidInputError, match="32 vCPUs at most, not 33"):
        spec_of(settings, wanted, 1)


def test_axes_change_the_vm_of_their_jobs(settings: Settings) -> None:
    wanted = plan(matrix={"axes": {"memory": ["512MiB", "1GiB"], "image": ["micro", "debian"]}})
    specs = [spec_of(settings, wanted, index) for index in range(4)]
    assert [one.memory_mib for one in specs] == [512, 512, 1024, 1024]
    assert [one.image for one in specs] == ["micro", "debian", "micro", "debian"]


def test_a_vm_outlives_all_that_its_attempt_may_take_and_what_it_is_kept_for(settings: Settings) -> None:
    for keep, kept_s in (("never", 0), ("on-failure", 500), ("always", 500)):
        said = spec_of(settings, plan(timeout_s=100, keep=keep, keep_ttl_s=500))
        assert said.ttl_s == 1800 + 100 + kept_s


@pytest.mark.parametrize(
    ("changes", "pipeline", "uploads", "collects"),
    [
        ({}, "batch", False, False),
        ({"keep": "on-failure"}, "batch-keep", False, False),
        ({"keep": "always", "upload": ["src"]}, "batch-keep", True, False),
        ({"artifacts": ["*.log"]}, "batch", False, True),
        ({"junit": ["*.xml"]}, "batch", False, True),
    ],
)
def test_the_order_says_which_stages_there_are(
    settings: Settings, changes: dict[str, Any], pipeline: str, uploads: bool, collects: bool
) -> None:
    wanted = plan(timeout_s=77, **changes)
    state = begun(batch(), waiting(wanted), 1.0)
    order = attempt_order(settings, batch(), Planned.of(wanted), state)
    assert (order.pipeline, order.vm, order.job) == (pipeline, state.vm, state.job)
    assert order.params.timeout_s == 77
    ref = order.params.batch
    assert ref is not None
    assert (ref.batch, ref.index, ref.attempt, ref.home) == (BATCH, 0, 1, "here")
    assert (ref.uploads, ref.collects) == (uploads, collects)


def test_who_runs_a_job_again_may_keep_its_vm_whatever_the_plan_says(settings: Settings) -> None:
    wanted = plan(timeout_s=100, keep="never", keep_ttl_s=500)
    old = waiting(wanted).model_copy(update={"keep": True})
    state = begun(batch(), old, 1.0)
    order = attempt_order(settings, batch(), Planned.of(wanted), state)
    assert (order.pipeline, order.spec.ttl_s) == ("batch-keep", 1800 + 100 + 500)
    assert taken_back(state) == old


def test_the_longest_plan_can_be_ordered(settings: Settings) -> None:
    wanted = plan(timeout_s=Plan.model_fields["timeout_s"].metadata[1].le)
    order = attempt_order(settings, batch(), Planned.of(wanted), begun(batch(), waiting(wanted), 1.0))
    Order.model_validate(order.model_dump(mode="json", exclude={"spec"}))
