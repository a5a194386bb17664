"""Which version this is."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """Return the version that is installed."""
    try:
        return installed("mr-stream")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"
