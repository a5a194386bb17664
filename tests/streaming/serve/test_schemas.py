"""Schemas of which every instance can be listed."""

import json
from typing import Any

import pytest

from streaming.serve.failures import RequestError
from streaming.serve.schemas import choices_of


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def made_of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], **more}


INSTANCES: list[tuple[Any, list[Any]]] = [
    ({"enum": ["a", 2, None]}, ["a", 2, None]),
    ({"type": "boolean", "title": "Seen"}, [True, False]),
    ({"type": "integer", "minimum": -1, "maximum": 1}, [-1, 0, 1]),
    (
        made_of({"x": {"const": "é"}, "y": made_of({"z": {"type": "boolean"}})}),
        [{"x": "é", "y": {"z": True}}, {"x": "é", "y": {"z": False}}],
    ),
]


@pytest.mark.parametrize(("schema", "instances"), INSTANCES)
def test_every_instance_is_a_choice(schema: Any, instances: list[Any]) -> None:
    assert [json.loads(choice) for choice in choices_of(form(schema))] == instances


@pytest.mark.parametrize("free", [None, {"type": "text"}])
def test_an_answer_may_be_free(free: Any) -> None:
    assert choices_of(free) == ()


NESTED: Any = {"type": "boolean"}
for _ in range(20):
    NESTED = made_of({"a": NESTED, "b": NESTED})


@pytest.mark.parametrize(
    ("response_format", "words"),
    [
        ({"type": "json_object"}, "of type text or json_schema"),
        ("json", "of type text or json_schema"),
        (form(None), "must be an object"),
        (form({"type": "string"}), "a schema is taken of which"),
        (form({"type": "string", "pattern": "(a+)+$"}), "a schema is taken of which"),
        (form({"$ref": "#"}), "a schema is taken of which"),
        (form({"type": "integer", "minimum": 0, "maximum": 1.5}), "a schema is taken of which"),
        (form({"type": "integer", "minimum": 0, "maximum": 10**30}), "more than 256"),
        (form({"type": "object", "properties": {"x": {"type": "boolean"}}}), "a schema is taken"),
        (form({"const": 1}), "nothing to choose"),
        (form(NESTED), "more than 256"),
    ],
)
def test_a_schema_with_endless_instances_is_refused(response_format: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        choices_of(response_format)
