"""Schemas that would take a worker down with them, tried where they cannot."""

import json
import socket
from typing import Any

import pytest

from workers.errors import InputError
from workers.llm import schema_trial
from workers.llm.schema_trial import try_schema

SCHEMA = {"type": "object", "properties": {"seen": {"type": "boolean"}}}


def containing(text: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f".*{text}.*"}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_trial, "_CPU_SECONDS", 1)


def test_a_schema_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    try_schema(json.dumps(SCHEMA))
    monkeypatch.setattr(schema_trial, "subprocess", None)
    try_schema(json.dumps(SCHEMA))


BLOWN_UP = {
    "patterns in one another": {"allOf": [containing(letter) for letter in "abcdefghijklmnopqrst"]},
    "a large multipleOf": {"type": "integer", "multipleOf": 1_000_003},
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("attack", BLOWN_UP)
def test_what_takes_too_much_is_ended_and_refused(attack: str) -> None:
    with pytest.raises(InputError, match="takes more than 1 s or 1 GiB to make: simplify"):
        try_schema(json.dumps(BLOWN_UP[attack]))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#"}, "NoExtension"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, r'Unimplemented keys: \["not"\]$'),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_keyword(schema: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"^--json-schema: .*{words}"):
        try_schema(json.dumps(schema))


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/s"
        for schema in ({"$schema": url}, {"$id": url, "$ref": "#/$defs/x"}, {"$dynamicRef": url}):
            with pytest.raises(InputError, match=r"^--json-schema: "):
                try_schema(json.dumps(schema))
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_trial, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs llguidance: pip install 'mr-stream\[schemas\]'"):
        try_schema('{"title": "never tried before"}')
