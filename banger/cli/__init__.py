"""What people type: a thin layer over ``banger.Farm`` that parses, prints and exits.

No module here imports what is slow to load (pydantic, redis, celery, rich) before a command needs it:
``banger --help`` and completion answer at once.
"""

from banger.cli.entry import main

__all__ = ["main"]
