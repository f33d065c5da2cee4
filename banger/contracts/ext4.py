"""How files get into an ext4 that nobody mounts: debugfs scripts, what they printed, and the verdict.

debugfs exits with 0 when a scripted command failed, so a write proves nothing. The contract here is:
look first (types, sizes: a guest may have made anything there), write in one batch, look again, decide.
Both sides of the farm use it.

Facts from e2fsprogs 1.47.0: a script's commands are echoed to stdout as ``debugfs: COMMAND``, errors go to
stderr; ``sif FILE mode`` replaces the whole i_mode, type bits included; ``write`` takes its mode from the
host's file; ``rm`` of a directory fails; paths are not followed through a symlink as their last component.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import PurePosixPath
from typing import NamedTuple

from banger.contracts.debugfs import Debugfs
from banger.contracts.errors import StageFailedError

REPLAY_JOURNAL_OPTIONS = ("-p", "-E", "journal_only")
REPLAY_JOURNAL_GOOD = (0, 1, 2)  # 1: corrected, 2: corrected and a reboot would be wise, if it were mounted

# debugfs splits a line at blanks and knows quotes: such names would become other commands.
_SAFE_PATH = re.compile(r"/|(/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._][A-Za-z0-9._-]*)+")
_STAT = re.compile(
    rb"Inode: \d+ +Type: (?P<kind>[A-Za-z]+(?: [A-Za-z]+)*) +Mode: +(?P<mode>0[0-7]*) .*?"
    rb"^User: +(?P<uid>\d+) +Group: +(?P<gid>\d+) +(?:Project: +\d+ +)?Size: (?P<size>\d+)$",
    re.DOTALL | re.MULTILINE,
)


class Directory(NamedTuple):
    """A directory to be there: its absolute path and permission bits. Owner root:root."""

    path: str
    mode: int = 0o755


class File(NamedTuple):
    """A regular file to be there: absolute path, bytes, permission bits. Owner root:root."""

    path: str
    content: bytes
    mode: int = 0o644


class Inode(NamedTuple):
    """What ``stat`` said of a path. ``text`` is all of it: equal texts mean that nothing was changed."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    text: bytes


Inodes = Mapping[str, Inode | None]


class Survey(NamedTuple):
    """What is at the paths that were looked at, and what the file holds; None where it is absent."""

    inodes: Inodes
    content: bytes | None


class Verdict(Enum):
    """What a write came to. Only APPLIED may boot."""

    APPLIED = "it is as asked"
    INTACT = "nothing was changed"
    DAMAGED = "what is there is neither the old nor the new"
    UNKNOWN = "debugfs did not say what is there"


def check_path(path: str) -> None:
    """Raise ValueError unless a script can name the path: absolute, no blank, quote, newline or ``..``."""
    if not _SAFE_PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path that a debugfs script can name")


def damaged(details: str) -> StageFailedError:
    """Return the error of a file system that cannot be used."""
    return StageFailedError(
        "The guest's file system is damaged",
        details=details,
        resolution="It is not booted like this. Delete the VM, or restore its disk.",
    )


def look(paths: Sequence[str], debugfs: Debugfs) -> Inodes:
    """Return what is at each path and at each directory above it, None for what is not there.

    StageFailedError when there is no file system, or debugfs did not say.
    """
    asked = _asked(paths)
    return _with_root(stats(debugfs.read(stat_script(asked)), asked))


def survey(paths: Sequence[str], file: str, limit: int, debugfs: Debugfs) -> Survey | None:
    """Look at the paths and read one of them, ``file``, in one session.

    None where that makes no sense before the journal is replayed. StageFailedError as ``look``, and when the
    file is anything but absent or a regular file of ``limit`` bytes at most.
    """
    asked = _asked(paths)
    script = ["features", *stat_script(asked).splitlines(), f"cat {_safe(file)}"]
    features, *looks, content = _blocks(debugfs.read(_script(script)), script)
    if b"Filesystem features:" not in features or b" needs_recovery" in features:
        return None
    inodes = _with_root(dict(zip(asked, map(_inode, looks), strict=True)))
    return Survey(inodes, _content(file, inodes[file], limit, content))


def put(directories: Sequence[Directory], files: Sequence[File], before: Inodes, debugfs: Debugfs) -> None:
    """Make directories and replace files, with missing parents (0755), and prove that they are as asked.

    ``before`` is what ``look`` saw at all their paths. StageFailedError with the verdicts otherwise; a second
    call starts from whatever is there.
    """
    parents = _parents([*(directory.path for directory in directories), *(file.path for file in files)])
    wanted = {path: Directory(path) for path in parents} | {entry.path: entry for entry in directories}
    # ``rm`` leaves a directory, and ``sif`` would make a file of it with all that it holds.
    for path in (*wanted, *(file.path for file in files)):
        found = before[path]
        if found and (found.kind == "directory") is not (path in wanted):
            raise StageFailedError(
                f"{path} in the guest's file system is a {found.kind}",
                resolution="Nothing was changed. Mend it in the guest, or make a new VM.",
            )
    missing = [path for path in wanted if not before[path]]
    explicit = {entry.path for entry in directories}
    asked = [*directories, *(Directory(path) for path in missing if path not in explicit)]
    said = debugfs.write(
        [file.content for file in files], lambda sources: write_script(missing, asked, files, sources)
    )
    verdicts = judge(asked, files, before, debugfs.read(read_back_script(asked, files)))
    wrong = [
        f"{path}: {verdict.value}" for path, verdict in verdicts.items() if verdict is not Verdict.APPLIED
    ]
    if wrong:
        raise StageFailedError(
            "The guest's files could not be written into its file system",
            details="\n".join([*wrong, said.decode(errors="replace")[-2000:]]),
            resolution="It may be full, damaged, or hold a directory in a file's place; it is not booted.",
        )


def stat_script(paths: Iterable[str]) -> str:
    """Return a script that looks at each path."""
    return _script(f"stat {_safe(path)}" for path in paths)


def stats(output: bytes, paths: Sequence[str]) -> dict[str, Inode | None]:
    """Return what ``stat_script`` printed, None for what is not there.

    StageFailedError when the output is not that of such a script.
    """
    blocks = _blocks(output, [f"stat {path}" for path in paths])
    return {path: _inode(block) for path, block in zip(paths, blocks, strict=True)}


def write_script(
    missing: Iterable[str], directories: Iterable[Directory], files: Sequence[File], sources: Sequence[str]
) -> str:
    """Return the batch: directories made and set, each file removed, written from its source, and set."""
    lines = [f"mkdir {_safe(path)}" for path in missing]
    for directory in directories:
        lines += _set(directory.path, stat.S_IFDIR | directory.mode)
    for file, source in zip(files, sources, strict=True):
        lines += [f"rm {_safe(file.path)}", f"write {_safe(source)} {file.path}"]
        lines += _set(file.path, stat.S_IFREG | file.mode)
    return _script(lines)


def read_back_script(directories: Sequence[Directory], files: Sequence[File]) -> str:
    """Return a script that prints all that ``judge`` needs."""
    return _script(_read_back(directories, files))


def judge(
    directories: Sequence[Directory],
    files: Sequence[File],
    before: Inodes,
    output: bytes,
) -> dict[str, Verdict]:
    """Return a verdict for each path, from what was there before and what ``read_back_script`` printed."""
    entries: list[Directory | File] = [*directories, *files]
    try:
        blocks = _blocks(output, _read_back(directories, files))
        found = [_inode(block) for block in blocks[: len(entries)]]
    except StageFailedError:
        return {entry.path: Verdict.UNKNOWN for entry in entries}
    contents: list[bytes | None] = [*(None for _ in directories), *blocks[len(entries) :]]
    return {
        entry.path: _verdict(entry, before[entry.path], after, content)
        for entry, after, content in zip(entries, found, contents, strict=True)
    }


def _verdict(
    entry: Directory | File, before: Inode | None, after: Inode | None, content: bytes | None
) -> Verdict:
    asked = ("directory" if isinstance(entry, Directory) else "regular", entry.mode, 0, 0)
    if after and after[:4] == asked and (isinstance(entry, Directory) or content == entry.content):
        return Verdict.APPLIED
    return Verdict.INTACT if before == after else Verdict.DAMAGED


def _read_back(directories: Sequence[Directory], files: Sequence[File]) -> list[str]:
    entries: list[Directory | File] = [*directories, *files]
    return [*(f"stat {_safe(entry.path)}" for entry in entries), *(f"cat {file.path}" for file in files)]


def _asked(paths: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(["/", *_parents(paths), *paths]))


def _with_root(inodes: Inodes) -> Inodes:
    root = inodes["/"]
    if root is None or root.kind != "directory":
        raise damaged("It has no root directory.")
    return inodes


def _content(path: str, inode: Inode | None, limit: int, printed: bytes) -> bytes | None:
    """Return a file's bytes as debugfs printed them; the size is whatever a guest says it is."""
    if inode is None:
        return None
    if inode.kind != "regular" or inode.size > limit:
        raise StageFailedError(
            f"{path} in the guest's file system is a {inode.kind} of {inode.size} bytes",
            details=f"expected a regular file of {limit} bytes at most",
            resolution="Nothing was changed. Mend it in the guest, or make a new VM.",
        )
    if len(printed) != inode.size:
        raise StageFailedError(
            f"{path} in the guest's file system could not be read: {Verdict.UNKNOWN.value}"
        )
    return printed


def _blocks(output: bytes, commands: Sequence[str]) -> list[bytes]:
    """Return what each command printed. A guest's text that looks like an echo makes the blocks differ
    from what was asked, or the echoes run out: neither can pass for success.
    """
    rest = output
    blocks = []
    for command in commands:
        block, echo, rest = rest.partition(f"debugfs: {command}\n".encode())
        if not echo:
            raise StageFailedError(
                "debugfs did not say what is in the guest's file system",
                details=output[-2000:].decode(errors="replace"),
            )
        blocks.append(block)
    return [*blocks[1:], rest]


def _inode(block: bytes) -> Inode | None:
    if not block.strip():
        return None
    match = _STAT.match(block)
    if not match:
        raise StageFailedError("debugfs printed no inode", details=block[:2000].decode(errors="replace"))
    return Inode(
        kind=match["kind"].decode(),
        mode=int(match["mode"], 8),
        uid=int(match["uid"]),
        gid=int(match["gid"]),
        size=int(match["size"]),
        text=block,
    )


def _parents(paths: Iterable[str]) -> list[str]:
    """Return all directories above the paths, outermost first, without the root."""
    above = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return sorted(above - {"/"})


def _set(path: str, mode: int) -> list[str]:
    return [f"sif {_safe(path)} mode 0{mode:o}", f"sif {path} uid 0", f"sif {path} gid 0"]


def _safe(path: str) -> str:
    check_path(path)
    return path


def _script(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
