"""Debian packages into a directory: mmdebstrap, told to use the host's own apt sources.

Where the host is Debian, its mirrors, proxies and clock exceptions are the ones that work here.
Elsewhere mmdebstrap's own default mirror is used, or the one that the user gives.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from banger.contracts.errors import InvalidInputError, ToolFailedError
from banger.shell import find_tool, run

DEFAULT_SUITE = "bookworm"
ARCHITECTURE = "amd64"

_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
_BOOTSTRAP_DEADLINE_S = 1800.0
_QUERY_DEADLINE_S = 30.0
_FIELDS = "$(ORIGIN)|$(CODENAME)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)"
_POCKETS = ("", "-updates", "-security")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
# How the host reaches its mirrors, and which checks its administrator had to switch off for them.
_ACQUIRE = (
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Check-",
    "Acquire::Retries",
    "Acquire::ForceIPv",
)

_MMDEBSTRAPS_OWN = re.compile(r"E: (mmdebstrap |apt download |apt-get |setup failed|run_\w+ failed)")

Variant = Literal["extract", "minbase"]


def host_suite() -> str | None:
    """Return the code name of the host's Debian release; None when the host is not Debian."""
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME") if release.get("ID") == "debian" else None


def bootstrap(
    target: Path,
    packages: Sequence[str],
    *,
    suite: str,
    mirror: str | None,
    variant: Variant,
    without: Sequence[str] = (),
) -> None:
    """Fill ``target`` with packages of a Debian suite; ToolFailedError with apt's complaints otherwise.

    ``extract`` unpacks them and their dependencies without running anything of theirs; ``minbase``
    installs them on a minimal Debian. ``without`` are dpkg path patterns that are left out.
    """
    configuration = target.with_name("apt.conf")
    configuration.write_text(_acquire_options())
    argv = [
        *_dies_with_us(),
        find_tool("mmdebstrap"),
        "--mode=root",
        "--format=directory",
        f"--architectures={ARCHITECTURE}",
        f"--variant={variant}",
        # Unpacked packages alone do not say that /bin is /usr/bin; every suite of interest does.
        *([f"--hook-dir={_MERGED_USR}"] if variant == "extract" else ()),
        f"--aptopt={configuration}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in without),
        f"--include={','.join(packages)}",
        suite,
        str(target),
        *_mirrors(target.with_name("banger.list"), suite, mirror),
    ]
    scratch = target.with_name("tmp")  # mmdebstrap's own: swept with the rest where a build was killed
    scratch.mkdir(mode=0o700, exist_ok=True)
    environment = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    try:
        run(argv, deadline_s=_BOOTSTRAP_DEADLINE_S, env=environment | {"TMPDIR": str(scratch)})
    except ToolFailedError as error:
        raise ToolFailedError(
            f"the packages of {suite} could not be installed",
            details=complaints(error.details) or str(error),
            resolution="Check the suite, the packages' names, and this machine's apt sources or --mirror.",
        ) from error


def complaints(said: str) -> str:
    """Return what apt and dpkg complained of, from all that mmdebstrap printed around it."""
    errors = [line for line in said.splitlines() if line.startswith(("E: ", "dpkg: error"))]
    return "\n".join(line for line in errors if not _MMDEBSTRAPS_OWN.match(line))


def source_lines(index_targets: str, host: str, suite: str) -> tuple[str, ...]:
    """Return sources.list lines for a suite, from what apt says of the host's own sources.

    ``index_targets`` has one line of ``_FIELDS`` for each index. Sources of others are left out; before
    the first ``apt-get update`` apt does not know origins and code names yet, and the release name
    has to do.
    """
    lines = []
    for line in index_targets.splitlines():
        origin, codename, release, component, uri = line.split("|", 4)
        if origin not in ("Debian", "$(ORIGIN)") or component != "main":
            continue
        pocket = (release if codename.startswith("$") else codename).removeprefix(host)
        if pocket in _POCKETS:
            lines.append(f"deb {uri} {suite}{pocket} {component}")
    return tuple(dict.fromkeys(lines))


def _mirrors(sources: Path, suite: str, mirror: str | None) -> tuple[str, ...]:
    """Return mmdebstrap's MIRROR arguments."""
    host = host_suite()
    if mirror is not None:
        return (mirror,)
    if host is None:
        return ()
    query = (find_tool("apt-get"), "indextargets", "--format", _FIELDS, "Created-By: Packages")
    lines = source_lines(run(query, deadline_s=_QUERY_DEADLINE_S).stdout.decode(), host, suite)
    if not lines:
        raise InvalidInputError(
            "apt on this host has no Debian source to build from",
            resolution="Add Debian's main archive to /etc/apt/sources.list, or give a mirror.",
        )
    sources.write_text("".join(f"{line}\n" for line in lines))
    return (str(sources),)


def _acquire_options() -> str:
    if host_suite() is None:
        return ""
    dump = run((find_tool("apt-config"), "dump", "Acquire"), deadline_s=_QUERY_DEADLINE_S).stdout.decode()
    return "".join(f"{line}\n" for line in dump.splitlines() if line.startswith(_ACQUIRE))


def _dies_with_us() -> tuple[str, ...]:
    """Return the argv prefix that ends the program and all its children when this process is killed.

    mmdebstrap starts apt, dpkg and tar; in a pid namespace of their own none of them outlives it.
    """
    return (
        *(find_tool("setpriv"), "--pdeathsig", "KILL"),
        *(find_tool("unshare"), "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
    )
