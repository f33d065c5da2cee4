"""Who asks Redis, and how Celery is set up on every side. The reasons stand beside the values; pure data.

A URL of Redis says who its holder is: each role has a user of its own there (``banger.redis_roles``), and
everything that must differ between users follows from the URL's.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from banger.contracts.redis_url import celery_url, check_redis_url, tls_options, user_of

# Longer than any stage that is acknowledged late (wait_ready, 620 s): Redis redelivers what is
# unacknowledged for this long, and the shortest value of any app on the broker wins.
VISIBILITY_TIMEOUT_S = 700

Role = Literal["cli", "worker", "root", "flower", "metrics", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
OF_A_HOST: tuple[Role, ...] = ("worker", "root")


def roles_here(*, own_redis: bool) -> tuple[Role, ...]:
    """Return the roles that a host has in Redis: another's Redis has an administrator of its own."""
    return tuple(role for role in ROLES if role != "admin" or own_redis)


def user_name(role: Role, host: str) -> str:
    """Return a role's user in Redis: one for the farm, or one for each host."""
    return f"{role}-{host}" if role in OF_A_HOST else role


def unacked_key(user: str) -> str:
    """Return the key of what a user has taken and not acknowledged; its index and mutex have suffixes."""
    return f"banger.unacked.{user}"


def celery_settings(url: str) -> dict[str, Any]:
    """Return Celery's settings for the holder of this URL; each user has ``unacked`` keys of its own.

    InvalidInputError where the URL is unsafe (``check_redis_url``).
    """
    from banger.contracts import transport  # kombu is slow to load, and only who makes an app needs it

    transport.take_the_place_of_kombus()
    unacked, tls = unacked_key(user_of(check_redis_url(url))), tls_options(url)
    return {
        "broker_url": celery_url(url),
        "broker_use_ssl": tls,
        "redis_backend_use_ssl": tls,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_serializer": "json",
        "task_ignore_result": True,  # outcomes come from the record and its events
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,  # the control channel is unauthenticated
        "worker_send_task_events": True,
        "task_send_sent_event": False,  # would label metrics with every CLI process
        "worker_hijack_root_logger": False,
        "worker_proc_alive_timeout": 30,
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": 2,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "priority_steps": [0],
            "sep": ":",
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_key": unacked,
            "unacked_index_key": f"{unacked}_index",
            "unacked_mutex_key": f"{unacked}_mutex",
            "unacked_mutex_expire": 30,  # else one who dies while restoring is waited for
        },
        "task_create_missing_queues": True,
        "task_default_queue": "banger.control",
    }
