"""Runs ``python -m streaming.batch``."""

from streaming.batch.command import main
from streaming.command import leave

if __name__ == "__main__":
    leave(main())
