"""The unprivileged stages, one file each: request in, do, undo."""
