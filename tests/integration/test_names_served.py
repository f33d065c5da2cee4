"""Names follow VMs through a farm: its workers and name server are real, its guests are stubs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_farm import SMALL, BatchFarm, batch_farm_box
from farm_box import Box, eventually
from name_client import NAME_ERROR, addresses, ask

from banger.contracts.errors import BangerError
from banger.contracts.names import BRIDGE
from banger.embedded import control, network
from banger.name_server import gateway
from banger.records import Record

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def farm() -> Iterator[BatchFarm]:
    with batch_farm_box() as made:
        yield made


@pytest.fixture
def box(farm: BatchFarm) -> Iterator[Box]:
    yield farm.box
    farm.clear()
    assert not list(farm.box.paths.names.iterdir())


def create(box: Box, name: str, **changes: object) -> Record:
    return box.farm.create(name, image="micro", **{**SMALL, **changes})  # type: ignore[arg-type]


def found(box: Box, name: str) -> list[str]:
    return addresses(f"{name}.vm", gateway(box.settings))


def is_unknown(box: Box, name: str) -> bool:
    return ask(f"{name}.vm", gateway(box.settings)).code == NAME_ERROR


def test_a_name_follows_create_stop_start_restart_and_delete(box: Box) -> None:
    dev = create(box, "dev")
    assert found(box, "dev") == [dev.address]
    box.farm.stop("dev")
    assert is_unknown(box, "dev")
    box.farm.start("dev")
    assert found(box, "dev") == [dev.address]
    box.farm.restart("dev")
    assert found(box, "dev") == [dev.address]
    box.farm.kill("dev")
    assert is_unknown(box, "dev")
    box.farm.delete("dev")
    again = create(box, "dev")
    assert found(box, "dev") == [again.address]
    box.farm.delete("dev")
    assert is_unknown(box, "dev")


def test_a_vm_that_was_not_started_has_no_name(box: Box) -> None:
    create(box, "quiet", start=False)
    assert is_unknown(box, "quiet")


def test_a_create_that_fails_leaves_no_name(box: Box) -> None:
    subprocess.run(["ip", "link", "set", BRIDGE, "down"], check=True)
    with pytest.raises(BangerError, match="no bridge"):
        create(box, "failed")
    network.ensure(box.settings)
    assert is_unknown(box, "failed")


def test_a_job_of_a_batch_has_a_name_while_it_works(farm: BatchFarm, box: Box) -> None:
    batch = farm.submit(farm.hold())
    farm.wait(batch, running=1)
    (record,) = box.farm.list()
    eventually(lambda: found(box, record.name) == [record.address])
    farm.let_go()
    farm.ended(batch)
    assert is_unknown(box, record.name)


def test_names_outlive_a_redis_that_forgot_everything(box: Box) -> None:
    dev = create(box, "dev")
    box.admin.redis.flushall()
    eventually(lambda: [record.name for record in box.farm.list()] == ["dev"])
    assert found(box, "dev") == [dev.address]


def test_what_was_written_or_removed_by_hand_is_mended(box: Box) -> None:
    dev = create(box, "dev")
    (box.paths.names / str(dev.address)).unlink()
    (box.paths.names / "172.16.0.77").write_text("172.16.0.77 evil.vm\n")
    eventually(lambda: found(box, "dev") == [dev.address] and is_unknown(box, "evil"))


@pytest.mark.parametrize("service", ["dns", "worker"])
def test_names_are_there_again_after_a_kill(box: Box, service: str) -> None:
    dev = create(box, "dev")
    old = box.pid(service)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: running(box, service) not in (None, old))
    eventually(lambda: answered(box, "dev") == [dev.address])


def running(box: Box, service: str) -> int | None:
    (one,) = (one for one in control.status(box.settings).services if one.name == service)
    return one.pid if one.state == "running" else None


def answered(box: Box, name: str) -> list[str] | None:
    try:
        return found(box, name)
    except ConnectionRefusedError:
        return None


def test_the_name_server_is_nobodys_and_has_one_capability(box: Box) -> None:
    status = Path(f"/proc/{box.pid('dns')}/status").read_text()
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert said["Uid"].split() == ["65534"] * 4
    assert {said[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {f"{1 << 10:016x}"}
    assert said["NoNewPrivs"] == "1"


def test_doctor_tells_whether_names_resolve(box: Box) -> None:
    def names() -> Any:
        (check,) = (
            check for check in json.loads(box.banger("doctor", "--json").stdout) if check["name"] == "names"
        )
        return check

    assert names()["found"] == "in guests; what this host finds shows when a VM runs, by 172.16.0.1"
    create(box, "dev")
    assert names()["found"] == "in guests; programs on this host do not find them"
    pid = box.pid("dns")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert names()["found"] == "nobody answers at 172.16.0.1:53"
    finally:
        os.kill(pid, signal.SIGCONT)
