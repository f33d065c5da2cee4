"""Reconcile with real services: what nobody knows goes, a stranger's stays, an older Redis gives way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_box import Box, delete_all, eventually, farm_box, without_flower
from faulty_farm import FaultyFarm
from netns import inside
from pyroute2 import IPRoute

from banger.contracts.names import link_alias, new_id, tap_name
from banger.contracts.states import State
from banger.embedded import control
from banger.embedded.paths import farm_paths

pytestmark = pytest.mark.integration

NOBODY = "fedcba987654"
SLOT = 77


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with farm_box("micro", change=without_flower, accelerator="tcg") as made:
        yield made


def test_all_that_nobody_knows_is_swept_and_a_strangers_is_left_alone(faulty: FaultyFarm) -> None:
    farm, box = faulty.box.farm, faulty.box
    farm.create("kept", start=False)
    before = box.traces()
    slot_uid = box.settings.uid_base + SLOT
    with IPRoute() as ip:
        ip.link("add", ifname=tap_name(NOBODY), kind="tuntap", mode="tap", uid=slot_uid)
        (index,) = ip.link_lookup(ifname=tap_name(NOBODY))
        ip.link("set", index=index, IFLA_IFALIAS=link_alias(NOBODY))
        ip.link("add", ifname="bgr-strange", kind="bridge")
    sleep = ("--clear-groups", "--", "/usr/bin/python3", "-c", "import time; time.sleep(600)")
    process = subprocess.Popen(["/usr/bin/setpriv", f"--reuid={slot_uid}", *sleep, link_alias(NOBODY)])
    container = subprocess.Popen(["/usr/bin/setpriv", f"--reuid={slot_uid + 1}", *sleep])
    box.paths.jail(NOBODY).mkdir()
    left = box.paths.vm(NOBODY)
    left.mkdir()
    os.chown(left, box.paths.vms.stat().st_uid, -1)
    try:
        eventually(lambda: process.poll() is not None, 60)
        eventually(lambda: farm.records.get(NOBODY) is None, 60)
        container_of = f"process {container.pid} "
        eventually(
            lambda: (
                {line for line in box.traces() - before if not line.startswith(container_of)}
                == {"link bgr-strange"}
            )
        )
        assert container.poll() is None, "our uids may be somebody else's too"
        assert farm.show("kept").state is State.STOPPED
        told = box.banger("reconcile", "--dry-run", "--json")
        assert told.returncode == 0, told.stderr
        said = [finding["what"] for finding in json.loads(told.stdout)["box"]["findings"]]
        assert any("bgr-strange looks like ours and is not" in what for what in said)
    finally:
        for one in (process, container):
            one.kill()
            one.wait()
        with IPRoute() as ip:
            (index,) = ip.link_lookup(ifname="bgr-strange")
            ip.link("del", index=index)


def test_a_host_that_has_lost_a_vms_files_says_so(faulty: FaultyFarm) -> None:
    farm, paths = faulty.box.farm, faulty.box.paths
    lost = farm.create("lost", start=False)
    shutil.rmtree(paths.vm(lost.id))
    (paths.registry / f"{lost.id}.json").unlink()
    eventually(lambda: farm.show(lost.id).state is State.LOST)
    assert not faulty.box.traces()
    farm.create("lost", start=False)
    farm.delete(lost.id)
    assert [record.state for record in farm.list()] == [State.STOPPED]


def test_a_vm_that_runs_outlives_an_older_redis(box: Box) -> None:
    with inside(box.network):
        farm = box.farm
        gone = farm.create("gone", start=False)
        stopped = farm.create("started-since", start=False)
        copy = copy_of_redis(box)
        farm.delete("gone")
        started = farm.start("started-since")
        made = farm.create("made-since", start=False)
        put_back(box, copy)
        eventually(lambda: box.admin.get(made.id))
        eventually(lambda: box.farm.show(stopped.id).state is State.RUNNING)
        eventually(lambda: box.farm.show(gone.id).state is State.LOST)
        now = box.farm.show("started-since")
        assert (now.generation, now.slot) == (started.generation, started.slot)
        assert box.farm.exec("started-since", ["true"]) == 0
        other = box.farm.create("other", start=False)
        assert other.slot not in {started.slot, made.slot}
        delete_all(box)
        assert not box.traces()


def copy_of_redis(box: Box) -> Path:
    """Copy what Redis has on disk, as a backup would."""
    copy = box.root / f"redis-{new_id()}"
    subprocess.run(["cp", "-a", farm_paths(box.settings).redis, copy], check=True)
    return copy


def put_back(box: Box, copy: Path) -> None:
    """Stop the farm, put the copy in place, and start the farm again. VMs run on meanwhile."""
    control.down(box.settings)
    directory = farm_paths(box.settings).redis
    shutil.rmtree(directory)
    copy.rename(directory)
    box.up()
