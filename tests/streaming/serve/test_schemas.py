"""``response_format``, as it may be given."""

import json
from typing import Any

import pytest

from streaming.serve.failures import RequestError
from streaming.serve.schemas import requested_schema


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        (form({"const": "\ud800"}), {"const": "\ud800"}),
    ],
)
def test_the_schema_is_taken_as_it_is(response_format: Any, schema: Any) -> None:
    text = requested_schema(response_format)
    assert (None if text is None else json.loads(text)) == schema


@pytest.mark.parametrize(
    ("response_format", "words"),
    [
        ("json", "of type text, json_object or json_schema"),
        ({"type": "xml"}, "of type text, json_object or json_schema"),
        ({"type": "json_schema"}, "must be an object"),
        (form(None), "must be an object"),
        (form([]), "must be an object"),
        (form({"title": "x" * 70_000}), "^response_format: a schema may take 65,536 bytes"),
        (form({"$ref": "/etc/passwd"}), r"^response_format: \$ref '/etc/passwd' leads out"),
    ],
)
def test_what_is_no_schema_is_refused(response_format: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        requested_schema(response_format)
    assert (refused.value.status, refused.value.param) == (400, "response_format")
