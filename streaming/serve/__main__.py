"""Runs ``python -m streaming.serve``."""

from streaming.command import leave
from streaming.serve.command import main

if __name__ == "__main__":
    leave(main())
