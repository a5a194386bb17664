"""Answers in a given form: schemas of which every instance can be listed, as choices.

An answer is decoded over the tokens of listed texts (:mod:`workers.llm.choosing`), so it is one of
them whatever the model would rather say. A schema with endless instances, such as any string, is
refused rather than asked for in words.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from streaming.serve.failures import RequestError, bad_request

MOST_CHOICES = 256
_ABOUT = ("title", "description", "$schema", "default", "examples")
_TAKEN = (
    "a schema is taken of which the instances can be listed: enum, const, boolean, null, integer "
    "with minimum and maximum, and objects of those in which all properties are required"
)


def choices_of(response_format: Any) -> tuple[str, ...]:
    """Return the texts of which an answer must be one, none where it is free.

    Args:
        response_format: OpenAI's parameter: ``text``, or ``json_schema`` with such a schema.

    Raises:
        RequestError: it is another, or the schema has too many instances.
    """
    if response_format is None:
        return ()
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return ()
    if kind != "json_schema":
        raise _refused("response_format must be of type text or json_schema")
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    instances = _few(schema)
    if len(instances) < 2:
        raise _refused("the schema leaves nothing to choose")
    return tuple(dict.fromkeys(json.dumps(each, ensure_ascii=False) for each in instances))


def _instances(schema: Any) -> Iterator[Any]:
    if not isinstance(schema, dict):
        raise _refused("response_format.json_schema.schema must be an object")
    rules = {name: rule for name, rule in schema.items() if name not in _ABOUT}
    kind = rules.pop("type", None)
    if set(rules) <= {"enum", "const"} and rules:
        yield from _listed(rules, kind)
    elif kind == "boolean" and not rules:
        yield from (True, False)
    elif kind == "null" and not rules:
        yield None
    elif kind == "integer" and set(rules) == {"minimum", "maximum"}:
        yield from _integers(rules)
    elif kind == "object":
        yield from _objects(rules)
    else:
        raise _refused(_TAKEN)


def _listed(rules: Mapping[str, Any], kind: Any) -> Iterator[Any]:
    values = rules.get("enum", [rules.get("const")])
    if len(rules) != 1 or not isinstance(values, list) or not isinstance(kind, str | None):
        raise _refused(_TAKEN)
    yield from values


def _integers(rules: Mapping[str, Any]) -> Iterator[int]:
    low, high = rules["minimum"], rules["maximum"]
    if type(low) is not int or type(high) is not int:
        raise _refused(_TAKEN)
    yield from range(low, high + 1)


def _objects(rules: Mapping[str, Any]) -> Iterator[Any]:
    properties, required = rules.get("properties"), rules.get("required")
    if (
        set(rules) - {"properties", "required", "additionalProperties"}
        or not isinstance(properties, dict)
        or not isinstance(required, list)
        or set(properties) != set(map(str, required))
    ):
        raise _refused(_TAKEN)
    each = [_few(schema) for schema in properties.values()]
    _check_number(math.prod(map(len, each)))
    for values in product(*each):
        yield dict(zip(properties, values, strict=True))


def _few(schema: Any) -> Sequence[Any]:
    """Return the instances, if they are not too many, which is found out without listing them."""
    instances = list(islice(_instances(schema), MOST_CHOICES + 1))
    _check_number(len(instances))
    return instances


def _check_number(number: int) -> None:
    if number > MOST_CHOICES:
        raise _refused(f"the schema has more than {MOST_CHOICES} instances")


def _refused(reason: str) -> RequestError:
    return bad_request(reason, "response_format")
