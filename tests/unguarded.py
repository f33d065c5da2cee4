"""A guests' network without its guard, so that an attack can be seen to work before it is seen to fail."""

from __future__ import annotations

import subprocess

from farm_box import answer
from pyroute2 import IPRoute

from banger.contracts.guest_filter import base_removal, script
from banger.contracts.names import tap_name


def lift_the_guard(*vm_ids: str) -> None:
    """Leave a plain bridge with plain taps, and the host with its addresses and its routing."""
    subprocess.run(["nft", "-f", "-"], input=script(base_removal()), check=True)
    plain = {"isolated": 0, "learning": 1, "unicast_flood": 1, "mcast_flood": 1, "group_fwd_mask": 0}
    with IPRoute() as ip:
        for vm_id in vm_ids:
            (index,) = ip.link_lookup(ifname=tap_name(vm_id))
            ip.brport("set", index=index, **plain)
            for entry in answer("bridge", "-j", "fdb", "show", "brport", tap_name(vm_id)):
                if "master" in entry and entry["mac"].startswith("02:fc:"):  # the bridge will learn it
                    own = ("bridge", "fdb", "del", entry["mac"], "dev", tap_name(vm_id), "master")
                    subprocess.run(own, check=True)
