"""The VMM driver: QEMU's command line, the jail it lives in, and the shim that outlives the worker."""
