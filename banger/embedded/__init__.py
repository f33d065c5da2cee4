"""An embedded farm on one machine: Redis, both workers, Flower and a name server, supervised.

``control`` is what the CLI calls. It prepares the machine (``layout``, ``credentials``, ``redis``), decides
what runs (``services``, ``view``: pure) and hands that plan to ``supervisor``, a daemon that knows
nothing else.
"""
