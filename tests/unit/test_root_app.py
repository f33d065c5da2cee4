"""What root's app is before any message comes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from banger.contracts.policy import Policy
from banger.contracts.queues import task_name
from banger.contracts.stages import Side, tasks_of
from banger.contracts.tickets import TicketKey
from root_worker.app import make_app


class _Given(NamedTuple):
    """A policy that comes from no file."""

    policy: Policy

    def read(self) -> Policy:
        return self.policy

    def ticket_keys(self) -> tuple[TicketKey, ...]:
        return ()


def test_root_has_its_typed_operations_and_no_task_of_celerys_own(tmp_path: Path) -> None:
    file = _Given(Policy(host="here", state_dir=tmp_path / "state", run_dir=tmp_path / "run"))
    (tmp_path / "state" / "registry").mkdir(parents=True)
    app = make_app(file, "redis://root-here:no-word-of-any-use@127.0.0.1:1/0")  # type: ignore[arg-type]
    app.finalize()
    assert set(app.tasks) == {task_name("root", *task) for task in tasks_of(Side.ROOT)}
    assert app.conf.accept_content == ["json"]
    assert not app.conf.worker_enable_remote_control
    assert app.conf.worker_send_task_events
