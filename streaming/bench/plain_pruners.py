"""The methods as their papers write them down."""

from collections.abc import Callable, Mapping
from typing import Any

PLAIN: Mapping[str, Callable[..., Any]] = {}
