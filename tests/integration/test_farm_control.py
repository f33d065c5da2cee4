"""``banger farm up | status | down | logs`` with the real services, in a network of the test's own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis
from netns import private_network
from redis.backoff import NoBackoff
from redis.retry import Retry

from banger.connection import connect
from banger.contracts.errors import BangerError, ConflictError
from banger.contracts.names import BRIDGE
from banger.contracts.vmm_limits import limits
from banger.doctor import examine, gather
from banger.embedded import control, credentials
from banger.embedded.paths import farm_paths
from banger.embedded.services import settings_environment
from banger.records import Records
from banger.redis_roles import acl_rules
from banger.settings import Settings
from banger.shell import run
from root_worker.vmm import cgroups

pytestmark = pytest.mark.integration

DEADLINE_S = 30.0
VM = "0123456789ab"
SERVICES = ["redis", "worker", "root-worker", "flower", "dns"]


def eventually(condition, deadline_s: float = DEADLINE_S):
    """Return the condition's first truthy value; fail when the deadline passes."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module", autouse=True)
def _network():
    with private_network():
        run(("/usr/sbin/ip", "link", "set", "lo", "up"), deadline_s=5)
        yield


@pytest.fixture(scope="module")
def make_settings():
    """Return a factory of settings whose directories are gone, and farms stopped, after the module."""
    made = []

    def make(**changes) -> Settings:
        root = Path(tempfile.mkdtemp(prefix="banger-test-", dir="/var/tmp"))
        root.chmod(0o711)
        settings = Settings(
            host=f"farm{len(made)}",
            state_dir=root / "state",
            run_dir=root / "run",
            redis_port=0,
            flower_port=0,
            owner="root",
            worker_threads=8,
            **changes,
        )
        made.append((root, settings))
        return settings

    yield make
    for root, settings in made:
        control.down(settings)
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def settings(make_settings) -> Settings:
    return make_settings()


@pytest.fixture
def farm(settings):
    """Return a running farm: its status, and what its Redis and Flower ask for."""
    control.up(settings)
    return credentials.load(settings.farm_file)


def pids(settings) -> dict[str, int | None]:
    return {one.name: one.pid for one in control.status(settings).services}


def runs(pid: int) -> bool:
    """Tell whether the process exists and is no zombie, which init may not have buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def get(farm, path: str, *, password: str | None = None):
    request = urllib.request.Request(f"{farm.flower_url}{path}")
    token = base64.b64encode(f"{farm.flower_user}:{password or farm.flower_password}".encode()).decode()
    request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def test_nothing_runs_before_the_first_up(make_settings):
    status = control.status(make_settings())
    assert (status.pid, status.services, status.ready) == (None, (), False)


def test_up_starts_every_service_and_status_shows_each(settings):
    said = []
    status = control.up(settings, progress=said.append)
    assert status.ready
    assert status.since
    assert [one.name for one in status.services] == SERVICES
    assert {one.state for one in status.services} == {"running"}
    assert all(one.pid and one.since and one.restarts == 0 and one.serves for one in status.services)
    assert [one.user for one in status.services] == ["banger", "banger", "root", "banger", "nobody"]
    assert {f"{name}: running" for name in SERVICES} <= set(said)


def test_up_again_changes_nothing(settings, farm):
    before = control.status(settings)
    assert control.up(settings) == before


def test_a_farm_that_root_would_refuse_says_so_and_up_mends_it(settings, farm):
    """Jobs would wait without a word: the queues count as served by nobody, and doctor knows why."""
    before = control.status(settings)
    records = Records(connect(farm.url("admin")))
    queues = (f"banger.work.{settings.host}", f"banger.root.{settings.host}")
    eventually(lambda: all(map(records.serving, queues)))
    settings.paths.ticket_key.unlink()  # of the worker
    os.chown(farm_paths(settings).policy, 12345, 0)  # of root
    eventually(lambda: not any(map(records.serving, queues)))
    (trust,) = (check for check in examine(gather(settings)) if check.name == "root's trust")
    assert (trust.status, trust.remedy) == ("fail", "sudo banger farm up")
    assert "the key that seals root's tickets cannot be read" in trust.found
    assert control.up(settings) == before
    eventually(lambda: all(map(records.serving, queues)))
    assert gather(settings).sealing == ""
    records.redis.close()


def test_each_process_has_the_rights_that_its_row_says(settings, farm):
    for one in control.status(settings).services:
        lines = Path(f"/proc/{one.pid}/status").read_text()
        uid = int(lines.split("Uid:")[1].split()[0])
        assert (uid == 0) == (one.name == "root-worker")
        if uid:
            port_53 = 1 << 10 if one.name == "dns" else 0  # CAP_NET_BIND_SERVICE
            assert int(lines.split("CapEff:")[1].split()[0], 16) == port_53
            assert int(lines.split("NoNewPrivs:")[1].split()[0]) == 1


def test_passwords_are_in_no_command_line_and_in_no_file_that_others_read(settings, farm):
    for pid in pids(settings).values():
        argv = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(password in argv for password in farm.redis_passwords.values())
        assert farm.flower_password not in argv
    assert settings.farm_file.stat().st_mode & 0o777 == 0o600


def test_redis_asks_for_its_password_and_does_not_forget(settings, farm):
    socket_path = str(settings.run_dir / "redis/redis.sock")
    for way in ({"host": "127.0.0.1", "port": farm.redis_port}, {"unix_socket_path": socket_path}):
        stranger = redis.Redis(**way, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    with redis.Redis.from_url(farm.url("admin")) as ours:
        assert ours.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert ours.config_get("appendonly")["appendonly"] == "yes"


def test_flower_shows_both_workers_to_who_knows_the_password(settings, farm):
    names = {f"work@{settings.host}", f"root@{settings.host}"}
    eventually(lambda: names <= set(get(farm, "/api/workers?status=1")))
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        get(farm, "/api/workers", password="wrong")
    refused.value.close()


@pytest.mark.parametrize("name", ["worker", "root-worker"])
def test_a_killed_service_is_restarted_and_counted(settings, farm, name):
    before = pids(settings)
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: pids(settings)[name] not in (None, before[name]) and control.status(settings).ready)
    after = {one.name: one for one in control.status(settings).services}
    assert after[name].restarts == 1
    assert {n: p for n, p in pids(settings).items() if n != name} == {
        n: p for n, p in before.items() if n != name
    }


def test_up_after_the_supervisor_was_killed_waits_for_the_new_services(settings, farm):
    before, supervisor = pids(settings), control.status(settings).pid
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: control.status(settings).pid is None)
    told = control.up(settings)
    assert told.ready
    assert not {one.pid for one in told.services} & set(before.values())


def test_logs_are_there_for_each_service_and_one_alone(settings, farm):
    assert {line.service for line in control.logs(settings)} >= set(SERVICES)
    assert any("ready." in line.text for line in control.logs(settings, "worker"))


def test_a_second_farm_does_not_disturb_the_first(make_settings, settings, farm):
    before = pids(settings)
    with redis.Redis.from_url(farm.url("admin")) as first:
        first.set("mine", "yes")
        other = make_settings(redis_url=farm.redis_url)  # someone else's Redis, from this farm's view
        other.state_dir.mkdir()
        theirs = credentials.ensure(other)
        for user, rules in acl_rules(other.host, theirs.redis_passwords).items():
            first.execute_command("ACL", "SETUSER", user, *rules.split())
    said: list[str] = []
    status = control.up(other, progress=said.append)
    assert [one.name for one in status.services] == SERVICES
    assert status.services[0].state == "external"
    assert status.services[-1].failing  # the first has the network's port 53
    assert "Address already in use" in said[-1]
    assert not any(password in status.model_dump_json() for password in theirs.redis_passwords.values())
    assert control.down(other)
    assert pids(settings) == before


def test_down_stops_all_within_its_bound_and_keeps_what_redis_knew(settings, farm):
    running = [control.status(settings).pid, *pids(settings).values()]
    with redis.Redis.from_url(farm.url("admin")) as ours:
        ours.pipeline(transaction=True).set("kept", "yes").execute()
    began = time.monotonic()
    assert control.down(settings)
    assert time.monotonic() - began < control.DOWN_DEADLINE_S
    assert not [pid for pid in running if runs(pid)]
    assert control.status(settings).pid is None
    assert not control.down(settings)
    control.up(settings)
    with redis.Redis.from_url(farm.url("admin")) as ours:
        assert ours.get("kept") == b"yes"
    control.down(settings)


def has_network() -> bool:
    tables = run(("/usr/sbin/nft", "list", "tables"), deadline_s=5).stdout.split()
    return Path("/proc/thread-self/net/dev").read_text().count(f"{BRIDGE}:") + tables.count(b"banger") == 3


def test_up_makes_the_guests_network_and_mends_it_and_down_takes_it_away(settings, farm):
    assert has_network()
    run(("/usr/sbin/nft", "flush", "ruleset"), deadline_s=5)
    assert not has_network()
    control.up(settings)
    assert has_network()
    run(("/usr/sbin/ip", "tuntap", "add", "bgr-12345678901", "mode", "tap"), deadline_s=5)  # a VM goes on
    control.down(settings)
    assert has_network()
    run(("/usr/sbin/ip", "link", "del", "bgr-12345678901"), deadline_s=5)
    control.down(settings)
    assert not Path("/proc/thread-self/net/dev").read_text().count(BRIDGE)
    assert run(("/usr/sbin/nft", "list", "ruleset"), deadline_s=5).stdout == b""


def test_down_takes_the_vms_cgroup_away_once_no_vm_has_one_in_it(settings, farm):
    def groups() -> set[Path]:
        return set(Path("/sys/fs/cgroup").glob(f"**/{settings.paths.cgroups}"))

    with cgroups.limited(settings.paths, VM, limits(vcpus=1, memory_mib=64)):
        made = groups()
    assert made
    control.down(settings)
    assert groups() == made  # the VM goes on
    cgroups.remove(settings.paths, VM)
    control.down(settings)
    assert not groups()


def test_in_the_foreground_it_runs_until_interrupted(make_settings):
    settings = make_settings()
    environment = settings_environment(settings) | {"PATH": os.environ["PATH"]}
    code = "from banger.embedded import control; from banger.settings import load_settings as load;"
    code += "control.up(load(), foreground=True)"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) as farm:
        eventually(lambda: control.status(settings).ready)
        # Those that a farm can do without may be on their way yet.
        eventually(lambda: all(one.state == "running" for one in control.status(settings).services))
        assert control.status(settings).pid == farm.pid
        farm.send_signal(signal.SIGINT)
        assert farm.wait(control.DOWN_DEADLINE_S) == 0
        said = farm.stderr.read().decode()
    assert all(f"{name} runs after" in said for name in SERVICES)
    assert control.status(settings).pid is None


def test_a_service_that_cannot_start_is_named_with_its_last_words(make_settings):
    settings = make_settings()
    data = farm_paths(settings).redis
    data.mkdir(parents=True)
    (data / "appendonlydir").write_text("where Redis wants a directory")
    with pytest.raises(BangerError, match="redis did not start") as caught:
        control.up(settings)
    assert "Can't open or create append-only dir" in caught.value.details
    assert control.status(settings).pid is None


def test_a_port_that_is_taken_is_refused_before_anything_starts(make_settings):
    settings = make_settings()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        asked = settings.model_copy(update={"redis_port": taken.getsockname()[1]})
        with pytest.raises(ConflictError, match="taken by another program"):
            control.up(asked)
    assert not settings.farm_file.exists()
    assert not farm_paths(settings).log("redis").exists()
