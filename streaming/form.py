"""What the form of an answer may be, refused before any worker is asked."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workers.errors import InputError
from workers.llm.answer import SamplingOptions
from workers.llm.json_schema import read_schema
from workers.llm.schema_trial import try_schema

_ANY_OBJECT = '{"type": "object"}'


def check_form(sampling: SamplingOptions, choices: Sequence[str]) -> None:
    """Refuse a schema beside choices, and one that no answer can follow.

    Raises:
        InputError: says which; see :func:`workers.llm.schema_trial.try_schema`.
    """
    if sampling.json_schema is None:
        return
    if choices:
        raise InputError("choices and --json-schema both say what an answer may be: give one")
    try_schema(sampling.json_schema)


def schema_of(response_format: Any) -> str | None:
    """Return the text of the JSON schema that an answer is to follow, None where it is free.

    Args:
        response_format: as OpenAI's clients give it: ``text``, ``json_object``, or ``json_schema``
            with a schema.

    Raises:
        InputError: it is another, or has no schema, or one beyond the limits.
    """
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return _ANY_OBJECT
    if kind != "json_schema":
        raise InputError("response_format must be of type text, json_object or json_schema")
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise InputError("response_format.json_schema.schema must be an object")
    text = json.dumps(schema)
    with named_response_format():
        read_schema(text)
    return text


@contextmanager
def named_response_format() -> Iterator[None]:
    """Have what is wrong with a schema name the field in which it was given."""
    try:
        yield
    except InputError as error:
        text = str(error).replace("--json-schema", "response_format", 1)
        raise InputError(text) from None
