"""A machine to install on: this one, with a copy of /etc, and a systemd that listens.

It has namespaces of its own, of mounts and of the network: a farm may run here, and have its ports.
``useradd`` is real and writes to the copy; ``systemctl`` writes down what it is told and answers as if all
went well. Programs are run inside with ``nsenter``; what they leave goes with the namespace.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

HIDDEN = ("/var/lib", "/var/log", "/run", "/usr/local/sbin", "/opt")
SHOWN = ("/etc", *HIDDEN)

SYSTEMCTL = r"""#!/bin/sh
# A unit that is there is loaded; one that was started and not stopped runs.
echo "$*" >> /run/systemctl.log
verb=$1; shift
for word; do case $word in -*) ;; *) units="$units $word" ;; esac; done
case $verb in
    start|restart) for unit in $units; do touch "/run/systemctl.$unit"; done ;;
    stop|disable) for unit in $units; do rm -f "/run/systemctl.$unit"; done ;;
    show) for unit in $units; do
        state=inactive; [ ! -e "/run/systemctl.$unit" ] || state=active
        load=not-found; [ ! -e "/etc/systemd/system/$unit" ] || load=loaded
        printf 'Id=%s\nLoadState=%s\nActiveState=%s\nSubState=running\n' $unit $load $state
        printf 'MainPID=7\nNRestarts=0\nActiveEnterTimestamp=today\nNeedDaemonReload=no\nDropInPaths=\n\n'
    done ;;
esac
"""

MAKE = f"""set -e
ip link set lo up
mount --make-rprivate /
copy=$(mktemp -d)
mount -t tmpfs -o mode=0755 copy $copy
cp -a /etc $copy/etc || [ -s $copy/etc/passwd ]  # a lock of another useradd's may vanish meanwhile
rm -f $copy/etc/*.lock
mount --bind $copy/etc /etc
for place in {" ".join(HIDDEN)}; do mount -t tmpfs -o mode=0755 hidden $place; done
umount -l $copy
rmdir $copy
rm -rf /etc/banger /etc/systemd/system/banger*
sed -i 's/^#\\?\\(SYS_[UG]ID_M[AI][NX]\\).*//' /etc/login.defs  # users of this machine's own may be at work
printf 'SYS_UID_MIN 300\\nSYS_UID_MAX 499\\nSYS_GID_MIN 300\\nSYS_GID_MAX 499\\n' >> /etc/login.defs
sed -i '/^banger/d' /etc/passwd /etc/group /etc/shadow /etc/gshadow
cat > /usr/local/sbin/systemctl
chmod 0755 /usr/local/sbin/systemctl
mkdir -p /run/systemd/system
echo made
exec setpriv --pdeathsig KILL sleep infinity
"""

# Where this very code lies is tests/unit/test_system_code.py's to judge: a clone may be anybody's.
BANGER = """import sys
from banger.cli import main
from banger.system import code
code.require_trusted = lambda: None
sys.exit(main(sys.argv[1:]))
"""


class Ended(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str


class SystemBox(NamedTuple):
    """The namespace, by a process that is in it."""

    pid: int

    def run(self, *argv: str, **environment: str) -> Ended:
        """Run a program inside, with these variables and no others of ours."""
        env = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | environment
        enter = ("nsenter", "--target", str(self.pid), "--mount", "--net", "--wd=/", "--")
        ended = subprocess.run([*enter, *argv], capture_output=True, text=True, env=env, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def banger(self, *words: str, **environment: str) -> Ended:
        """Run the command line inside."""
        return self.run(sys.executable, "-c", BANGER, *words, **environment)

    def good(self, *words: str, **environment: str) -> str:
        """Run the command line inside, and return what it prints; it must end with 0."""
        ended = self.banger(*words, **environment)
        assert ended.code == 0, ended.err
        return ended.out

    def as_nobody(self, *words: str) -> Ended:
        """Run the command line inside, as a user without rights."""
        drop = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
        return self.run(*drop, sys.executable, "-c", BANGER, *words, HOME="/nonexistent")

    def json(self, *words: str) -> Any:
        """Return what a command says in JSON."""
        return json.loads(self.banger(*words, "--json").out)

    def shell(self, script: str) -> str:
        """Run a shell's script inside and return what it prints."""
        ended = self.run("sh", "-ec", script)
        assert ended.code == 0, ended.err
        return ended.out.strip()

    def told_systemd(self) -> list[str]:
        """Return, and forget, what systemctl was told to do; not what it was asked."""
        log = self.shell("cat /run/systemctl.log 2>/dev/null || true; rm -f /run/systemctl.log")
        return [line for line in log.splitlines() if not line.startswith("show ")]

    def listing(self) -> list[str]:
        """Return everything that an installation can touch: type, mode, owners, size and digest of each."""
        names = " ".join(place for place in SHOWN if place != "/run")
        find = f"find {names} /run -xdev ! -path '/run/systemctl*' -printf '%y %m %u %g %p %l\\n' | sort"
        digests = "sha256sum /etc/passwd /etc/group /etc/shadow /etc/gshadow"
        return [*self.shell(find).splitlines(), *self.shell(digests).splitlines()]


@contextlib.contextmanager
def system_box() -> Iterator[SystemBox]:
    """Yield a machine with nothing of banger's on it."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "--net", "sh", "-c", MAKE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(SYSTEMCTL)
        holder.stdin.close()
        assert holder.stdout.readline() == "made\n"
        yield SystemBox(holder.pid)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
