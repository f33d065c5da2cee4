"""What a newcomer installs: locked, hashed, and free of places that only we have."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from sources import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_version_and_hashes(lock):
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=[a-z])", text)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ ; ", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_registry_and_no_machine_path(lock):
    assert not re.search(r"://|--index|--find-links|(^|\s)/|@ ", (ROOT / lock).read_text())


def test_the_lock_holds_every_dependency_that_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run_time, tools = ((ROOT / lock).read_text() for lock in LOCKS)
    for needed, lock in (
        (project["dependencies"], run_time),
        (project["optional-dependencies"]["dev"], tools),
    ):
        for requirement in needed:
            name = re.split(r"[^A-Za-z0-9-]", requirement)[0].lower()
            assert re.search(rf"^{name}==", lock, re.MULTILINE), name


def test_the_tools_lock_agrees_with_the_run_time_lock():
    pins = [set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS]
    assert pins[0] <= pins[1]


def test_compose_runs_the_four_services_and_only_root_is_privileged():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == {"redis", "worker", "root-worker", "flower"}
    assert [name for name, service in services.items() if service.get("privileged")] == ["root-worker"]
