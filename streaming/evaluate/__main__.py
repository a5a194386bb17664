"""Runs ``python -m streaming.evaluate``."""

from streaming.command import leave
from streaming.evaluate.command import main

if __name__ == "__main__":
    leave(main())
