"""URLs of Redis: what one must say before anything is trusted to it, and how Celery spells it.

``redis://`` on this machine's loopback, ``rediss://`` (TLS, with a certificate that is checked) to anywhere,
``unix://`` for a socket. In the clear to another machine is refused, not warned of: every password and every
order would be there for the reading, and roles would be worth nothing.
"""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from banger.contracts.errors import InvalidInputError

_SHORTEST_PASSWORD = 12
_FEWEST_CHARACTERS = 6
_PLACEHOLDERS = (
    "password",
    "passwort",
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "placeholder",
    "default",
    "banger",
)
_OF_TLS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_MAKE_ONE = "Make one: openssl rand -hex 24"


def user_url(address: str, user: str, password: str) -> str:
    """Return the URL by which a user reaches the Redis of this address."""
    parts = urlsplit(address)
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{parts.netloc}").geturl()


def ca_url(url: str, ca: str) -> str:
    """Return a URL that says which authority signs the certificate of its Redis."""
    parts = urlsplit(url)
    said = dict(parse_qsl(parts.query)) | {"ssl_ca_certs": ca}
    return parts._replace(query=urlencode(said, safe="/")).geturl()


def names_user(url: str) -> bool:
    """Tell whether a URL is somebody's, or the address alone."""
    return "@" in urlsplit(url).netloc


def user_of(url: str) -> str:
    """Return whose URL it is."""
    return unquote(urlsplit(url).username or "default")


def celery_url(url: str) -> str:
    """Return a URL as Celery spells it; what it says of TLS is in ``tls_options``."""
    parts = urlsplit(url)._replace(query="")
    return parts._replace(scheme="redis+socket" if parts.scheme == "unix" else parts.scheme).geturl()


def tls_options(url: str) -> dict[str, Any] | None:
    """Return how Celery is to speak TLS with this Redis, None where it is not asked to."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return None
    return dict(parse_qsl(parts.query)) | {"ssl_cert_reqs": ssl.CERT_REQUIRED}


def check_redis_url(url: str) -> str:
    """Return somebody's URL; InvalidInputError where it is unsafe, or its password is nobody's secret."""
    check_redis_address(url)
    check_password(unquote(urlsplit(url).password or ""), "Redis")
    return url


def check_redis_address(url: str) -> None:
    """Raise InvalidInputError where what is said to this Redis could be read or answered by others."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    match parts.scheme:
        case "redis" if not _is_loopback(parts.hostname or ""):
            raise InvalidInputError(
                f"the Redis at {parts.hostname} is not on this machine, and redis:// does not encrypt",
                details="whoever is in between would read every password",
                resolution="Use rediss:// (TLS), or a tunnel that ends on 127.0.0.1.",
            )
        case "redis" | "unix" if query:
            raise _refused(f"has parameters that {parts.scheme}:// does not take: {', '.join(query)}")
        case "rediss" if query.pop("ssl_cert_reqs", "required") != "required":
            raise _refused("must not have its certificate unchecked: ssl_cert_reqs can be required alone")
        case "rediss" if not query.keys() <= _OF_TLS:
            raise _refused(f"has parameters other than {', '.join(sorted(_OF_TLS))}: {', '.join(query)}")
        case "redis" | "rediss" if parts.path not in ("", "/", "/0"):
            raise _refused(f"names database {parts.path[1:]}; the rights of its users are for 0")
        case "redis" | "rediss" | "unix":
            return
        case _:
            raise _refused("is none")


def check_password(password: str, of: str) -> None:
    """Raise InvalidInputError where a password is missing, short, or one that others would try."""
    lower = password.lower()
    if not password:
        problem = "is missing"
    elif len(password) < _SHORTEST_PASSWORD:
        problem = f"is shorter than {_SHORTEST_PASSWORD} characters"
    elif any(word in lower for word in _PLACEHOLDERS) or len(set(lower)) < _FEWEST_CHARACTERS:
        problem = "is a placeholder, or as easily guessed"
    else:
        return
    raise InvalidInputError(f"the password of {of} {problem}", resolution=_MAKE_ONE)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the URL of Redis {why}",
        resolution="Write redis://USER:PASSWORD@127.0.0.1:PORT, rediss://USER:PASSWORD@HOST:PORT (TLS),"
        " or unix://USER:PASSWORD@/PATH.",
    )
