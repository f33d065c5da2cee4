"""A stand-in for Firecracker: its API on a Unix socket, which refuses what Firecracker refuses.

It opens what it is told to open, when Firecracker opens it. In place of a guest it does what its kernel file
says, in lines: ``say WORDS``, ``flood BYTES``, ``hang`` (no key ends it), ``rubbish`` (is its answer to
keys), ``end``, and ``refuse`` (to start) or ``crash`` (instead).
Run as a program, ``--version`` or ``--api-sock PATH``; the stand-in jailer calls ``main``.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import struct
import sys
from pathlib import Path
from typing import Any

VERSION = "1.16.1"
MAX_PAYLOAD = 51200
SOCKET = "/run/firecracker.socket"
KVM_GET_API_VERSION = 0xAE00

FIELDS = {
    "logger": {"log_path", "level", "show_level", "show_log_origin", "module"},
    "metrics": {"metrics_path"},
    "serial": {"serial_out_path", "rate_limiter"},
    "machine-config": {
        *("vcpu_count", "mem_size_mib", "smt", "cpu_template", "track_dirty_pages", "huge_pages"),
    },
    "boot-source": {"kernel_image_path", "initrd_path", "boot_args"},
    "drives": {
        *("drive_id", "partuuid", "is_root_device", "cache_type", "is_read_only", "path_on_host"),
        *("rate_limiter", "io_engine", "socket"),
    },
    "network-interfaces": {
        *("iface_id", "host_dev_name", "guest_mac", "mtu", "rx_rate_limiter", "tx_rate_limiter"),
    },
    "vsock": {"vsock_id", "guest_cid", "uds_path"},
    "entropy": {"rate_limiter"},
    "actions": {"action_type"},
}
REQUIRED = {
    "metrics": {"metrics_path"},
    "machine-config": {"vcpu_count", "mem_size_mib"},
    "boot-source": {"kernel_image_path"},
    "drives": {"drive_id", "is_root_device"},
    "network-interfaces": {"iface_id", "host_dev_name"},
    "vsock": {"guest_cid", "uds_path"},
    "actions": {"action_type"},
}
LEVELS = {"off", "trace", "debug", "info", "warn", "warning", "error"}
ARGUMENTS = ("--id", "--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us", "--api-sock")
POST_BOOT = "The requested operation is not supported after starting the microVM."
PRE_BOOT = "The requested operation is not supported before starting the microVM."


class RefusedError(Exception):
    """A request that Firecracker answers with 400."""


class Firecracker:
    """A microVM before and after its start."""

    def __init__(self) -> None:
        self.running = False
        self.ended = False
        self.held: dict[str, Any] = {}  # what stays open
        self.config: dict[str, Any] = {}
        self.drives: dict[str, dict[str, Any]] = {}
        self.script: list[str] = []

    def request(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and answer of one request."""
        if len(body) > MAX_PAYLOAD:
            return 413, {"fault_message": f"Request payload with size {len(body)} is larger than the limit"}
        if method == "PUT" and not body:
            return 400, {"fault_message": "Empty PUT request."}
        kind, _, name = path.strip("/").partition("/")
        try:
            if method == "GET":
                state = "Running" if self.running else "Not started"
                return 200, {"id": "fake", "state": state, "vmm_version": VERSION, "app_name": "Firecracker"}
            if kind not in FIELDS or method not in ("PUT", "PATCH"):
                return 400, {"fault_message": f"Invalid request method and/or path: {method} {path}."}
            asked = json.loads(body)
            for field in asked.keys() - FIELDS[kind]:
                return 400, {
                    "fault_message": f"An error occurred when deserializing: unknown field `{field}`"
                }
            (self.patch if method == "PATCH" else self.put)(kind, name, asked)
        except (RefusedError, ValueError, OSError) as error:
            return 400, {"fault_message": str(error)}
        return 204, None

    def put(self, kind: str, name: str, asked: dict[str, Any]) -> None:
        for field in REQUIRED.get(kind, set()) - asked.keys():
            raise RefusedError(f"An error occurred when deserializing: missing field `{field}`")
        if kind == "actions":
            return self.act(asked["action_type"])
        if self.running:
            raise RefusedError(POST_BOOT)
        getattr(self, f"put_{kind.replace('-', '_')}", lambda *_: None)(name, asked)
        self.config[f"{kind}/{name}".rstrip("/")] = asked
        return None

    def patch(self, kind: str, name: str, _asked: dict[str, Any]) -> None:
        if not self.running:
            raise RefusedError(PRE_BOOT)
        if kind == "drives" and name not in self.drives:
            raise RefusedError(f"Unable to patch the block device: unknown drive {name}")

    def put_logger(self, _name: str, asked: dict[str, Any]) -> None:
        if asked.get("level", "info").lower() not in LEVELS:
            raise RefusedError("An error occurred when deserializing: Invalid LevelFilter")
        self.held["log"] = open_nonblock(asked["log_path"])

    def put_metrics(self, _name: str, asked: dict[str, Any]) -> None:
        if "metrics" in self.held:
            raise RefusedError("Cannot initialize the metrics system: already initialized.")
        self.held["metrics"] = open_nonblock(asked["metrics_path"])

    def put_machine_config(self, _name: str, asked: dict[str, Any]) -> None:
        if not 1 <= asked["vcpu_count"] <= 32 or (asked.get("smt") and asked["vcpu_count"] % 2 > 0):
            raise RefusedError("The vCPU number is invalid!")
        if asked["mem_size_mib"] < 1:
            raise RefusedError("The memory size (MiB) is invalid.")

    def put_boot_source(self, _name: str, asked: dict[str, Any]) -> None:
        with Path(asked["kernel_image_path"]).open("rb") as file:
            self.script = file.read(4096).decode(errors="replace").splitlines()
        if initrd := asked.get("initrd_path"):
            os.close(os.open(initrd, os.O_RDONLY))
        if len(asked.get("boot_args", "")) > 2048:
            raise RefusedError("The kernel command line is invalid: string contains too many characters")

    def put_drives(self, name: str, asked: dict[str, Any]) -> None:
        checked_id(name, asked["drive_id"])
        if asked.get("cache_type", "Unsafe") not in ("Unsafe", "Writeback"):
            raise RefusedError("An error occurred when deserializing: unknown variant of cache_type")
        if asked["is_root_device"] and any(
            one["is_root_device"] for key, one in self.drives.items() if key != name
        ):
            raise RefusedError("A root block device already exists!")
        flags = os.O_RDONLY if asked.get("is_read_only") else os.O_RDWR
        self.held[name] = os.open(asked["path_on_host"], flags)
        self.drives[name] = asked

    def put_network_interfaces(self, name: str, asked: dict[str, Any]) -> None:
        checked_id(name, asked["iface_id"])
        self.held["tap"] = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", asked["host_dev_name"].encode(), 0x0002 | 0x1000 | 0x4000)
        fcntl.ioctl(self.held["tap"], 0x400454CA, request)

    def put_vsock(self, _name: str, asked: dict[str, Any]) -> None:
        if asked["guest_cid"] < 3:
            raise RefusedError("Invalid CID")
        self.held["vsock"] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.held["vsock"].bind(asked["uds_path"])

    def act(self, action: str) -> None:
        if action == "SendCtrlAltDel":
            if not self.running:
                raise RefusedError(PRE_BOOT)
            self.ended = not {"hang", "rubbish"} & set(self.script)
            return
        if action != "InstanceStart":
            raise RefusedError(f"unknown variant `{action}`")
        if self.running:
            raise RefusedError(POST_BOOT)
        if "boot-source" not in self.config:
            raise RefusedError("Cannot start microvm without kernel configuration.")
        if "crash" in self.script:
            os._exit(148)
        if "refuse" in self.script:
            raise RefusedError("Start microvm error: Kvm error: Cannot create a VM")
        self.held["kvm"] = open_kvm()
        self.held["serial"] = open_nonblock(self.config["serial"]["serial_out_path"])
        self.running = True
        for piece in metrics_line():
            os.write(self.held["metrics"], piece)

    def run_guest(self) -> None:
        """Do what the kernel file says."""
        script, self.script = self.script, [line for line in self.script if line in ("hang", "rubbish")]
        for line in script:
            word, _, rest = line.partition(" ")
            if word == "say":
                os.write(self.held["serial"], f"{rest}\n".encode())
            elif word == "flood":
                flood(self.held["serial"], int(rest))
            elif word == "end":
                self.ended = True


def metrics_line() -> list[bytes]:
    """Return a line of metrics in the pieces that Firecracker's LineWriter writes: a KiB, and the newline."""
    text = json.dumps({"utc_timestamp_ms": 1, "uart": dict.fromkeys(map(str, range(900)), 0)}).encode()
    return [*(text[start : start + 1024] for start in range(0, len(text), 1024)), b"\n"]


def flood(fd: int, count: int) -> None:
    """Print numbers, waiting for nobody to be sure, as a guest cannot be faster than its reader for ever."""
    os.set_blocking(fd, True)
    for number in range(count // 8):
        os.write(fd, f"{number:07}\n".encode())
    os.set_blocking(fd, False)


def open_nonblock(path: str) -> int:
    """Open as Firecracker does: it is a reader of its own FIFOs as well, which never end while it lives."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)


def open_kvm() -> int | None:
    """Open KVM, which its jail, owner and cgroup must allow; a host that has none is what tests may lack."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return None
        raise RefusedError(f"Kvm error: Error creating KVM object: {error.strerror}") from error
    if fcntl.ioctl(kvm, KVM_GET_API_VERSION, 0) != 12:
        raise RefusedError("Kvm error: The host kernel reports an invalid KVM API version")
    return kvm


def checked_id(in_path: str, in_body: str) -> None:
    if in_path != in_body:
        raise RefusedError("The id from the path does not match the id from the body!")
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", in_path):
        raise RefusedError("API Resource IDs can only contain alphanumeric characters and underscores.")


def read_request(line: socket.socket) -> tuple[str, str, bytes] | None:
    said = b""
    while b"\r\n\r\n" not in said:
        if not (chunk := line.recv(65536)):
            return None
        said += chunk
    head, _, body = said.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert all(len(one) < 1024 and ":" in one for one in fields), "micro_http refuses the request"
    lengths = [int(field.split(":")[1]) for field in fields if field.lower().startswith("content-length:")]
    while lengths and len(body) < lengths[0]:
        body += line.recv(65536)
    method, path, _ = first.split(" ")
    return method, path, body


def serve(path: str) -> None:
    """Answer until the guest has ended."""
    vmm = Firecracker()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(4)
    while not vmm.ended:
        line, _ = listener.accept()
        while (asked := read_request(line)) is not None:
            status, answer = vmm.request(*asked)
            head = f"HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
            body = b"" if answer is None else json.dumps(answer).encode()
            more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
            if vmm.running and "rubbish" in vmm.script and b"SendCtrlAltDel" in asked[2]:
                more = "Content-Length: plenty\r\n"
            line.sendall(f"{head}{more}\r\n".encode() + body)
            if vmm.running:
                vmm.run_guest()
            if vmm.ended:
                break
        line.close()


def main(arguments: list[str]) -> None:
    if "--version" in arguments:
        print(f"Firecracker v{VERSION}\n")
        return
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    if unknown := given.keys() - set(ARGUMENTS):
        sys.exit(f"Arguments parsing error: Found argument {unknown} which wasn't expected")
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", given.get("--id", "anonymous-instance")):
        sys.exit("Invalid instance ID")
    serve(given.get("--api-sock", SOCKET))


if __name__ == "__main__":
    main(sys.argv[1:])
