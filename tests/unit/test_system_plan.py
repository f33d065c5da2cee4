"""What an installation consists of, decided from settings alone."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from banger.contracts.tickets import TicketKey
from banger.embedded.credentials import decide
from banger.embedded.ports import Ports
from banger.settings import Settings
from banger.system import hardening, places
from banger.system.plan import File, InstallPlan, described
from banger.system.planning import config_text, install_plan
from banger.system.units import command_line, environment_text

KEY = TicketKey(public="A" * 43 + "=")


def a_plan(*, names: bool = True, **changes: object) -> InstallPlan:
    settings = Settings(host="h1", owner="anna", **changes)  # type: ignore[arg-type]
    credentials = decide(settings, None, Ports(7379, 5555))
    own = settings.redis_url is None
    return install_plan(settings, credentials, (KEY,), own_redis=own, disk_backend="reflink", names=names)


def file(plan: InstallPlan, name: str) -> File:
    return next(one for one in plan.files if one.path.name == name)


def lines(plan: InstallPlan, unit: str) -> list[str]:
    return file(plan, unit).text.splitlines()


def test_each_service_is_a_user_of_its_own_and_only_two_are_root() -> None:
    plan = a_plan()
    users = {name: next(x for x in lines(plan, name) if x.startswith("User=")) for name in plan.services[2:]}
    assert users == {
        places.WORKER: "User=banger",
        places.ROOT_WORKER: "User=root",
        places.FLOWER: "User=banger-flower",
        places.DNS: "User=banger-dns",
    }
    assert "User=banger-redis" in lines(plan, places.REDIS)
    mending = f"ExecStartPre={sys.executable} -m banger.embedded.redis_server "
    assert any(line.startswith(mending) for line in lines(plan, places.REDIS))
    assert {user.name for user in plan.users} == {"banger", "banger-redis", "banger-flower", "banger-dns"}


def test_another_redis_needs_neither_unit_nor_user_nor_files() -> None:
    plan = a_plan(redis_url="rediss://redis.example.org:6380/0")
    assert places.REDIS not in plan.services
    assert "banger-redis" not in {user.name for user in plan.users}
    assert not any("redis" in str(one.path) for one in (*plan.files, *plan.directories))
    assert not any("banger-redis" in one.text for one in plan.files)
    # Where it is by address is only known when it is asked for: no filter then.
    assert not any(line.startswith("IPAddress") for line in lines(plan, places.ROOT_WORKER))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("rediss://10.1.2.3:6379/0", "IPAddressAllow=localhost 10.1.2.3"),
        ("redis://127.0.0.1:6379/0", "IPAddressAllow=localhost"),
        ("rediss://[fd00::1]:6379/0", "IPAddressAllow=localhost fd00::1"),
    ],
)
def test_root_reaches_redis_and_nothing_else(url: str, allowed: str) -> None:
    found = lines(a_plan(redis_url=url), places.ROOT_WORKER)
    assert "IPAddressDeny=any" in found
    assert allowed in found


def test_secrets_are_root_owned_files_that_nobody_else_reads_and_no_plan_shows() -> None:
    plan = a_plan()
    env = [one for one in plan.files if one.path.parent == places.CREDENTIALS]
    assert {one.path.name for one in env} == {"worker.env", "root-worker.env", "flower.env"}
    assert {(one.owner, one.group, one.mode, one.secret) for one in env} == {("root", "root", 0o600, True)}
    secrets = {line.split(":")[-1].split("@")[0] for one in env for line in one.text.splitlines()}
    shown = [one.text for one in plan.files if not one.secret] + [" ".join(row) for row in described(plan)]
    assert not any(secret in text for secret in secrets for text in shown)


def test_each_service_gets_its_own_role_alone() -> None:
    plan = a_plan()
    assert "redis://worker-h1:" in file(plan, "worker.env").text
    assert "redis://root-h1:" in file(plan, "root-worker.env").text
    assert "redis://flower:" in file(plan, "flower.env").text


def test_the_policy_trusts_the_given_keys_and_may_be_given_others() -> None:
    policy = json.loads(file(a_plan(), "policy.json").text)
    assert policy["ticket_keys"] == [KEY.model_dump(mode="json")]
    assert file(a_plan(), "policy.json").grows  # a key is rotated in it


def test_the_configuration_says_what_is_not_default_and_whose_host_this_is() -> None:
    text = config_text(Settings(host="h1", owner="anna", uid_base=500_000, redis_url="rediss://elsewhere/0"))
    assert tomllib.loads(text) == {"host": "h1", "owner": "anna", "uid_base": 500_000}


def test_the_run_directories_come_again_after_a_reboot() -> None:
    plan = a_plan()
    made = {line.split()[1] for line in file(plan, "banger.conf").text.splitlines()[1:]}
    settings = Settings(host="h1")
    assert made == {
        str(one.path) for one in plan.directories if one.path.is_relative_to(settings.run_dir)
    } | {str(settings.paths.spool)}


def test_the_worker_writes_to_vms_and_not_to_its_keys() -> None:
    found = lines(a_plan(), places.WORKER)
    written = {line for line in found if line.startswith("ReadWritePaths=")}
    assert written == {
        "ReadWritePaths=-/var/lib/banger/vms",
        "ReadWritePaths=-/var/lib/banger/batches",
        "ReadWritePaths=-/var/lib/banger/verified",
        "ReadWritePaths=-/var/lib/banger/names",
        "ReadWritePaths=-/run/banger/spool",
    }


def test_the_worker_is_told_what_works_here() -> None:
    found = lines(a_plan(names=False), places.WORKER)
    assert {"Environment=BANGER_DISK_BACKEND=reflink", "Environment=BANGER_NAMES=false"} <= set(found)
    assert "Environment=BANGER_NAMES=false" in lines(a_plan(names=False), places.NETWORK)
    config = file(a_plan(names=False), "config.toml").text
    assert not any(name in config for name in ("disk_backend", "names"))


def test_the_name_server_may_listen_on_port_53_and_is_reached_by_guests_alone() -> None:
    found = lines(a_plan(), places.DNS)
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in found
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in found
    assert "CapabilityBoundingSet=" not in found
    assert "IPAddressAllow=172.16.0.0/24" in found
    assert not any(line.startswith(("EnvironmentFile", "ReadWritePaths")) for line in found)


def test_without_a_dnsmasq_there_is_no_name_server_and_no_user_for_one() -> None:
    plan = a_plan(names=False)
    assert places.DNS not in plan.services
    assert "banger-dns" not in {user.name for user in plan.users}


def test_a_restart_of_the_root_worker_signals_nobody_else() -> None:
    found = lines(a_plan(), places.ROOT_WORKER)
    assert {"KillMode=process", "OOMPolicy=continue"} <= set(found)
    assert not any(line.startswith("RuntimeDirectory") for line in found)  # systemd would empty it


def test_kvm_is_allowed_before_udev_has_made_its_device() -> None:
    plan = a_plan()
    for unit in (places.NETWORK, places.ROOT_WORKER):
        allowed = [line for line in lines(plan, unit) if line.startswith("DeviceAllow=")]
        assert any(line.startswith("DeviceAllow=/dev/char/10:232 ") for line in allowed)
        assert not any("/dev/kvm" in line for line in allowed)


def test_every_setting_has_a_reason_and_every_capability_a_use() -> None:
    for setting in (
        *hardening.root(writable=(), addresses=("localhost",)),
        *hardening.unprivileged(writable=(), addresses=("localhost",)),
        *hardening.preparation(writable=()),
        *hardening.name_server(addresses=("localhost",)),
    ):
        assert len(setting.reason) > 3, setting
    assert all(hardening.ROOT_CAPABILITIES.values())


def test_no_word_of_a_command_line_is_expanded() -> None:
    assert command_line(("/a b/x", "50%", "$HOME", 'a"b')) == '"/a b/x" 50%% $$HOME "a\\"b"'
    assert environment_text({"A": 'x"$`\\'}) == 'A="x\\"\\$\\`\\\\"\n'


def test_the_documentation_has_every_setting_and_capability() -> None:
    text = Path(__file__).parents[2].joinpath("docs/install.md").read_text()
    names = {s.name for s in hardening.root(writable=(Path("/x"),), addresses=("localhost",))}
    names |= {s.name for s in hardening.unprivileged(writable=(), addresses=("localhost",))}
    assert {name for name in (*names, *hardening.ROOT_CAPABILITIES) if f"`{name}`" not in text} == set()
