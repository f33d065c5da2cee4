"""What tests say to guests, as `banger vm exec` does."""

from __future__ import annotations

import subprocess

from farm_box import Box

from banger.ssh import ssh_argv


def guest(
    box: Box, name: str, *argv: str, stdin: bytes = b"", good: int | None = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a guest; its exit code must be ``good``, or any where that is None."""
    record = box.farm.require_running(name)
    command = ssh_argv(box.paths, record.id, str(record.address), argv)
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert good in (None, done.returncode), done
    return done


def said(box: Box, name: str, *argv: str) -> str:
    """Return what a command in a guest prints."""
    return guest(box, name, *argv).stdout.decode()
