"""The tokens with which an answer that follows a JSON schema can go on, found by llguidance.

llguidance (MIT, https://github.com/guidance-ai/llguidance) makes a grammar of the schema and walks
the vocabulary with it. It is an optional dependency: importing this module needs it.
"""

import json
import secrets
from collections.abc import Collection

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from workers.arrays import Int64Array
from workers.errors import InputError, ModelError
from workers.llm.json_schema import read_schema
from workers.llm.spelling import Spelling
from workers.llm.tokenizer import read_tokenizer

_LIMITS = LLParserLimits(
    initial_lexer_fuel=100_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_items_in_row=2_000,
    max_lexer_states=50_000,
    max_grammar_size=500_000,
    verbose_errors=False,
)
"""Of these ``initial_lexer_fuel`` and ``max_lexer_states`` are below llguidance's own: a pattern
that counts in what it counts takes a fifth of the memory until it is given up (measured)."""
_FORM = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}
"""One form, that of ``json.dumps``: a model that likes blanks cannot go on with them for ever."""
_LONGEST_REASON = 300


def read_vocabulary(location: str, end_tokens: Collection[int]) -> LLTokenizer:
    """Return a checkpoint's vocabulary as llguidance takes it.

    Special tokens have names that nobody can guess, see :class:`workers.llm.spelling.Spelling`:
    where a schema spells one (``{"const": "</s>"}``) llguidance would otherwise take the token for
    the letters.

    Cost: O(size of ``tokenizer.json``), about a second for 128,000 tokens.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.
        end_tokens: token ids of which any ends an answer.

    Raises:
        ModelError: llguidance cannot use the tokenizer.
    """
    files = read_tokenizer(location)
    tokenizer = files.load(Spelling(files.control_tokens, secrets.token_hex(8)))
    try:
        return LLTokenizer(tokenizer.to_str(), eos_token=sorted(end_tokens) or None)
    except ValueError as error:
        raise ModelError(
            f"{location}: answers in the form of a schema cannot be had of this tokenizer "
            f"({one_line(str(error))})"
        ) from None


class Grammar:
    """A schema, and how far an answer has followed it. One for each answer.

    The answer is one line as ``json.dumps`` writes it, with or without a blank before it, as models
    put one before an answer. Where the schema leaves one text to go on with, that is tokenized as
    the tokenizer does it.

    Args:
        vocabulary: what :func:`read_vocabulary` returned; shared by any number of these.
        num_tokens: that the model has; its tokenizer may know of more or fewer.
        schema: the text of a JSON schema.

    Raises:
        InputError: the schema is beyond a limit, or has no grammar; names the keyword.
    """

    def __init__(self, vocabulary: LLTokenizer, num_tokens: int, schema: str) -> None:
        self._num_tokens = num_tokens
        ruled = {"name": "json", "json_schema": read_schema(schema) | {"x-guidance": _FORM}}
        grammars = json.dumps({"grammars": [{"lark_grammar": 'start: " "? @json'}, ruled]})
        self._matcher = LLMatcher(vocabulary, grammars, limits=_LIMITS, log_level=0)
        self._check()

    def next_tokens(self) -> Int64Array:
        """Return the tokens with which the answer can go on, ascending, at least one.

        Raises:
            InputError: the schema is too complex to be followed within llguidance's limits, or no
                text follows it.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        found = np.flatnonzero(np.unpackbits(bits, count=self._num_tokens, bitorder="little"))
        if not len(found):
            raise InputError("--json-schema: the model has no token with which to follow it")
        return found

    def take(self, token: int) -> bool:
        """Go on with one of the next tokens; returns whether the answer has ended."""
        self._matcher.consume_token(token)
        self._check()
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InputError(f"--json-schema: {one_line(self._matcher.get_error())}")


def one_line(text: str) -> str:
    """Return what llguidance says of a schema in one line, without what only its callers can do."""
    text = text.partition(". Enable ")[0].removesuffix("<non-verbose/>")
    return " ".join(text.split())[:_LONGEST_REASON]
