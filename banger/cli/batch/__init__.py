"""``banger batch``: one plan, many VMs, one verdict. A file a command, and what they share."""
