"""What to do, where several errors say the same: a host's farm is `banger farm`'s, or systemd's."""

from __future__ import annotations

START = "`sudo banger farm up` starts or mends the farm; where systemd has it, `sudo banger system restart`."
RESTART = (
    "It is there and hangs: `sudo banger farm logs redis` shows what it is at; `sudo banger farm down` and "
    "`up`, or `sudo banger system restart`, start it anew."
)
MEND = "`sudo banger farm up` mends it; where systemd has the farm, `sudo banger system install`."
LOOK = f"`sudo banger doctor` tells why. {START}"
OWNER = (
    "Its owner is who starts it with `sudo banger farm up`, or whom `banger system install --owner` named. "
    "Root may use any farm."
)
