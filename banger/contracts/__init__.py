"""What every side agrees on: names, sizes, requests, errors. Models and pure functions, no I/O.

This is the only part of banger that the root worker may import, and importing it loads
nothing but pydantic.
"""
