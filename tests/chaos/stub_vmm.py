"""What stands where QEMU stands: as cheap as a process can be, in the real jail, under the VM's own uid.

The keeper starts it like any VMM, in the VMMs' root directory, where there is nothing but programs: hence
Python itself, with its code on its command line. It answers QMP as ``root_worker.vmm.qmp`` needs it, stays
until it is killed, and has no guest. Each start is one line of its console, so that a second one shows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

STUB_MEMORY_MIB = 64  # a VM of this size has a stub; both workers and their checker know it by that
STARTED = "[stub] a VMM has started"

# Not ``socket``: that takes 10 ms to import, and there are hundreds of these.
CODE = f"""
import sys, _socket
print({STARTED!r}, flush=True)
server = _socket.socket(fileno=int(sys.argv[1]))
while True:
    client = _socket.socket(fileno=server._accept()[0])
    try:
        client.sendall(b'{{"QMP": {{"version": {{}}, "capabilities": []}}}}\\r\\n')
        while client.recv(4096):
            client.sendall(b'{{"return": {{}}}}\\r\\n')
    except OSError:
        pass
    client.close()
"""


def stub_argv(machine: Any) -> tuple[str, ...]:
    """Return the stub's command line for a machine of ``banger.contracts.qemu``."""
    python = str(Path(sys.executable).resolve())
    return (python, "-I", "-S", "-c", CODE, str(machine.qmp_fd), f"stub-of-{machine.vm_id}")


def root_app() -> Any:
    """Return root's app, as it is but that every VMM is a stub."""
    from banger.contracts import qemu
    from root_worker import app

    qemu.argv = stub_argv
    return app.app
