"""Files that an owner left go with their job, and never before it."""

from __future__ import annotations

import os
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from farm_facts import job

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
