"""What integration tests share: a Redis, empty for each test, and a farm that fails on demand."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from farm_box import delete_all
from faulty_farm import FaultyFarm, faulty_farm_box
from netns import inside
from redis_ready import free_port, wait_for_redis
from vmm_host import vmm_host

from banger.connection import FarmRedis, connect
from root_worker.host import RootHost


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    password, port = secrets.token_hex(24), free_port()
    with tempfile.TemporaryDirectory(prefix="banger-test-redis-") as directory:
        config = Path(directory, "redis.conf")
        config.write_text(
            f"port {port}\nbind 127.0.0.1\nrequirepass {password}\ndir {directory}\nsave ''\n"
            "appendonly no\nmaxmemory-policy noeviction\n"
        )
        process = subprocess.Popen(
            ["/usr/bin/redis-server", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        try:
            wait_for_redis(url)
            yield url
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    client = connect(redis_server)
    client.flushall()
    client.close()
    return redis_server


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[FarmRedis]:
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def faulty_farm() -> Iterator[FaultyFarm]:
    """A farm whose workers fail where they are told to; one for all tests that need one."""
    with faulty_farm_box() as farm:
        yield farm


@pytest.fixture
def faulty(faulty_farm: FaultyFarm) -> Iterator[FaultyFarm]:
    """The farm that fails on demand, from within its network, without faults and without VMs at first."""
    with inside(faulty_farm.box.network):
        faulty_farm.mend()
        try:
            yield faulty_farm
        finally:
            faulty_farm.mend()
            delete_all(faulty_farm.box)


@pytest.fixture(scope="module")
def tools_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What root's tools see of the machine."""
    with disks.tools_root(tmp_path_factory.mktemp("tools")) as root:
        yield root


@pytest.fixture(scope="module")
def launching_host() -> Iterator[RootHost]:
    """A host with one VM that is ready to be launched."""
    with vmm_host() as made:
        yield made
