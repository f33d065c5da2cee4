"""The VMM's keeper, which runs in the VMM's own root directory: standard library only, imported by nobody."""
