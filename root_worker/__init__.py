"""The root Celery app. Everything in here runs as root: read it in one sitting."""
