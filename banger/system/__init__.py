"""A host's farm under systemd: installed, looked at, restarted, and taken away without a trace.

``control`` is what the CLI calls. What an installation consists of is decided first (``planning``, ``units``,
``hardening``: pure, a list of values that can be printed), then carried out (``installing``, ``applying``).
``manifest`` remembers what was made here, so that ``uninstalling`` removes nothing else, and ``drift`` says
what has become of it.
"""
