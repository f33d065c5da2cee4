"""Kernel effects, one a file, each under a stage of ``root_worker.stages``."""
