"""A directory into a sparse ext4 file, with one set of mkfs options for all that banger makes."""

from __future__ import annotations

from pathlib import Path

from banger.images.tree import content_bytes
from banger.shell import find_tool, run

_MKFS_DEADLINE_S = 600.0
_MIB = 1024 * 1024
_SMALLEST_MIB = 16  # room for a journal of the smallest kind

# Inode tables and journal are not zeroed: a sparse file reads as zeros, and says so to the guest,
# whose kernel would zero them in the background otherwise. No blocks are kept for root, who is
# everybody in a guest. No room is kept for online growth: writing its 1,024 empty blocks is most of what
# mkfs does (7 ms of 11), and we grow disks offline, which needs none (8 to 64 GiB, with data: 60 ms).
# The other two features are off so that the e2fsck of older guests knows the disk.
MKFS_OPTIONS = (
    *("-q", "-F", "-b", "4096", "-m", "0"),
    *("-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1"),
    *("-O", "^resize_inode,^orphan_file,^metadata_csum_seed"),
)


def make_ext4(tree: Path, target: Path, *, free_mib: int) -> None:
    """Make ``target`` an ext4 of the tree, owners and modes as they are, with this much room to write."""
    # A journal takes up to a 64th of the disk, inode tables as much again.
    used_mib = content_bytes(tree) // _MIB + 1
    size_mib = max(_SMALLEST_MIB, int((used_mib + free_mib) * 1.07) + 4)
    argv = (find_tool("mkfs.ext4"), *MKFS_OPTIONS, "-d", str(tree), str(target), f"{size_mib}M")
    run(argv, deadline_s=_MKFS_DEADLINE_S)
    # mkfs copies what is in the tree, and not the mode of the tree itself; sshd insists on /root's.
    mode = f"0{tree.stat().st_mode:o}"
    set_mode = (find_tool("debugfs"), "-w", "-R", f"set_inode_field / mode {mode}", str(target))
    run(set_mode, deadline_s=_MKFS_DEADLINE_S)
