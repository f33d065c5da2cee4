"""What the guest gets: files and mounts, decided here by pure functions, written by root."""
