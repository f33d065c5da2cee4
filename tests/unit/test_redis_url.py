"""What a URL of Redis must say before anything is trusted to it."""

from __future__ import annotations

import secrets
import ssl

import pytest

from banger.contracts.broker import celery_settings
from banger.contracts.errors import InvalidInputError
from banger.contracts.redis_url import (
    ca_url,
    celery_url,
    check_password,
    check_redis_url,
    tls_options,
    user_of,
    user_url,
)

PASSWORD = "f3c1a9e07b5d4826"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://cli:{PASSWORD}@127.0.0.1:7379/0",
        f"redis://cli:{PASSWORD}@localhost",
        f"redis://cli:{PASSWORD}@[::1]:7379",
        f"rediss://cli:{PASSWORD}@redis.example:6379/0",
        f"rediss://cli:{PASSWORD}@redis.example?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        f"unix://cli:{PASSWORD}@/run/banger/redis/redis.sock",
    ],
)
def test_a_safe_url_is_taken(url: str) -> None:
    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"redis://cli:{PASSWORD}@redis.example/0", "does not encrypt"),
        (f"redis://cli:{PASSWORD}@10.0.0.1/0", "does not encrypt"),
        (f"redis://cli:{PASSWORD}@127.evil.example/0", "does not encrypt"),
        (f"rediss://cli:{PASSWORD}@redis.example/0?ssl_cert_reqs=none", "unchecked"),
        (f"rediss://cli:{PASSWORD}@redis.example/0?ssl_cert_reqs=optional", "unchecked"),
        (f"rediss://cli:{PASSWORD}@redis.example/0?ssl_check_hostname=false", "ssl_check_hostname"),
        (f"redis://cli:{PASSWORD}@127.0.0.1/0?password=other", "password"),
        (f"rediss://cli:{PASSWORD}@redis.example/1", "database 1"),
        (f"http://cli:{PASSWORD}@127.0.0.1", "is none"),
        ("redis://127.0.0.1:7379/0", "is missing"),
        ("redis://cli:@127.0.0.1:7379/0", "is missing"),
    ],
)
def test_an_unsafe_url_is_refused_and_its_password_not_repeated(url: str, why: str) -> None:
    for check in (check_redis_url, celery_settings):
        with pytest.raises(InvalidInputError, match=why) as refused:
            check(url)
        assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "word",
    [
        *("password", "changeme", "secret", "redis", "banger", "default", "admin", "test", "0123456789a"),
        *("changemechangeme", "MyPassword2026!", "xxxxxxxxxxxxxxxx", "testtesttest", "REDIS_PASSWORD"),
    ],
)
def test_what_others_would_try_is_no_password(word: str) -> None:
    with pytest.raises(InvalidInputError, match="the password of Flower") as refused:
        check_password(word, "Flower")
    assert "openssl rand -hex 24" in refused.value.resolution


def test_what_we_make_is_a_password() -> None:
    for _ in range(1000):
        check_password(secrets.token_urlsafe(18), "Flower")


def test_a_url_is_made_from_address_user_and_password() -> None:
    address = "rediss://redis.example:6379/0?ssl_ca_certs=/etc/ca.pem"
    url = user_url(address, "worker-h1", "a/b@c:d")
    assert url == "rediss://worker-h1:a%2Fb%40c%3Ad@redis.example:6379/0?ssl_ca_certs=/etc/ca.pem"
    assert user_of(url) == "worker-h1"
    assert user_url("unix:///run/r.sock", "root-h1", "x") == "unix://root-h1:x@/run/r.sock"


def test_the_authority_is_told_once_and_to_both_clients() -> None:
    url = ca_url(f"rediss://cli:{PASSWORD}@h/0?ssl_certfile=/c.pem", "/ca.pem")
    assert ca_url(url, "/ca.pem") == url
    assert celery_url(url) == f"rediss://cli:{PASSWORD}@h/0"
    options = {"ssl_certfile": "/c.pem", "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert tls_options(url) == options
    settings = celery_settings(url)
    assert settings["broker_use_ssl"] == settings["redis_backend_use_ssl"] == options


def test_what_one_has_taken_is_under_ones_own_name() -> None:
    options = celery_settings(f"redis://worker-h1:{PASSWORD}@127.0.0.1")["broker_transport_options"]
    keys = {value for name, value in options.items() if name.startswith("unacked") and name.endswith("_key")}
    assert keys == {f"banger.unacked.worker-h1{suffix}" for suffix in ("", "_index", "_mutex")}
