"""The shell scripts that a guest runs for a batch's job, as text. For busybox ash as for bash.

A job's environment, its secrets in it, reaches the guest on ssh's stdin and rests in files of a tmpfs that
root alone can read: never in a process's arguments, on either side. Everything else that is said here is a
plan's own words, quoted, and the guest may do with them what it likes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from banger.contracts.errors import InvalidInputError

PLACE = "/run/banger"
ENV_FILE = f"{PLACE}/env"
AT_FILE = f"{PLACE}/at"
RECEIVE_JOB = (
    "sh",
    "-c",
    f"umask 077; mkdir -p {PLACE} && cat > {PLACE}/job && exec sh {PLACE}/job </dev/null",
)
"""The guest command that takes ``job_script`` on its stdin and becomes it."""
MAX_LIST_BYTES = 32 << 20
MAX_LISTED = 200_000
_MAX_LABEL = 120
_MAX_NAME_BYTES = 4096
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def job_script(workdir: str, env: Mapping[str, str], setup: Sequence[str], run: Sequence[str]) -> str:
    """Return what RECEIVE_JOB takes: it carries out setup, then run, and ends as the first that fails ended.

    Each command line is a shell of its own, as ``sh -e`` runs it: one of several lines stops at the first
    that fails. ENV_FILE keeps the environment for ``debug_command``, AT_FILE says which command it is at, or
    was at the end (``setup 2: pip install x``). Encode it as UTF-8 with ``surrogateescape``: values may be
    any bytes. InvalidInputError for a variable that a shell cannot have.
    """
    exports = "".join(f"export {_variable(name)}={_quoted(value)}\n" for name, value in env.items())
    end = _delimiter(exports)
    commands = [*_labelled("setup", setup), *_labelled("run", run)]
    steps = "".join(f"step {_quoted(label)} {_quoted(line)}\n" for label, line in commands)
    return f"""\
umask 077
cat > {ENV_FILE} <<'{end}' || exit
{exports}{end}
step() {{
    printf '%s\\n' "$1" > {AT_FILE}
    sh -e -c "$2" || exit $?
}}
printf '%s\\n' workdir > {AT_FILE}
umask 022
mkdir -p {_quoted(workdir)} && cd {_quoted(workdir)} || exit
. {ENV_FILE}
{steps}"""


def debug_command(workdir: str) -> tuple[str, ...]:
    """Return the guest command of an interactive shell in a job's directory, with its environment."""
    script = (
        f"[ ! -r {AT_FILE} ] || printf 'The job was at: %s\\n' \"$(cat {AT_FILE})\" >&2; "
        f"[ ! -r {ENV_FILE} ] || . {ENV_FILE}; "
        f'cd {_quoted(workdir)}; exec "${{SHELL:-/bin/sh}}"'
    )
    return ("sh", "-c", script)


def list_command(workdir: str) -> tuple[str, ...]:
    """Return the guest command that lists files and links below a directory, for ``parse_list`` to read.

    A job may have removed its directory: then there are none.
    """
    script = (
        f"cd {_quoted(workdir)} || exit 0; "
        f"find . -xdev '(' -type f -o -type l ')' -print0 | head -c {MAX_LIST_BYTES}"
    )
    return ("sh", "-c", script)


def parse_list(output: bytes) -> tuple[str, ...]:
    """Return the relative names that ``list_command`` printed, MAX_LISTED at most; odd bytes as surrogates.

    A name that was cut off at the end, and one that no listing of ours gives, are left out.
    """
    whole, _, _ = output[:MAX_LIST_BYTES].rpartition(b"\0")
    names = (name.removeprefix(b"./") for name in whole.split(b"\0", MAX_LISTED)[:MAX_LISTED])
    return tuple(
        name.decode(errors="surrogateescape")
        for name in names
        if 0 < len(name) <= _MAX_NAME_BYTES and not name.startswith(b"/") and b".." not in name.split(b"/")
    )


def pack_command(workdir: str) -> tuple[str, ...]:
    """Return the guest command that makes a tar, on stdout, of the files that ``pack_names`` gives on stdin.

    Of many files it is several tars in a row: busybox's tar can neither read names nor append. A file that is
    gone, or changes under tar's eyes, is no error: a job may leave a process that goes on writing.
    """
    script = (
        f"cd {_quoted(workdir)} || exit 0; "
        "xargs -0 -r tar -cf - || code=$?; "
        '[ "${code:-0}" -ge 124 ] && exit "$code"; exit 0'  # above: it could not be run, or was killed
    )
    return ("sh", "-c", script)


def pack_names(names: Sequence[str]) -> bytes:
    """Return what ``pack_command`` reads."""
    return b"".join(b"./" + name.encode(errors="surrogateescape") + b"\0" for name in names)


def _labelled(kind: str, commands: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"{kind} {number}: {_label(line)}", line) for number, line in enumerate(commands, 1)]


def _label(line: str) -> str:
    """Return a command's first line, short, without control characters."""
    first = next((part.strip() for part in line.splitlines() if part.strip()), "")
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", first)
    return plain if len(plain) <= _MAX_LABEL else f"{plain[: _MAX_LABEL - 1]}…"


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise InvalidInputError(f"{name[:80]!r} cannot be the name of an environment variable")
    return name


def _quoted(text: str) -> str:
    if "\0" in text:
        raise InvalidInputError("a NUL cannot be in a command line, a path or an environment variable")
    return shlex.quote(text)


def _delimiter(text: str) -> str:
    """Return a here-document's last line, which none of the text's is."""
    lines = set(text.splitlines())
    end = "END"
    while end in lines:
        end += "_"
    return end
