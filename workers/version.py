"""Which version of this project is installed, and of what adds to it."""

from functools import cache


@cache
def package_version() -> str:
    """Return the version, ``unknown`` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mr-stream")
    except PackageNotFoundError:
        return "unknown"


def version_with(method: str) -> str:
    """Return the version, and that of the distribution which adds a method, if one does."""
    from pruner import METHODS

    origin = METHODS[method].origin
    return f"{package_version()} with {origin}" if origin else package_version()
