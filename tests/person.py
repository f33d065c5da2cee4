"""An ordinary user of this machine, with a home of the test's own, who types banger without sudo."""

from __future__ import annotations

import contextlib
import json
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from banger.embedded import owner
from banger.embedded.account import drop_to
from banger.embedded.view import code_paths, covered_argv, may_enter, plan_covers
from banger.settings import Settings

_RUN = "import sys; from banger.cli import main; raise SystemExit(main())"


class Person(NamedTuple):
    """A user, and the one farm that this user's configuration names."""

    account: pwd.struct_passwd

    @property
    def home(self) -> Path:
        return Path(self.account.pw_dir)

    @property
    def own(self) -> Path:
        """What banger keeps in this home."""
        return self.home / ".config" / "banger"

    def configure(self, settings: Settings, file_sync: Sequence[Mapping[str, str]] = ()) -> None:
        """Name the farm, and what goes into its guests."""
        self.own.mkdir(parents=True, exist_ok=True)
        lines = [
            f"host = {json.dumps(settings.host)}",
            f"state_dir = {json.dumps(str(settings.state_dir))}",
            f"run_dir = {json.dumps(str(settings.run_dir))}",
        ]
        for entry in file_sync:
            lines += ["[[file_sync]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
        (self.own / "config.toml").write_text("\n".join(lines))
        for path in (self.own.parent, self.own, self.own / "config.toml"):
            shutil.chown(path, self.account.pw_uid, self.account.pw_gid)

    def write(self, name: str, content: bytes, mode: int = 0o644) -> Path:
        """Make a file of this user's in the home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        for made in (path, *path.parents):
            if made.is_relative_to(self.home):
                shutil.chown(made, self.account.pw_uid, self.account.pw_gid)
        return path

    def does(self, *argv: str, stdin: bytes = b"", good: int | None = 0) -> subprocess.CompletedProcess[Any]:
        """Run a program as this user; its exit code must be ``good``, or any where that is None."""
        with tempfile.TemporaryDirectory(prefix="banger-test-view-", dir="/var/tmp") as staging:
            covers = plan_covers(code_paths(), (), self._may_enter)
            done = subprocess.run(
                covered_argv(drop_to(self.account, argv), covers, Path(staging)),
                input=stdin,
                capture_output=True,
                timeout=120,
                check=False,
                cwd="/",
                env={"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"},
            )
        assert good in (None, done.returncode), done
        return done

    def banger(
        self, *words: str, stdin: bytes = b"", good: int | None = 0
    ) -> subprocess.CompletedProcess[Any]:
        """Type a banger command."""
        return self.does(sys.executable, "-c", _RUN, *words, stdin=stdin, good=good)

    def _may_enter(self, path: Path) -> bool:
        found = path.stat()
        return may_enter(found.st_mode, found.st_uid, found.st_gid, self.account.pw_uid, self.account.pw_gid)


@contextlib.contextmanager
def person(name: str) -> Iterator[Person]:
    """Yield a user of this machine with an empty home, which is gone afterwards."""
    real = pwd.getpwnam(name)
    home = Path(tempfile.mkdtemp(prefix=f"banger-test-{name}-", suffix=" 100% home", dir="/var/tmp"))
    try:
        home.chmod(0o700)
        shutil.chown(home, real.pw_uid, real.pw_gid)
        yield Person(pwd.struct_passwd((name, "x", real.pw_uid, real.pw_gid, "", str(home), "/bin/sh")))
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def owning(owner_: Person) -> Iterator[None]:
    """Let farms that are started meanwhile be this person's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "owner_of", lambda _settings: owner_.account)
        yield
