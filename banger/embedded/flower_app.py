"""The Celery app that Flower looks through: ``celery -A banger.embedded.flower_app flower``.

It has no tasks and ``unacked`` keys of its own, so that Flower never touches what a worker has taken.
"""

from __future__ import annotations

import os

from celery import Celery

from banger.contracts.redis_url import check_password
from banger.dispatch import celery_app
from banger.settings import load_settings


def __getattr__(name: str) -> Celery:
    if name in ("app", "celery"):
        check_password(
            os.environ.get("FLOWER_BASIC_AUTH", "").partition(":")[2], "Flower (FLOWER_BASIC_AUTH)"
        )
        app = celery_app("banger.flower", load_settings().redis())
        # It starts to listen with a broadcast to workers: its user may send that to nobody's exchange alone.
        app.conf.control_exchange = "flowernull"
        return app
    raise AttributeError(name)
