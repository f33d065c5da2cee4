"""`banger system`, whole, on a machine of its own: what it makes, mends, tells and takes away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_box import SystemBox, system_box

from banger.contracts.registry import Entry
from banger.contracts.vmm_limits import limits
from banger.settings import Settings
from root_worker.vmm import cgroups

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UNITS = Path("/etc/systemd/system")
SERVICES = ["redis", "network", "worker", "root-worker", "flower", "dns"]
# On systemd's scale from 0 (nothing is open) to 10.
EXPOSURE = {"redis": 2.0, "network": 3.5, "worker": 2.0, "root-worker": 4.5, "flower": 2.0, "dns": 2.0}


@pytest.fixture
def box() -> Iterator[SystemBox]:
    with system_box() as made:
        yield made


@pytest.fixture(scope="module")
def installed() -> Iterator[SystemBox]:
    """One installation for all tests that leave it as it was."""
    with system_box() as made:
        made.good("system", "install")
        yield made


def test_a_purge_leaves_nothing_of_an_installation(box: SystemBox) -> None:
    before = box.listing()
    box.good("system", "install")
    assert box.listing() != before
    box.good("system", "uninstall", "--purge")
    assert box.listing() == before


def test_a_second_installation_changes_nothing(installed: SystemBox) -> None:
    digests = "sha256sum /etc/banger/credentials/* /var/lib/banger/farm.json /etc/passwd"
    before = installed.shell(digests)
    installed.told_systemd()
    said = installed.json("system", "install")
    assert {one["what"] for one in said} == {"unchanged", "kept"}
    assert [one["name"] for one in said if one["what"] == "kept"] == ["/etc/banger/config.toml"]
    units = " ".join(f"banger-{name}.service" for name in SERVICES)
    assert installed.told_systemd() == ["enable --quiet banger.target", f"start banger.target {units}"]
    assert installed.shell(digests) == before


def test_a_dry_run_tells_all_and_does_nothing(box: SystemBox) -> None:
    before = box.listing()
    planned = box.json("system", "install", "--dry-run")
    table = box.good("system", "install", "--dry-run")
    assert box.listing() == before
    assert not box.told_systemd()
    box.good("system", "install")
    for one in (*planned["directories"], *planned["files"]):
        assert one["path"] in table
        found = box.shell(f"stat -c '%U 0%a' {one['path']}").split()
        assert found[0] == one["owner"]
        assert int(found[1], 8) == int(one["mode"], 8)


def test_what_runs_is_started_in_order_and_told_to_systemd(box: SystemBox) -> None:
    box.good("system", "install")
    units = " ".join(f"banger-{name}.service" for name in SERVICES)
    assert box.told_systemd() == [
        "daemon-reload",
        "enable --quiet banger.target",
        f"restart {units}",
        f"start banger.target {units}",
    ]


def test_systemd_understands_the_units(installed: SystemBox) -> None:
    """systemd-analyze complains of what it does not know, and of programs that are not there."""
    names = " ".join(str(UNITS / f"banger-{name}.service") for name in SERVICES)
    ended = installed.run("systemd-analyze", "verify", "--man=no", *names.split())
    said = [line for line in ended.err.splitlines() if "banger" in line]
    assert (ended.code, said) == (0, [])


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_no_more_exposed_than_it_was(installed: SystemBox, name: str) -> None:
    limit = int(EXPOSURE[name] * 10)
    unit = str(UNITS / f"banger-{name}.service")
    ended = installed.run(
        "systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={limit}", unit
    )
    assert ended.code == 0, ended.out


DRIFT = {
    "chmod 0666 {units}/banger-worker.service": "banger-worker.service has mode 0666, not 0644",
    "echo x >> {units}/banger-root-worker.service": "banger-root-worker.service was changed",
    "chown banger /var/lib/banger/registry": "/var/lib/banger/registry belongs to banger, not to root",
    "chmod 0644 /etc/banger/credentials/worker.env": "worker.env has mode 0644, not 0600",
    "rm {units}/banger-flower.service": "banger-flower.service is gone",
    "chown banger /var/lib/banger/policy.json": "policy.json belongs to banger, not to root",
    "userdel banger-flower": "user banger-flower does not exist",
    "systemctl stop banger-worker.service": "banger-worker.service does not run: inactive",
}


def test_drift_is_named_by_status_and_doctor_and_mended_by_install(installed: SystemBox) -> None:
    assert installed.banger("system", "status").code == 0
    installed.shell("\n".join(DRIFT).format(units=UNITS))
    status = installed.banger("system", "status")
    assert status.code == 3
    found = [check for check in installed.json("doctor") if check["name"] == "installation"]
    assert {(check["status"], check["remedy"]) for check in found} == {("fail", "sudo banger system install")}
    for drift in DRIFT.values():
        assert drift in status.out
        assert any(drift in check["found"] for check in found), drift
    installed.good("system", "install")
    assert installed.banger("system", "status").code == 0


def test_a_key_that_was_rotated_is_no_drift_and_survives_another_installation(installed: SystemBox) -> None:
    installed.good("key", "rotate")
    policy = installed.shell("cat /var/lib/banger/policy.json")
    assert installed.banger("system", "status").code == 0
    installed.good("system", "install")
    assert installed.shell("cat /var/lib/banger/policy.json") == policy


def test_no_service_user_can_read_what_is_anothers(installed: SystemBox) -> None:
    """Flower and Redis read no key, and the worker nobody else's password."""
    secrets = {
        "/var/lib/banger/ticket.key": {"banger"},
        "/var/lib/banger/keys/id_ed25519": {"banger"},
        "/var/lib/banger/redis.acl": {"banger-redis"},
        "/var/lib/banger/farm.json": set(),
        "/etc/banger/credentials/worker.env": set(),
        "/etc/banger/credentials/flower.env": set(),
        "/var/lib/banger/registry": set(),
        "/var/lib/banger/audit": set(),
    }
    for path, readers in secrets.items():
        for user in ("banger", "banger-redis", "banger-flower", "nobody"):
            enter = ("setpriv", f"--reuid={user}", f"--regid={'nogroup' if user == 'nobody' else user}")
            ended = installed.run(*enter, "--init-groups", "--", "test", "-r", path)
            assert (ended.code == 0) == (user in readers), f"{user} {path}"


def test_the_installation_says_whose_it_is(box: SystemBox) -> None:
    box.shell("mkdir -p /opt/anna; useradd --home-dir /opt/anna anna; chown anna:anna /opt/anna")
    box.good("system", "install", "--owner", "anna")
    made = json.loads(box.shell("cat /var/lib/banger/install.json"))
    assert made["owner"] == "anna"
    assert str(made["uid"]) == box.shell("id -u anna")
    assert "anna" in box.good("system", "status")
    assert 'owner = "anna"' in box.shell("cat /etc/banger/config.toml")
    box.good("system", "install")  # remembers
    assert json.loads(box.shell("cat /var/lib/banger/install.json"))["owner"] == "anna"


def test_an_existing_configuration_is_kept_and_what_contradicts_it_is_refused(box: SystemBox) -> None:
    box.shell("mkdir /etc/banger; printf 'host = \"kitchen\"\\n# mine\\n' > /etc/banger/config.toml")
    box.good("system", "install")
    assert box.shell("cat /etc/banger/config.toml") == 'host = "kitchen"\n# mine'
    assert "root@kitchen" in box.shell(f"cat {UNITS}/banger-root-worker.service")
    ended = box.banger("system", "install", BANGER_HOST="attic")
    assert ended.code == 2
    assert "host: attic (from BANGER_HOST)" in ended.err
    box.good("system", "uninstall", "--purge")
    assert box.shell("ls /etc/banger") == "config.toml"  # it was not ours


def test_without_a_purge_state_and_configuration_stay_for_another_installation(box: SystemBox) -> None:
    box.good("system", "install")
    key = box.shell("sha256sum /var/lib/banger/ticket.key /var/lib/banger/farm.json")
    box.shell("echo mine >> /etc/tmpfiles.d/banger.conf")
    said = box.good("system", "uninstall")
    assert "/etc/tmpfiles.d/banger.conf: kept: it was changed" in said
    assert box.shell(f"ls {UNITS} | grep banger || true") == ""
    assert box.shell("ls /etc/banger/credentials") == ""
    assert box.banger("system", "status").code == 2
    box.good("system", "install")
    assert box.shell("sha256sum /var/lib/banger/ticket.key /var/lib/banger/farm.json") == key
    box.good("system", "uninstall")
    box.good("system", "uninstall", "--purge")
    assert box.shell("ls /var/lib; grep banger /etc/passwd || true") == ""


def test_the_data_of_a_farm_without_systemd_is_taken_over(box: SystemBox) -> None:
    box.shell(
        "useradd --system --user-group banger; mkdir -p /var/lib/banger/redis/appendonlydir; "
        "touch /var/lib/banger/redis/appendonlydir/1.aof; ln -s /etc/shadow /var/lib/banger/redis/link; "
        "chown -hR banger /var/lib/banger/redis; "
        "touch /var/lib/banger/redis/roots"
    )
    box.good("system", "install")
    owners = "cd /var/lib/banger/redis; stat -c '%U %n' . appendonlydir/1.aof link roots /etc/shadow"
    assert box.shell(owners).splitlines() == [
        "banger-redis .",
        "banger-redis appendonlydir/1.aof",
        "banger-redis link",
        "root roots",
        "root /etc/shadow",
    ]


def test_names_that_are_switched_off_are_off_in_the_network_too(box: SystemBox) -> None:
    box.good("system", "install")
    box.told_systemd()
    box.shell("echo 'names = false' >> /etc/banger/config.toml")
    box.good("system", "install")
    told = box.told_systemd()
    assert "stop banger-dns.service" in told
    assert any(line.startswith("restart ") and "banger-network.service" in line for line in told)


def test_another_redis_takes_the_place_of_the_farms_own(box: SystemBox) -> None:
    box.good("system", "install")
    box.good("system", "install", "--redis-url", "rediss://10.0.0.9:6379/0")
    assert box.json("system", "status")["redis_url"] == "rediss://10.0.0.9:6379/0"
    assert box.shell(f"ls {UNITS} | grep banger-redis || true") == ""
    assert box.shell("ls /var/lib/banger | grep 'redis[.]' || true") == ""
    assert "@10.0.0.9:6379/0" in box.shell("cat /etc/banger/credentials/worker.env")
    box.good("system", "install")  # remembers
    assert "@10.0.0.9:6379/0" in box.shell("cat /etc/banger/credentials/worker.env")
    box.good("system", "uninstall", "--purge")
    assert box.shell("grep banger /etc/passwd || true") == ""


@pytest.mark.parametrize(
    ("words", "environment", "code", "said"),
    [
        (("--owner", "nemo"), {}, 2, "nemo"),
        (("--redis-url", "http://x"), {}, 2, "redis://"),
        (("--redis-url", "rediss://:@10.0.0.9/0"), {}, 2, "is missing"),
        (("--redis-url", "rediss://me:f3c1a9e07b5d4826@10.0.0.9/0"), {}, 2, "names a user"),
        ((), {"BANGER_STATE_DIR": "var/lib/banger"}, 2, "state_dir must be an absolute path"),
        ((), {"BANGER_STATE_DIR": "/home/anna/banger"}, 2, "cannot lie in /home"),
        ((), {"BANGER_RUN_DIR": "/opt/../tmp/x"}, 2, "run_dir must be an absolute path"),
        ((), {"BANGER_STATE_DIR": "/opt/my vms"}, 2, "state_dir: may have letters"),
        ((), {"BANGER_STATE_DIR": "/opt/%h"}, 2, "state_dir: may have letters"),
        ((), {"BANGER_RUN_DIR": "/opt/[x]"}, 2, "run_dir: may have letters"),
        ((), {"BANGER_REDIS_CA": "/root/ca.pem"}, 2, "redis_ca cannot lie in /root"),
        ((), {"BANGER_STATE_DIR": "/opt/not/there"}, 2, "/opt/not does not exist"),
    ],
)
def test_bad_input_is_refused(
    box: SystemBox, words: tuple[str, ...], environment: dict[str, str], code: int, said: str
) -> None:
    before = box.listing()
    ended = box.banger("system", "install", *words, **environment)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert box.listing() == before
    assert not box.told_systemd()


def test_what_a_broken_off_installation_has_made_can_be_purged_all_the_same(box: SystemBox) -> None:
    before = box.listing()
    box.shell("mkdir /etc/systemd/system/banger-worker.service")
    ended = box.banger("system", "install")
    assert ended.code == 1
    assert "banger-worker.service is no regular file" in ended.err
    assert box.banger("system", "status").code == 2
    box.shell("rmdir /etc/systemd/system/banger-worker.service")
    box.good("system", "uninstall", "--purge")
    assert box.listing() == before


def test_who_is_not_root_is_told_so(installed: SystemBox) -> None:
    """The status is everybody's."""
    box = installed
    if box.as_nobody("--version").code != 0:
        pytest.skip("this clone is closed to other users")
    for verb in ("install", "restart", "uninstall"):
        ended = box.as_nobody("system", verb)
        assert (ended.code, "only root can" in ended.err) == (2, True), ended.err
    assert box.as_nobody("system", "status").code == 0


def test_without_systemd_nothing_is_begun(box: SystemBox) -> None:
    box.shell("rm -r /run/systemd/system")
    before = box.listing()
    ended = box.banger("system", "install")
    assert ended.code == 1
    assert "banger farm up" in ended.err
    assert box.listing() == before


def test_while_a_vm_runs_nothing_is_taken_away(box: SystemBox) -> None:
    box.good("system", "install")
    entry = Entry(vm_id="0123456789ab", generation=1, slot=211, launched=1)
    box.shell(f"echo '{entry.model_dump_json()}' > /var/lib/banger/registry/0123456789ab.json")
    with living_as(Settings().uid_base + 211):
        for words in ((), ("--purge",), ("--purge", "--force")):
            ended = box.banger("system", "uninstall", *words)
            assert (ended.code, "0123456789ab" in ended.err) == (2, True), ended.err
        assert not [line for line in box.told_systemd() if line.startswith(("stop", "disable"))]
        box.good("system", "uninstall", "--force")
        assert box.shell("ls /var/lib/banger/registry") == "0123456789ab.json"
        assert box.banger("system", "uninstall", "--purge").code == 2
    box.good("system", "uninstall", "--purge")  # it is registered, and does not run


def test_the_cgroup_of_the_vms_goes_with_the_installation(box: SystemBox) -> None:
    mine = {"BANGER_STATE_DIR": f"/var/lib/banger-{os.getpid()}"}  # the machine has one cgroup of each name
    paths = Settings(state_dir=Path(mine["BANGER_STATE_DIR"])).paths

    def groups() -> list[Path]:
        return list(Path("/sys/fs/cgroup").glob(f"**/{paths.cgroups}"))

    box.good("system", "install", **mine)
    with cgroups.limited(paths, "0123456789ab", limits(vcpus=1, memory_mib=64)):
        assert groups()
    cgroups.remove(paths, "0123456789ab")
    box.good("system", "uninstall", **mine)
    assert not groups()


@contextlib.contextmanager
def living_as(uid: int) -> Iterator[None]:
    """Have a process under a VM's uid, as a VMM is."""
    argv = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", "cat")
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"  # it is that user by now
        yield
    finally:
        process.communicate()


@pytest.mark.parametrize("verb", ["up", "status", "logs", "down"])
def test_a_farm_of_systemds_is_no_business_of_the_supervisors(installed: SystemBox, verb: str) -> None:
    ended = installed.banger("farm", verb)
    assert (ended.code, "banger system" in ended.err) == (2, True), ended.err


def test_passwords_that_were_stolen_are_replaced_and_their_services_restarted(box: SystemBox) -> None:
    box.good("system", "install")
    before = box.shell("cat /etc/banger/credentials/*")
    box.told_systemd()
    box.shell("rm /var/lib/banger/farm.json")
    box.good("system", "install")
    after = box.shell("cat /etc/banger/credentials/*")
    assert not set(before.splitlines()) & set(after.splitlines())
    (restarted,) = [line for line in box.told_systemd() if line.startswith("restart")]
    assert "network" not in restarted
    assert restarted.count(".service") == 4


def test_a_wheel_in_opt_is_installed_as_the_documentation_says(box: SystemBox, tmp_path: Path) -> None:
    """Dependencies come from this environment: the test needs no registry."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "tests", "build", "*.egg-info"))
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source)
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("banger-*.whl")
    box.shell(f"umask 022; {Path(sys.executable).resolve()} -m venv --without-pip /opt/banger")
    site = box.shell("echo /opt/banger/lib/python3*/site-packages")
    box.shell(f"umask 022; {' '.join(pip)} --python /opt/banger/bin/python install --no-deps {wheel}")
    box.shell(f"echo {sysconfig.get_path('purelib')} > {site}/dependencies.pth")
    install = ("/opt/banger/bin/banger", "system", "install")
    ended = box.run(*install)
    if f"{sys.prefix}/" in ended.err:
        pytest.skip("this environment is not root's alone: its packages may not stand in for installed ones")
    assert ended.code == 0, ended.err
    unit = box.shell(f"cat {UNITS}/banger-root-worker.service")
    assert "/opt/banger/bin/python -m celery -A root_worker.app" in unit
    # Its own code is refused as soon as others can write to it.
    box.shell(f"chmod o+w {site}/root_worker")
    ended = box.run(*install)
    assert (ended.code, "root_worker: others than root can write" in ended.err) == (1, True), ended.err
