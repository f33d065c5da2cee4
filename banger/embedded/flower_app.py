"""The Celery app that Flower looks through: ``celery -A banger.embedded.flower_app flower``.

It has no tasks and ``unacked`` keys of its own, so that Flower never touches what a worker has taken.
"""

from __future__ import annotations

from celery import Celery

from banger.dispatch import celery_app
from banger.settings import load_settings


def __getattr__(name: str) -> Celery:
    if name in ("app", "celery"):
        return celery_app("banger.flower", load_settings().redis())
    raise AttributeError(name)
