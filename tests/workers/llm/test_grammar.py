"""Which tokens may follow, held against every text that a schema has."""

import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer

from tests.workers.llm.tokenizer_kinds import KINDS, write_kind
from workers.checkpoint import EMBEDDED, locate
from workers.errors import InputError, ModelError
from workers.llm.grammar import Grammar, read_vocabulary
from workers.llm.tokenizer import read_tokenizer

END = 256
COLORS = ["x", "xy"]
TINY = {
    "type": "object",
    "properties": {"a": {"enum": COLORS}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


class Merged:
    """All bytes, an end, and some tokens across the borders of what a grammar is made of."""

    bos_token_id = None
    eos_token_id = END
    special_token_ids = (END,)
    merged = (b" {", b'{"', b' {"', b'": ', b'": "', b'"}', b'", "', b' "', b"xy", b'y"', b"tru")
    tokens = (*(bytes([value]) for value in range(256)), b"\xffend", *merged)

    def __call__(self, text: bytes) -> list[int]:
        ids: list[int] = []
        while text:
            begins = [token for token in self.tokens if text.startswith(token)]
            longest = max(begins, key=len)
            ids.append(self.tokens.index(longest))
            text = text[len(longest) :]
        return ids


def after(grammar: Grammar, ids: Sequence[int]) -> bool:
    """Take tokens, of which each must be allowed; return whether the answer has ended."""
    ended = False
    for token in ids:
        assert not ended
        assert token in grammar.next_tokens()
        ended = grammar.take(token)
    return ended


def test_the_tokens_that_may_follow_are_those_of_all_texts() -> None:
    """A choice is between all tokens of a vocabulary that begin a text; what is forced is one."""
    vocabulary, tokens = LLTokenizer(TokenizerWrapper(Merged())), Merged.tokens
    instances = [{"a": a, "b": b} for a, b in itertools.product(COLORS, [True, False])]
    texts = [blank + json.dumps(each) for blank in ("", " ") for each in instances]
    found, begun = [], [[]]
    while begun:
        ids = begun.pop()
        said = b"".join(tokens[token] for token in ids).decode()
        grammar = Grammar(vocabulary, len(tokens), json.dumps(TINY))
        if after(grammar, ids):
            found.append(said)
            continue
        rests = [text[len(said) :].encode() for text in texts if text.startswith(said)]
        expected = [n for n, t in enumerate(tokens) if any(rest.startswith(t) for rest in rests)]
        allowed = grammar.next_tokens().tolist()
        is_forced = len({rest[0] for rest in rests}) == 1
        assert allowed == expected or (is_forced and len(allowed) == 1 and allowed[0] in expected)
        begun += [[*ids, token] for token in allowed]
    assert set(found) == set(texts)


def test_a_model_with_fewer_or_more_tokens_than_its_tokenizer() -> None:
    vocabulary = LLTokenizer(TokenizerWrapper(Merged()))
    fewer, more = (Grammar(vocabulary, number, json.dumps(TINY)) for number in (256, 1000))
    assert fewer.next_tokens().tolist() == [ord(" "), ord("{")]
    assert max(more.next_tokens()) < len(Merged.tokens)
    with pytest.raises(InputError, match="the model has no token with which to follow it"):
        Grammar(vocabulary, 9, json.dumps(TINY)).next_tokens()


Make = Callable[[Any], Grammar]
Kind = tuple[Make, Tokenizer, set[int]]


def open_kind(folder: str, end: str) -> Kind:
    """Return what makes grammars of a checkpoint's tokenizer, it, and its control tokens."""
    files = read_tokenizer(folder)
    tokenizer = files.load()
    end_id = tokenizer.token_to_id(end)
    vocabulary = read_vocabulary(folder, [] if end_id is None else [end_id])
    size = tokenizer.get_vocab_size()
    control = {tokenizer.token_to_id(text) for text in files.control_tokens}
    return lambda schema: Grammar(vocabulary, size, json.dumps(schema)), tokenizer, control


@pytest.fixture(scope="module", params=sorted(KINDS.keys() - {"unigram"}))
def kind(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Kind:
    folder = write_kind(checkpoint, tmp_path_factory.mktemp("kind") / "x", request.param)
    return open_kind(str(folder), KINDS[request.param][2].get("eos_token", ""))


@pytest.fixture(scope="module")
def embedded() -> Kind:
    return open_kind(locate(EMBEDDED), "</s>")


def say(kind: Kind, schema: Any, seed: int, most: int = 400) -> tuple[str, list[set[int]]]:
    """Say what a model without any preference might, and return what could have been said."""
    make, tokenizer, _ = kind
    draw, grammar = random.Random(seed), make(schema)
    ids: list[int] = []
    allowed = []
    for _ in range(most):
        following = grammar.next_tokens().tolist()
        allowed.append(set(following))
        ids.append(draw.choice(following))
        if grammar.take(ids[-1]):
            return tokenizer.decode(ids), allowed
    raise AssertionError(f"no end after {most} tokens: {tokenizer.decode(ids)}")


SPELLED = "</s><s><unk><image><pad><|eot_id|><|im_end|><|end_of_text|><tool_call>"
SEEN = {
    "type": "object",
    "properties": {
        "spelled": {"const": f"naïve 猫 🙂 {SPELLED}"},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 2},
        "count": {"type": "integer", "minimum": -3, "maximum": 120},
        "share": {"type": ["number", "null"], "minimum": 0, "maximum": 1, "multipleOf": 0.25},
        "when": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"},
        "inner": {"$ref": "#/$defs/leaf"},
    },
    "required": ["spelled", "words", "count", "share", "when", "code", "inner"],
    "additionalProperties": False,
    "$defs": {
        "leaf": {
            "type": "object",
            "properties": {"</s>": {"anyOf": [{"type": "boolean"}, {"enum": ["<image>", 2]}]}},
            "required": ["</s>"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_tokenizer_says_instances_and_no_special_token(kind: Kind, seed: int) -> None:
    """Not even where the schema spells one: that gets the tokens of its letters."""
    text, allowed = say(kind, SEEN, seed)
    jsonschema.validate(json.loads(text), SEEN)
    assert not set().union(*allowed) & kind[2]


schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": "integer", "minimum": -9, "maximum": 99},
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "multipleOf": 0.5},
            {"type": "string", "maxLength": 3},
            {"type": "string", "pattern": "^[a-c]{1,2}$"},
            {"enum": ["é", 1, None, [True]]},
            {"const": {"a b": "</s>"}},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 2}, inner),
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
        st.dictionaries(st.sampled_from(["a", "b c", "é"]), inner, max_size=3).map(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": [*properties][:1],
                "additionalProperties": False,
            }
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None)
@given(schemas, st.integers(0, 999))
def test_whatever_is_said_is_an_instance(embedded: Kind, schema: Any, seed: int) -> None:
    text, allowed = say(embedded, schema, seed)
    jsonschema.validate(json.loads(text), schema)
    assert set().union(*allowed) & embedded[2] <= {2}  # the end, where a number may have ended


REFUSED: dict[str, tuple[Any, str]] = {
    "a keyword": ({"type": "array", "uniqueItems": True}, r'Unimplemented keys: \["uniqueItems"\]'),
    "another": ({"if": {}, "then": {}}, r'Unimplemented keys: \["if", "then"\]'),
    "a format": ({"type": "string", "format": "iri"}, "Unknown format: iri"),
    "a type": ({"type": "text"}, "Invalid type: text"),
    "one of": ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "oneOf constraints are not"),
    "a look ahead": ({"type": "string", "pattern": "(?=a)b"}, "look-around, .* is not supported"),
    "no such part": ({"$ref": "#/$defs/x"}, r"Pointer '/\$defs/x' does not exist"),
    "nothing": ({"enum": []}, "Unsatisfiable schema"),
    "nothing between": ({"type": "integer", "minimum": 2, "maximum": 1}, "Unsatisfiable schema"),
    "not a number": ({"type": "number", "maximum": float("nan")}, ""),
    "deep groups": ({"type": "string", "pattern": "(" * 900 + ")" * 900}, "regex parse error"),
    "its options": ({"not": {}, "x-guidance": {"lenient": True}}, r'Unimplemented keys: \["not"\]'),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_grammar_is_refused_in_a_line(embedded: Kind, reason: str) -> None:
    schema, words = REFUSED[reason]
    with pytest.raises(InputError, match=f"^--json-schema: .*{words}") as refused:
        embedded[0](schema)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 330


COMPLEX: dict[str, Any] = {
    "counts of counts": {"type": "string", "pattern": "^(a{1000}){1000}$"},
    "thousands of properties": {
        "type": "object",
        "properties": {f"p{number}": {"type": "null"} for number in range(1000)},
    },
}


@pytest.mark.parametrize("attack", COMPLEX)
def test_what_grows_too_complex_on_the_way_ends_in_a_line(embedded: Kind, attack: str) -> None:
    with pytest.raises(InputError, match=r"^--json-schema: .*(too many|max is)"):
        say(embedded, COMPLEX[attack], seed=0)


def test_a_vocabulary_that_cannot_be_read_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", "unigram")
    with pytest.raises(ModelError, match=r"cannot be had of this tokenizer \(.*decoder"):
        read_vocabulary(str(folder), [2])
