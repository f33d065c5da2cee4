"""Write what the farm's owner needs into the owner's home, as the owner; print the public key.

``python -m banger.embedded.owner_home``, run by ``banger.embedded.owner`` behind setpriv, with the farm's
file on stdin.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from banger.contracts.errors import BangerError
from banger.keyring import own_ssh_directory
from banger.private_file import write_private
from banger.settings import own_farm_file
from banger.shell import find_tool, run

_DEADLINE_S = 30


def main() -> int:
    """Do it; may be repeated: a key that is there is kept."""
    try:
        sys.stdout.write(equip(Path.home(), sys.stdin.read()))
    except (BangerError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def equip(home: Path, farm: str) -> str:
    """Make key pair and farm file beneath the home, and return the public key's line without a comment."""
    directory = own_ssh_directory(home)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = directory / "id_ed25519"
    keygen = find_tool("ssh-keygen")
    if not key.exists():
        make = (keygen, "-q", "-t", "ed25519", "-N", "", "-C", "banger", "-f", str(key))
        run(make, deadline_s=_DEADLINE_S)
    write_private(own_farm_file(), farm, uid=os.getuid(), gid=os.getgid())
    said = run((keygen, "-y", "-f", str(key)), deadline_s=_DEADLINE_S).stdout.decode()
    return " ".join(said.split()[:2])


if __name__ == "__main__":
    raise SystemExit(main())
