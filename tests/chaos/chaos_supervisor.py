"""The farm's own supervisor, to whom every death of a service is a first one.

What dies again and again is started after a delay that grows to half a minute. Here it dies because we kill
it, every few seconds: with that delay we would measure how often we do. All else is as it is.
"""

from __future__ import annotations

from banger.embedded import child, supervisor

if __name__ == "__main__":
    child.STEADY_S = 0.0
    supervisor.main()
