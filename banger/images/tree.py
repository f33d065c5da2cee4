"""Put files into the tree that becomes a guest's root file system, whatever umask the builder has."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

# Where root writes guest files at every start: the directories are part of the image.
GUEST_FILE_DIRECTORIES = ("etc/banger", "etc/ssh/sshd_config.d", "usr/local/lib/banger")


def skeleton(name: str) -> str:
    """Return the text of a file that ships with us, by its path beneath ``skeleton/``."""
    return files("banger.images").joinpath("skeleton", name).read_text()


def make_directories(tree: Path, names: Iterable[str], mode: int = 0o755) -> None:
    """Make directories (and their parents) in the tree; those named get this mode."""
    for name in names:
        directory = tree
        for part in Path(name).parts:
            directory /= part
            if not directory.exists():
                directory.mkdir()
                directory.chmod(0o755)
        directory.chmod(mode)


def write(tree: Path, name: str, text: str, mode: int = 0o644) -> None:
    """Write a file into the tree, replacing what is there."""
    make_directories(tree, [str(Path(name).parent)])
    path = tree / name
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def link(tree: Path, name: str, target: str) -> None:
    """Make a symbolic link in the tree, replacing what is there."""
    make_directories(tree, [str(Path(name).parent)])
    (tree / name).unlink(missing_ok=True)
    (tree / name).symlink_to(target)


def prune(tree: Path, patterns: Iterable[str]) -> None:
    """Remove everything in the tree that matches a glob pattern; no match is fine."""
    for pattern in patterns:
        for path in list(tree.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def content_bytes(tree: Path) -> int:
    """Return the bytes that the tree's content takes in blocks of 4 KiB, an inode of 256 bytes each."""
    total = 0
    for path in tree.rglob("*"):
        total += 256
        if path.is_file() and not path.is_symlink():
            total += -(-path.lstat().st_size // 4096) * 4096
        elif path.is_dir():
            total += 4096
    return total
