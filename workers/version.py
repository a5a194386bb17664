"""Which version of this project is installed."""

from functools import cache


@cache
def package_version() -> str:
    """Return the version, ``unknown`` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mr-stream")
    except PackageNotFoundError:
        return "unknown"
