"""The lab: a Debian VM as the host, with systemd, device-mapper and KVM, made and booted by the tests.

A package, unlike the tests' other rooms: its files are named after what they prove (``test_dm_snapshot.py``),
and so are others' elsewhere. What a test of the lab needs is the fixture ``lab`` (see ``machine.Machine``).
"""
