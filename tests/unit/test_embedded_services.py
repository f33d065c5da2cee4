"""What an embedded farm runs, decided from settings alone."""

from __future__ import annotations

import os
from ipaddress import IPv4Network

import psutil
import pytest

from banger.contracts.broker import ROLES
from banger.contracts.tickets import TicketKey
from banger.embedded.child import LONGEST_DELAY_S, restart_delay
from banger.embedded.control import DOWN_DEADLINE_S
from banger.embedded.credentials import Credentials
from banger.embedded.layout import directories, policy
from banger.embedded.plan import FarmStatus, ServiceStatus
from banger.embedded.redis import redis_config
from banger.embedded.services import farm_plan
from banger.name_server import name_server_argv
from banger.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(host="h1", state_dir=tmp_path / "state", run_dir=tmp_path / "run")


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(
        host="h1",
        redis_url="redis://127.0.0.1:7379/0",
        redis_passwords={role: f"s3cret-{role}" for role in ROLES},
        redis_port=7379,
        flower_url="http://127.0.0.1:5555",
        flower_user="banger",
        flower_password="s3cret-flower",
        flower_port=5555,
    )


def by_name(plan):
    return {service.name: service for service in plan.services}


def test_redis_comes_first_and_the_rest_needs_it(settings, credentials):
    plan = farm_plan(settings, credentials, ())
    assert [service.name for service in plan.services] == ["redis", "worker", "root-worker", "flower", "dns"]
    assert all(service.needs == ("redis",) for service in plan.services[1:-1])


def test_no_redis_runs_where_one_is_configured(settings, credentials):
    plan = farm_plan(settings.model_copy(update={"redis_url": "redis://elsewhere/0"}), credentials, ())
    assert "redis" not in by_name(plan)
    assert all(service.needs == () for service in plan.services)


def test_no_password_stands_on_a_command_line(settings, credentials):
    for service in farm_plan(settings, credentials, ()).services:
        assert not any("s3cret" in word for word in service.argv)


def test_only_the_root_worker_runs_as_root(settings, credentials):
    services = by_name(farm_plan(settings, credentials, ()))
    assert {name for name, service in services.items() if service.user == "root"} == {"root-worker"}
    for name in ("redis", "worker", "flower"):
        assert ("--reuid", "banger") in zip(services[name].argv, services[name].argv[1:], strict=False)


def test_the_name_server_is_nobody_with_one_capability_and_the_farm_works_without_it(settings, credentials):
    dns = by_name(farm_plan(settings, credentials, ()))["dns"]
    assert dns.optional
    assert not dns.needs
    words = " ".join(dns.argv)
    assert "--reuid 65534 --regid 65534" in words
    assert "--ambient-caps -all,+net_bind_service --bounding-set -all,+net_bind_service" in words
    off = farm_plan(settings.model_copy(update={"names": False}), credentials, ())
    assert "dns" not in {*by_name(off), *(name for group in off.stop_order for name in group)}


def test_the_name_server_asks_nobody_else_and_listens_on_the_bridge_alone(settings):
    argv = name_server_argv(settings.model_copy(update={"network": IPv4Network("10.7.0.0/16")}))
    assert {"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=10.7.0.1"} <= set(argv)
    assert not any(word.startswith(("--server", "--resolv-file", "--interface")) for word in argv)


def test_each_worker_serves_the_queues_of_its_host(settings, credentials):
    services = by_name(farm_plan(settings, credentials, ()))
    assert services["worker"].serves == "banger.work.h1,banger.control"
    assert services["root-worker"].serves == "banger.root.h1"


def test_the_root_worker_is_told_its_policy_and_none_of_the_settings(settings, credentials):
    env = by_name(farm_plan(settings, credentials, ()))["root-worker"].env
    assert {name for name in env if name.startswith("BANGER_")} == {"BANGER_REDIS_URL", "BANGER_POLICY"}


def test_the_worker_learns_every_setting_from_its_environment(settings, credentials, monkeypatch):
    env = by_name(farm_plan(settings, credentials, ()))["worker"].env
    for name, value in env.items():
        if name.startswith("BANGER_"):
            monkeypatch.setenv(name, value)
    assert Settings() == settings.model_copy(update={"redis_url": credentials.url("worker")})


def test_stopping_is_bounded_and_ends_with_redis(settings, credentials):
    plan = farm_plan(settings, credentials, ())
    services = by_name(plan)
    assert plan.stop_order[-1] == ("redis",)
    assert sorted(name for group in plan.stop_order for name in group) == sorted(services)
    assert sum(max(services[name].stop_s for name in group) for group in plan.stop_order) < DOWN_DEADLINE_S


def test_redis_refuses_to_forget_and_to_be_reached_from_outside(tmp_path):
    config = redis_config(
        directory=tmp_path, socket=tmp_path / "s", port=7379, acl=tmp_path / "acl"
    ).splitlines()
    assert {
        "maxmemory-policy noeviction",
        "appendonly yes",
        "bind 127.0.0.1",
        f"aclfile {tmp_path}/acl",
    } <= set(config)


def test_the_policy_names_what_root_must_know(settings):
    keys = [TicketKey(public="A" * 43 + "=")]
    found = policy(settings, keys)
    assert (found.host, found.state_dir, found.run_dir) == ("h1", settings.state_dir, settings.run_dir)
    assert (found.network, found.uid_base) == (settings.network, 300_000)
    assert found.ticket_keys == tuple(keys)
    assert found.max_host_vcpus == (os.cpu_count() or 1) * 64
    assert 64 < found.max_host_memory_mib <= psutil.virtual_memory().total // 2**20


def test_nobody_but_root_can_change_images_and_registry(settings):
    owners = {path: (owner, mode) for path, owner, mode in directories(settings)}
    assert owners[settings.paths.images] == ("root", 0o755)
    assert owners[settings.paths.registry] == ("root", 0o700)
    assert owners[settings.paths.vms] == ("banger", 0o711)


def test_restarts_slow_down_up_to_a_bound():
    delays = [restart_delay(deaths) for deaths in range(1, 20)]
    assert delays == sorted(delays)
    assert delays[0] == 0.5
    assert delays[-1] == LONGEST_DELAY_S


@pytest.mark.parametrize("external", [(), (ServiceStatus(name="redis", state="external"),)])
def test_a_supervisor_that_has_said_nothing_yet_is_not_ready(external):
    assert not FarmStatus(pid=1, services=external).ready
    up = ServiceStatus(name="worker", state="running")
    assert FarmStatus(pid=1, services=(*external, up)).ready
    assert not FarmStatus(services=(*external, up)).ready
