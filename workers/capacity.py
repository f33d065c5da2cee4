"""What this host has to give: memory, vCPUs, disk, images, and what runs VMs."""

from __future__ import annotations

import os
import shutil
from typing import Any

import psutil

from banger import firecracker_pair
from banger.accelerator import chosen
from banger.contracts import qemu, vmm
from banger.contracts.errors import BangerError
from banger.embedded.paths import farm_paths
from banger.hosts import VCPUS_A_CORE, HostImage, HostInfo
from banger.images.catalogue import Catalogue
from banger.settings import Settings
from banger.ticket_keys import read_policy

_MIB = 1024 * 1024
_HOST_RESERVE_MIB = 1024  # for the host itself and the farm
_SHORT_THREADS = 24  # kept free of waits and commands, so that short stages are never behind them
_KEPT_THREADS = 8  # of those for long ones: for VMs that belong to no batch
_VERSION_DEADLINE_S = 3.0  # of Firecracker, and of its jailer: the host is to be heard of meanwhile


def long_threads(settings: Settings) -> int:
    """Return how many of the worker's threads may wait for guests at once."""
    return max(1, settings.worker_threads - _SHORT_THREADS)


def describe_host(settings: Settings) -> HostInfo:
    """Return this host's capacity as it is now."""
    total_mib = psutil.virtual_memory().total // _MIB
    state = settings.state_dir
    return HostInfo(
        name=settings.host,
        network=settings.network,
        uid_base=settings.uid_base,
        vcpus=(os.cpu_count() or 1) * VCPUS_A_CORE,
        memory_mib=max(0, total_mib - _HOST_RESERVE_MIB),
        commands=max(1, long_threads(settings) - _KEPT_THREADS),
        disk_free_mib=shutil.disk_usage(state).free // _MIB,
        images=tuple(
            HostImage(
                id=manifest.id,
                name=manifest.name,
                kernel=manifest.kernel,
                rootfs_mib=manifest.rootfs.bytes // _MIB,
                seed_mib=-(-manifest.work_seed.bytes // _MIB) if manifest.work_seed else 0,
            )
            for manifest in Catalogue(settings.paths).list()
        ),
        disk_backend=settings.disk_backend,
        **_vmms(settings),
    )


def _vmms(settings: Settings) -> dict[str, Any]:
    """Return what runs VMs here, by root's own policy; nothing where that cannot be read, as doctor tells."""
    try:
        policy = read_policy(farm_paths(settings).policy)
    except BangerError:
        return {}
    accelerator = chosen(policy.accelerator, settings.paths.accelerator)
    problem = ""
    if accelerator == "kvm":
        problem = firecracker_pair.look(policy.firecracker, policy.jailer, _VERSION_DEADLINE_S).problem
    obstacles = {
        "firecracker": vmm.obstacle(accelerator, 1, problem),
        "qemu": "" if qemu.BINARY.exists() else f"there is no {qemu.BINARY}",
    }
    return {"vmm": policy.vmm, "vmm_obstacles": obstacles, "accelerator": accelerator}
