"""``response_format``: the form of an answer as OpenAI's clients ask for it."""

import json
from collections.abc import Sequence
from typing import Any

from streaming.form import check_form
from streaming.serve.failures import RequestError, bad_request
from workers.errors import InputError
from workers.llm.answer import SamplingOptions
from workers.llm.json_schema import read_schema

_ANY_OBJECT = '{"type": "object"}'


def schema_of(response_format: Any) -> str | None:
    """Return the text of the JSON schema that an answer is to follow, None where it is free.

    Args:
        response_format: ``text``, ``json_object``, or ``json_schema`` with a schema.

    Raises:
        RequestError: it is another, or has no schema, or one beyond the limits.
    """
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return _ANY_OBJECT
    if kind != "json_schema":
        raise _refused("response_format must be of type text, json_object or json_schema")
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise _refused("response_format.json_schema.schema must be an object")
    text = json.dumps(schema)
    try:
        read_schema(text)
    except InputError as error:
        raise refused_schema(error) from None
    return text


def check_served_form(sampling: SamplingOptions, choices: Sequence[str]) -> None:
    """Refuse a schema that no answer can follow, before a clip is looked at.

    Raises:
        RequestError: says why.
    """
    try:
        check_form(sampling, choices)
    except InputError as error:
        raise refused_schema(error) from None


def refused_schema(error: InputError) -> RequestError:
    """Return what a client is told of its schema.

    That is all there is to say: it tells nothing but what the client has sent.
    """
    return _refused(str(error).replace("--json-schema", "response_format", 1))


def _refused(reason: str) -> RequestError:
    return bad_request(reason, "response_format")
