"""VMMs: a driver for each, the jails they live in, their limits, and how their processes are known."""
