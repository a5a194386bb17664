"""Runs ``python -m streaming.watch``."""

from streaming.command import leave
from streaming.watch.command import main

if __name__ == "__main__":
    leave(main())
