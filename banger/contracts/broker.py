"""How Celery is set up on every side. The reasons stand beside the values; pure data, no app here."""

from __future__ import annotations

from typing import Any, Literal

# Longer than any stage that is acknowledged late (wait_ready, 620 s): Redis redelivers what is
# unacknowledged for this long, and the shortest value of any app on the broker wins.
VISIBILITY_TIMEOUT_S = 700

Role = Literal["cli", "worker", "root", "flower"]


def celery_settings(role: Role) -> dict[str, Any]:
    """Return Celery's settings for a role; each role has ``unacked`` keys of its own."""
    return {
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
            "unacked_key": f"banger.unacked.{role}",
            "unacked_index_key": f"banger.unacked.{role}_index",
            "unacked_mutex_key": f"banger.unacked.{role}_mutex",
        },
        "task_create_missing_queues": True,
        "task_default_queue": "banger.control",
    }
