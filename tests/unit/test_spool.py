"""Files that an owner left go with their job, and never before it."""

from __future__ import annotations

import os
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from batch_facts import batch
from farm_facts import job

from banger.batch.files_left import secrets_left
from banger.batch.state import BatchInfo
from banger.contracts.names import HostPaths
from banger.pipelines import CREATE
from banger.records import Job
from workers.host import WorkHost
from workers.spool import sweep

RUNNING, UNWINDING, ENDED, UNKNOWN = "a" * 12, "b" * 12, "c" * 12, "d" * 12


class NoBatches:
    def get(self, batch: str) -> None:
        return None


class PlayedRecords:
    def job(self, job_id: str) -> Job | None:
        state = {RUNNING: "running", UNWINDING: "unwinding", ENDED: "done"}.get(job_id)
        return job(CREATE, id=job_id, state=state) if state else None


class OneBatch:
    def __init__(self, info: BatchInfo) -> None:
        self.info = info

    def get(self, batch: str) -> BatchInfo | None:
        return self.info if batch == self.info.id else None


@pytest.mark.parametrize(
    ("state", "left_s_ago", "ended_s_ago", "stays"),
    [
        ("running", 5000.0, None, True),
        ("cancelling", 5000.0, None, True),
        ("ended", 30.0, 1.0, False),
        ("ended", 1.0, 30.0, True),  # for a retry, whose order is on its way
        ("ended", 100.0, 300.0, False),  # that order never came
    ],
)
def test_secrets_are_there_while_a_batch_needs_them(
    state: str, left_s_ago: float, ended_s_ago: float | None, stays: bool, tmp_path: Path
) -> None:
    host = WorkHost("here", HostPaths(tmp_path, tmp_path), IPv4Network("172.16.0.0/24"), 300_000)
    now = time.time()
    info = batch(state=state, ended_at=None if ended_s_ago is None else now - ended_s_ago)
    path = secrets_left(host.paths, info.id)
    path.parent.mkdir()
    path.touch()
    os.utime(path, times=(0, now - left_s_ago))
    records: Any = PlayedRecords()
    batches: Any = OneBatch(info)
    sweep(host, records, batches)
    assert path.exists() is stays


@pytest.mark.parametrize(
    ("age_s", "left"), [(0, {RUNNING, UNWINDING, UNKNOWN, "other"}), (1000, {RUNNING, UNWINDING})]
)
def test_what_belongs_to_no_job_goes_and_what_may_yet_goes_later(
    age_s: float, left: set[str], tmp_path: Path
) -> None:
    host = WorkHost("here", HostPaths(tmp_path, tmp_path), IPv4Network("172.16.0.0/24"), 300_000)
    records: Any = PlayedRecords()
    batches: Any = NoBatches()
    sweep(host, records, batches)  # no spool, no complaint
    (host.paths.spool / "directory").mkdir(parents=True)
    for name in (RUNNING, UNWINDING, ENDED, UNKNOWN, "other"):
        host.paths.bundle(name).touch()
        os.utime(host.paths.bundle(name), times=(0, time.time() - age_s))
    sweep(host, records, batches)
    assert {path.stem for path in host.paths.spool.iterdir()} == left | {"directory"}
