"""A JSON schema that an answer is to follow: what is taken of one, before anything is made of it.

It travels as its text, so nothing here needs more than the standard library.
"""

import json
from collections.abc import Iterator
from typing import Any

from workers.errors import InputError

MOST_BYTES = 65_536
MOST_DEPTH = 64
"""Objects and arrays in one another."""


def read_schema(text: str) -> dict[str, Any]:
    """Return a schema, within the limits of this module.

    Raises:
        InputError: it is no JSON object, too large or too deep, or refers to something outside.
    """
    try:
        if len(text.encode()) > MOST_BYTES:
            raise InputError(f"--json-schema: a schema may take {MOST_BYTES:,} bytes: shorten it")
        schema = json.loads(text)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise InputError(
            "--json-schema: not a JSON object: give the schema itself, for example as "
            '--json-schema "$(cat FILE)"'
        )
    _check_depth(schema)
    return schema


def _check_depth(schema: dict[str, Any]) -> None:
    layer: list[Any] = [schema]
    for _ in range(MOST_DEPTH):
        for each in layer:
            _check_reference(each)
        layer = [child for each in layer for child in _children(each)]
        if not layer:
            return
    raise InputError(f"--json-schema: a schema may be {MOST_DEPTH} levels deep: flatten it")


def _check_reference(value: Any) -> None:
    target = value.get("$ref") if isinstance(value, dict) else None
    if isinstance(target, str) and not target.startswith("#"):
        raise InputError(
            f"--json-schema: $ref {target[:80]!r} leads out of the schema: put what it names into "
            "$defs"
        )


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
