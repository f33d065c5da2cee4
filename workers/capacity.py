"""What this host has to give: memory, vCPUs, disk, images."""

from __future__ import annotations

import os
import shutil

import psutil

from banger.hosts import VCPUS_A_CORE, HostImage, HostInfo
from banger.images.catalogue import Catalogue
from banger.settings import Settings

_MIB = 1024 * 1024
_HOST_RESERVE_MIB = 1024  # for the host itself and the farm
_SHORT_THREADS = 24  # kept free of waits and commands, so that short stages are never behind them
_KEPT_THREADS = 8  # of those for long ones: for VMs that belong to no batch


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
    )
