"""What is taken of a schema before anything is made of it."""

import json

import pytest

from workers.errors import InputError
from workers.llm.json_schema import MOST_BYTES, MOST_DEPTH, read_schema


def nested(levels: int) -> str:
    return '{"items": ' * (levels - 1) + "{}" + "}" * (levels - 1)


def padded(num_bytes: int) -> str:
    return json.dumps({"title": "x" * (num_bytes - len('{"title": ""}'))})


def test_a_schema_is_taken_up_to_the_limits() -> None:
    assert json.dumps(read_schema(nested(MOST_DEPTH))) == nested(MOST_DEPTH)
    assert len(padded(MOST_BYTES)) == MOST_BYTES
    assert read_schema(padded(MOST_BYTES)).keys() == {"title"}
    assert read_schema('{"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#"}}}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a JSON object"),
        ("seen.json", r'give the schema itself, .*"\$\(cat FILE\)"'),
        ("[]", "not a JSON object"),
        ("true", "not a JSON object"),
        ('{"title": "\ud800"}', "not a JSON object"),
        ("[" * MOST_BYTES, "not a JSON object"),
        ('{"maximum": ' + "9" * 9999 + "}", "not a JSON object"),
        (padded(MOST_BYTES + 1), "may take 65,536 bytes"),
        ('"' + "é" * (MOST_BYTES // 2) + '"', "may take 65,536 bytes"),
        (nested(MOST_DEPTH + 1), "may be 64 levels deep"),
        ('{"items": [{"$ref": "http://127.0.0.1/x"}]}', r"\$ref 'http://127.0.0.1/x' leads out"),
        ('{"$ref": "file:///etc/passwd"}', "leads out of the schema"),
        ('{"$id": "http://a/b", "$ref": "c"}', "leads out of the schema"),
    ],
)
def test_what_is_beyond_them_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^--json-schema: .*{words}"):
        read_schema(text)
