"""The unprivileged Celery app: stages that need no privilege, unwinding, control."""
