"""Runs ``python -m streaming.bench``."""

from streaming.bench.command import main
from streaming.command import leave

if __name__ == "__main__":
    leave(main())
