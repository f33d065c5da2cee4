"""Everything that VMs can have on a host and in the farm's memory, as lines that can be compared.

A full look, not a look for what we think of: all files below the farm's directories, all links, rules, loops,
mounts, devices, all processes that are the farm's by uid, by network or by what they were started with, all
keys of Redis. What is left out, and why, stands beside each rule that leaves it out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm_box import Box, answer

from banger.contracts.journal import job_key, vm_key
from banger.contracts.names import is_id

# Of the farm, not of VMs: their content changes all the time, and they stay.
_OF_THE_FARM = re.compile(
    r"^(state/(audit|logs|redis|images|kernels|verified)/"
    r"|state/registry/\.(tickets|worker|ballast)"
    r"|state/vms/\.(worker|boot-id)"
    r"|run/(farm|redis|vmm-root)(/|$))"
)
_SERVICES = {
    "redis": "/redis-server ",
    "worker": " celery -A chaos_apps:work ",
    "root worker": " celery -A chaos_apps:root ",
    "supervisor": "/chaos_supervisor.py",
}


def snapshot(box: Box) -> set[str]:
    """Return all that there is, one line a thing."""
    return {
        *_files(box),
        *_network(),
        *_rules(),
        *_devices(box),
        *_mounts(box),
        *_processes(box),
        *_cgroups(box),
        *_keys(box),
    }


def _files(box: Box) -> Iterator[str]:
    """Yield every path with its kind, owner and mode; scratch files too, wherever they lie."""
    for directory, names, files in os.walk(box.root):
        for name in (*names, *files):
            path = Path(directory, name)
            short = str(path.relative_to(box.root))
            if short.startswith(("apps/", "chaos/")):
                continue
            if _OF_THE_FARM.match(short) and not name.endswith(".new"):
                continue
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                mode = stat.filemode(found.st_mode)
                yield f"file {short} {mode} {found.st_uid}:{found.st_gid}"


def _network() -> Iterator[str]:
    for link in answer("ip", "-j", "link"):
        yield f"link {link['ifname']} {link.get('ifalias', '')} of {link.get('master', 'nobody')}"
    for entry in answer("ip", "-j", "neigh"):
        if "PERMANENT" in entry["state"]:  # the others are the kernel's own, for a while
            yield f"neighbour {entry['dst']} {entry.get('lladdr')}"
    for entry in answer("bridge", "-j", "fdb"):
        if entry.get("state") == "permanent" and "vlan" not in entry:
            yield f"fdb {entry['mac']} at {entry['ifname']}"
    for entry in answer("ip", "-j", "route", "show", "table", "all"):
        yield f"route {entry['dst']} by {entry.get('dev')}"


def _rules() -> Iterator[str]:
    """Yield the whole ruleset, each line with the chain it stands in; counters and handles are not told."""
    said = subprocess.run(("nft", "--stateless", "list", "ruleset"), capture_output=True, check=True)
    where: list[str] = []
    # The elements of a map or a set stand in braces of their own, several to a line: one line each here.
    text = re.sub(r"elements = \{(.*?)\}", _elements, said.stdout.decode(), flags=re.DOTALL)
    for line in map(str.strip, text.splitlines()):
        if line == "}":
            where.pop()
        elif line.endswith("{"):
            where.append(line[:-2])
            yield f"nft {' / '.join(where)}"
        elif line:
            yield f"nft {' / '.join(where)}: {line}"


def _elements(found: re.Match[str]) -> str:
    return "\n".join(f"element {one.strip()}" for one in found[1].split(","))


def _devices(box: Box) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(box.root) in (backing := path.read_text().strip()):
                yield f"loop of {backing}"
    for path in Path("/sys/block").glob("dm-*/dm/name"):
        if (name := path.read_text().strip()).startswith("banger"):
            yield f"dm {name}"


def _mounts(box: Box) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(box.root) in (place := line.split()[4]):
            yield f"mount at {place}"


def _processes(box: Box) -> Iterator[str]:
    """Yield what is the farm's: under a VM's uid, in the box's network, or started with its directories.

    Services are told by what they are and counted: they are started anew all the time. Not told is what
    this process has started itself.
    """
    base, network = box.settings.uid_base, Path("/proc/thread-self/ns/net").stat().st_ino
    services: Counter[str] = Counter()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            status = (path / "status").read_text()
            uid = int(status.partition("\nUid:")[2].split(maxsplit=1)[0])
            argv = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not argv or "\nState:\tZ" in status:
                continue
            of_a_vm = base <= uid < base + 1000
            parent = int(status.partition("\nPPid:")[2].split(maxsplit=1)[0])
            inside = (path / "ns/net").stat().st_ino == network and parent != os.getpid()
            if path.name == str(os.getpid()) or not (of_a_vm or inside or str(box.root) in argv):
                continue
            if not of_a_vm and (named := [name for name, words in _SERVICES.items() if words in argv]):
                services[named[0]] += 1
                continue
            yield f"process {path.name} of uid {uid}: {' '.join(argv.split())[:100]}"
    for name, count in services.items():
        yield f"process of the farm: {count} {name}"


def _cgroups(box: Box) -> Iterator[str]:
    for path in Path("/sys/fs/cgroup").glob(f"**/{box.paths.cgroups}/*/"):
        yield f"cgroup {path}"


def _keys(box: Box) -> Iterator[str]:
    """Yield every key that will not go by itself, and jobs without an end.

    A story that is told for a while has a time to live; ``serving`` and inventories are said again and again.
    What a killed worker had taken of a queue stays with Redis until it is delivered again, after 700 s:
    ``redeliver`` brings that forward, at the end of a run.
    """
    client: Any = box.admin.redis
    for key in sorted(client.scan_iter(count=1000)):
        ttl = client.ttl(key)
        if ttl == -2 or re.match(r"banger[.:](serving|inventory|unacked)", key):
            continue
        if re.match(r"banger:(hosts|events|audit.*|host:.*:seat)$|_kombu\.binding\.", key):
            continue  # the farm's own, and there for good
        if re.fullmatch(r"banger\.(work|root)\..*|banger\.control", key):
            yield f"queue {key} with {client.llen(key)} messages"
        elif key.startswith(job_key("")) and key.count(":") == 2:
            state = client.hget(key, "state")
            if state not in ("done", "failed") or ttl < 0:
                yield f"job {key} {state}, {ttl} s to live"
        elif key.endswith(":leases"):
            for vm_id, lease in client.hgetall(key).items():
                yield f"lease {vm_id} {lease}"
        elif ttl < 0 or (key.startswith(vm_key("")) and is_id(key.rpartition(":")[2])):
            yield f"key {key}"


def redeliver(box: Box) -> bool:
    """Let Redis deliver now what killed workers had taken; tell whether there is nothing left of it.

    One that is killed while it delivers again keeps others from that for 300 s more, by a key with that time
    to live.
    """
    client: Any = box.admin.redis
    for key in client.scan_iter(match="banger.unacked.*_mutex"):
        client.delete(key)
    left = sum(client.hlen(key) for key in client.scan_iter(match="banger.unacked.*", _type="hash"))
    for key in client.scan_iter(match="banger.unacked.*_index"):
        for tag, at in client.zrange(key, 0, -1, withscores=True):
            left += 1
            if at > 1:
                client.zadd(key, {tag: 1}, xx=True)
    return left == 0 and not any(client.llen(f"banger.{q}") for q in _queues(box))


def _queues(box: Box) -> tuple[str, ...]:
    return (f"work.{box.settings.host}", f"root.{box.settings.host}", "control")


def registry(box: Box) -> dict[str, dict[str, Any]]:
    """Return root's registry as it lies on disk."""
    found = {}
    for path in box.paths.registry.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            found[path.stem] = json.loads(path.read_text())
    return found
