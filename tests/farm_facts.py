"""Facts that several tests need: a record, a job, a host, calls; plain values, no fakes."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from banger.contracts.calls import StageCall
from banger.contracts.spec import VmSpec
from banger.contracts.states import State
from banger.hosts import HostImage, HostInfo
from banger.pipelines import Pipeline
from banger.planning import calls
from banger.records import Job, Record

VM, JOB = "0123456789ab", "ba9876543210"
NETWORK = IPv4Network("172.16.0.0/24")
UID_BASE = 300_000
IMAGE = HostImage(id="aaaaaaaaaaaa", name="micro", kernel="bbbbbbbbbbbb", rootfs_mib=64)


def spec(**changes: Any) -> VmSpec:
    return VmSpec.model_validate({"name": "dev", "image": "micro"} | changes)


def record(**changes: Any) -> Record:
    fields = {
        "id": VM,
        "name": "dev",
        "state": State.CREATING,
        "generation": 1,
        "host": "here",
        "slot": 5,
        "address": "172.16.0.5",
        "job": JOB,
        "image": IMAGE.id,
        "kernel": IMAGE.kernel,
        "spec": spec(),
        "created_at": 1000.0,
    }
    return Record.model_validate(fields | changes)


def job(pipeline: Pipeline, **changes: Any) -> Job:
    return Job.model_validate({"id": JOB, "vm": VM, "pipeline": pipeline.name, "state": "running"} | changes)


def host(name: str = "here", **changes: Any) -> HostInfo:
    fields = {
        "name": name,
        "network": NETWORK,
        "uid_base": UID_BASE,
        "vcpus": 32,
        "memory_mib": 4096,
        "disk_free_mib": 100_000,
        "images": (IMAGE,),
        "alive": True,
    }
    return HostInfo.model_validate(fields | changes)


def steps(pipeline: Pipeline, params: dict[str, Any] | None = None, **changes: Any) -> list[StageCall]:
    return calls(pipeline, record(**changes), job(pipeline, params=params or {}), NETWORK, UID_BASE)
