"""Every name and number that follows from a VM's id or slot, derived in this one place.

Nothing that banger owns on a host lacks one of these names, and nothing without one is touched.
"""

from __future__ import annotations

import re
import secrets
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import StringConstraints

_HEX12 = r"^[0-9a-f]{12}$"
_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

VmId = Annotated[str, StringConstraints(pattern=_HEX12)]
JobId = Annotated[str, StringConstraints(pattern=_HEX12)]
BatchId = Annotated[str, StringConstraints(pattern=_HEX12)]
ImageId = Annotated[str, StringConstraints(pattern=_HEX12)]
KernelId = Annotated[str, StringConstraints(pattern=_HEX12)]
VmName = Annotated[str, StringConstraints(pattern=_LABEL)]
HostName = Annotated[str, StringConstraints(pattern=_LABEL)]
ImageName = Annotated[str, StringConstraints(pattern=_LABEL)]

BRIDGE = "bgr0"
TAP_PREFIX = "bgr-"
NFT_TABLE = "banger"
SLICE = "banger.slice"  # systemd's, which the VMs' units are in
# Where a VMM finds its kernel, and its keeper, in the root directory of all VMMs.
KERNELS = Path("/kernels")
KEEPER = Path("/keeper/keeper.py")

FIRST_SLOT = 2  # .0 is the network, .1 the bridge


def new_id() -> str:
    """Return 12 random lower-case hex digits: a VM, job or image id."""
    return secrets.token_hex(6)


def is_id(text: str) -> bool:
    """Tell whether the text has the form of an id (12 lower-case hex digits)."""
    return re.fullmatch(_HEX12, text) is not None


def is_label(text: str) -> bool:
    """Tell whether the text is a DNS label: a VM, host or image name."""
    return re.fullmatch(_LABEL, text) is not None


def tap_name(vm_id: str) -> str:
    """Return the tap's name. Interface names hold 15 bytes, so it carries 11 of the 12 digits of the id."""
    return f"{TAP_PREFIX}{vm_id[:11]}"


def link_alias(vm_id: str) -> str:
    """Return the alias of the VM's links, which carries the whole id that the name has no room for."""
    return f"banger-{vm_id}"


def unit_name(vm_id: str) -> str:
    """Return the name of the systemd unit that the VM's VMM lives in, on a host that has such."""
    return f"banger-vm-{vm_id}.service"


def dm_name(vm_id: str) -> str:
    """Return the device-mapper name of the VM's system disk."""
    return f"banger-{vm_id}"


class Slot(NamedTuple):
    """What follows from one leased integer on one host: address, MAC, uid and vsock CID, unique together."""

    number: int
    address: IPv4Address
    gateway: IPv4Address
    prefix: int
    mac: str
    uid: int
    cid: int


def mac_address(address: IPv4Address) -> str:
    """Return the MAC of a guest's or the bridge's address: locally administered, 02:fc and the address."""
    return "02:fc:" + ":".join(f"{byte:02x}" for byte in address.packed)


def slot(number: int, network: IPv4Network, uid_base: int) -> Slot:
    """Derive a slot's address, MAC (02:fc and the address), uid and CID; ValueError outside the network."""
    if not FIRST_SLOT <= number <= network.num_addresses - 2:
        raise ValueError(f"slot {number} is outside {network} ({FIRST_SLOT}..{network.num_addresses - 2})")
    address = network.network_address + number
    return Slot(
        number=number,
        address=address,
        gateway=network.network_address + 1,
        prefix=network.prefixlen,
        mac=mac_address(address),
        uid=uid_base + number,
        cid=number + 1,
    )


class HostPaths(NamedTuple):
    """Where a host keeps things, all beneath two roots.

    ``state`` survives a reboot (disks, images, registry), ``run`` does not (sockets, pids).
    """

    state: Path
    run: Path

    @property
    def images(self) -> Path:
        """Image store: one directory an image id, root-owned, readable by all."""
        return self.state / "images"

    @property
    def kernels(self) -> Path:
        """Kernel store: one directory a kernel id (vmlinuz, vmlinux, initrd)."""
        return self.state / "kernels"

    @property
    def vms(self) -> Path:
        """VM directories, owned by the worker's user."""
        return self.state / "vms"

    @property
    def batches(self) -> Path:
        """What batches' jobs left on this host, one directory a batch: the worker's."""
        return self.state / "batches"

    @property
    def keys(self) -> Path:
        """The farm's SSH key pair, readable by the worker's user."""
        return self.state / "keys"

    @property
    def identity(self) -> Path:
        """The farm's private SSH key, which every guest admits as root; beside it the public one (.pub)."""
        return self.keys / "id_ed25519"

    @property
    def ticket_key(self) -> Path:
        """The host's private key (raw Ed25519), which seals tickets for root: the worker's, mode 0400."""
        return self.state / "ticket.key"

    @property
    def host_id(self) -> Path:
        """The random id that this machine was given at its first start: root's, readable by all."""
        return self.state / "host.id"

    @property
    def cgroups(self) -> str:
        """The cgroup that all VMs of this farm have theirs in, in each hierarchy: no two farms share it."""
        return "banger" + str(self.state).replace("/", "-")

    @property
    def verified(self) -> Path:
        """What the worker has seen of images' digests, so that it reads each file once."""
        return self.state / "verified"

    @property
    def names(self) -> Path:
        """What the farm's name server knows: a file an address, the worker's, readable by all."""
        return self.state / "names"

    @property
    def registry(self) -> Path:
        """Root's own registry, one JSON file a VM, readable by root alone."""
        return self.state / "registry"

    @property
    def audit(self) -> Path:
        """Root's audit: files of JSON lines, named by the number of their first line, and root's alone."""
        return self.state / "audit"

    @property
    def jails(self) -> Path:
        """One root-owned directory a running VM: the VMM's sockets."""
        return self.run / "jails"

    @property
    def vmm_root(self) -> Path:
        """The root directory of all VMMs, which only the root worker and they see."""
        return self.run / "vmm-root"

    @property
    def accelerator(self) -> Path:
        """What a probe boot with KVM found, until the next reboot; written by root."""
        return self.run / "accelerator.json"

    @property
    def owner_key(self) -> Path:
        """The public SSH key of the farm's owner, which new guests admit too; root-owned, perhaps absent."""
        return self.state / "owner.pub"

    @property
    def spool(self) -> Path:
        """Where the farm's owner leaves files for the worker to copy into guests."""
        return self.run / "spool"

    def bundle(self, job: str) -> Path:
        """Return the files that the owner has left for one job."""
        return self.spool / f"{job}.json"

    def vm(self, vm_id: str) -> Path:
        """Return the VM's directory."""
        return self.vms / vm_id

    def removed(self, vm_id: str) -> Path:
        """Return what a VM's directory is called while it is being removed."""
        return self.vms / f".removed-{vm_id}"

    def overlay(self, vm_id: str) -> Path:
        """Return the file that keeps the guest's changes to its system disk."""
        return self.vm(vm_id) / "overlay.img"

    def work_disk(self, vm_id: str) -> Path:
        """Return the VM's work disk, which the guest sees as /root."""
        return self.vm(vm_id) / "work.ext4"

    def host_key(self, vm_id: str) -> Path:
        """Return the guest's SSH host key (private; the public half beside it with .pub)."""
        return self.vm(vm_id) / "ssh_host_ed25519_key"

    def known_hosts(self, vm_id: str) -> Path:
        """Return the known_hosts file with this guest's one line, under the alias ``link_alias(vm_id)``."""
        return self.vm(vm_id) / "known_hosts"

    def serial_log(self, vm_id: str) -> Path:
        """Return the bounded log of the guest's serial console; its older half ends in ``.1``."""
        return self.vm(vm_id) / "serial.log"

    def metrics(self, vm_id: str) -> Path:
        """Return what the VM's Firecracker has counted last: a line of JSON, while it runs and after."""
        return self.vm(vm_id) / "metrics.json"

    def intent(self, vm_id: str) -> Path:
        """Return the intent file, written before the first side effect on this host."""
        return self.vm(vm_id) / "intent.json"

    def jail(self, vm_id: str) -> Path:
        """Return the VMM's jail directory."""
        return self.jails / vm_id

    def image(self, image_id: str) -> Path:
        """Return an image's directory: manifest.json, rootfs.ext4, perhaps work-seed.ext4."""
        return self.images / image_id

    def rootfs(self, image_id: str) -> Path:
        """Return an image's root file system, the read-only base of system disks."""
        return self.image(image_id) / "rootfs.ext4"

    def work_seed(self, image_id: str) -> Path:
        """Return an image's work seed; the file is absent where the image has none."""
        return self.image(image_id) / "work-seed.ext4"

    def kernel(self, kernel_id: str) -> Path:
        """Return a kernel's directory: manifest.json, vmlinuz, vmlinux, initrd.img."""
        return self.kernels / kernel_id
