"""The ways to Redis: TLS with a certificate that is checked, and a Unix socket; with roles' users on each."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery
from redis_ready import free_port, wait_for_redis

from banger.connection import connect
from banger.contracts.broker import Role, celery_settings, user_name
from banger.contracts.errors import UnavailableError
from banger.contracts.queues import CONTROL, root_queue
from banger.contracts.redis_url import ca_url, celery_url, user_url
from banger.contracts.transport import Transport
from banger.dispatch import celery_app, send
from banger.redis_roles import acl_rules

pytestmark = pytest.mark.integration

HOST = "here"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Ways(NamedTuple):
    """A Redis that listens with TLS and on a socket, and not in the clear."""

    tls: str
    socket: str
    passwords: dict[Role, str]
    stranger: Path  # an authority that has signed nothing here

    def url(self, way: str, role: Role) -> str:
        return user_url(getattr(self, way), user_name(role, HOST), self.passwords[role])


def openssl(*words: str) -> None:
    subprocess.run(("/usr/bin/openssl", *words), check=True, capture_output=True)


def authority(directory: Path, name: str) -> Path:
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    openssl("req", "-x509", *CURVE, "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}")
    return certificate


def certify(directory: Path, ca: Path) -> None:
    """Make the server's key and certificate."""
    request, names = directory / "server.csr", directory / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", *CURVE, "-keyout", f"{directory}/server.key", "-out", str(request), "-subj", "/CN=redis")
    signed = ("-CA", str(ca), "-CAkey", str(ca.with_suffix(".key")), "-CAcreateserial")
    openssl(
        *("x509", "-req", "-in", str(request), *signed),
        *("-extfile", str(names), "-out", f"{directory}/server.pem"),
    )


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    roles: tuple[Role, ...] = ("cli", "worker", "root", "metrics")
    passwords = {role: secrets.token_urlsafe(32) for role in roles}
    with tempfile.TemporaryDirectory(prefix="banger-test-redis-") as name:
        directory, port = Path(name), free_port()
        ca, stranger = authority(directory, "ca"), authority(directory, "stranger")
        certify(directory, ca)
        users = "".join(f"user {user} {rules}\n" for user, rules in acl_rules(HOST, passwords).items())
        config = directory / "redis.conf"
        config.write_text(
            f"port 0\nbind 127.0.0.1\ntls-port {port}\ntls-auth-clients no\ntls-ca-cert-file {ca}\n"
            f"tls-cert-file {name}/server.pem\ntls-key-file {name}/server.key\n"
            f"unixsocket {name}/redis.sock\nsave ''\nuser default off\n{users}"
        )
        server = subprocess.Popen(("/usr/bin/redis-server", str(config)), stdout=subprocess.DEVNULL)
        made = Ways(
            ca_url(f"rediss://127.0.0.1:{port}/0", str(ca)), f"unix://{name}/redis.sock", passwords, stranger
        )
        try:
            wait_for_redis(made.url("tls", "cli"))
            yield made
        finally:
            server.terminate()
            server.wait(10)


@pytest.mark.parametrize("way", ["tls", "socket"])
def test_a_message_goes_and_is_counted_over(ways: Ways, way: str) -> None:
    metrics: Any = connect(ways.url(way, "metrics"))
    before = metrics.llen(CONTROL)
    app = celery_app("tests", ways.url(way, "cli"))
    with app.connection() as line:
        assert isinstance(line.transport, Transport), "the one that survives what is no message"
    send(app, "banger.control.reserve", CONTROL, {"vm": "a" * 12})
    assert metrics.llen(CONTROL) == before + 1
    app.close()
    metrics.close()


@pytest.mark.parametrize("way", ["tls", "socket"])
def test_root_reports_over(ways: Ways, way: str) -> None:
    url = ways.url(way, "root")
    app = Celery("tests", backend=celery_url(url), set_as_current=False)
    app.conf.update(celery_settings(url))
    backend: Any = app.backend
    backend.client.set(f"banger:serving:{root_queue(HOST)}", "1", ex=10)
    backend.client.close()


def test_a_certificate_of_somebody_elses_is_refused(ways: Ways) -> None:
    # The worker's user: kombu keeps a process's connections, and the CLI's is there from before.
    for url in (
        ca_url(ways.url("tls", "worker"), str(ways.stranger)),
        ways.url("tls", "worker").partition("?")[0],  # whom the machine trusts has not signed it either
    ):
        with pytest.raises(UnavailableError, match="certificate verify failed"):
            connect(url).ping()
        app = celery_app("tests", url)
        with pytest.raises(Exception, match="certificate verify failed"):
            send(app, "banger.control.reserve", CONTROL, {"vm": "a" * 12})
        app.close()


def test_a_name_that_the_certificate_does_not_have_is_refused(ways: Ways) -> None:
    with pytest.raises(UnavailableError, match="certificate"):
        connect(ways.url("tls", "cli").replace("127.0.0.1", "127.1")).ping()  # the same place by another name


def test_what_is_allowed_is_the_same_on_every_way(ways: Ways) -> None:
    for way in ("tls", "socket"):
        client: Any = connect(ways.url(way, "cli"))
        with pytest.raises(UnavailableError, match="does not allow this user") as refused:
            client.lpush(root_queue(HOST), "forged")
        assert isinstance(refused.value.__cause__, redis.ResponseError)
        client.close()
