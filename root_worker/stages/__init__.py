"""The privileged stages, one file each: request in, policy asked again, do, undo."""
