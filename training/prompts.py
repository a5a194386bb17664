"""The checkpoint's prompts as token ids, in the parts that training puts together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from training.glyphs import DIGITS
from training.labels import IGNORE
from training.questions import Question
from training.scene import COLORS, SHAPES
from training.words import CHAT_TEMPLATE, IMAGE_TOKEN, MAX_POSITIONS, MOST_DIGITS, single_token
from workers.llm.chat_template import ChatTemplate
from workers.llm.prompt import timestamp_text
from workers.llm.tokenizer import TokenizerFiles

Int64Array = NDArray[np.int64]
NUM_SIGNS = 2
"""Tokens that tell a time: whole seconds with the point, and tenths."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedTokens:
    """Questions with their answers: ids and labels (questions, length), padded at the end.

    A label is the id that should be *predicted at* that place: of the next token, within answers.
    ``named`` is true of the words in a question that name a colour or a kind.
    """

    ids: Int64Array
    labels: Int64Array
    named: NDArray[np.bool_]


class Prompts:
    """Prompts about pictures, cut into what is shared by all questions and each question."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        files = TokenizerFiles(
            location="training",
            backend=json.loads(tokenizer.backend_tokenizer.to_str()),
            additions=(),
            special_tokens=dict(tokenizer.special_tokens_map),
            config={},
        )
        self._tokenizer = tokenizer
        self._names = [single_token(tokenizer, word) for word in (*COLORS, *SHAPES)]
        self._template = ChatTemplate(
            "training",
            files,
            CHAT_TEMPLATE,
            image_token=IMAGE_TOKEN,
            context_length=MAX_POSITIONS,
        )

    def segments(self, num_frames: int, times: Sequence[float] | None) -> Int64Array:
        """Return the ids before every picture, (frames, length), -1 behind them.

        Args:
            num_frames: How many pictures there are.
            times: When they are shown, in seconds, for timestamps; None for none.
        """
        stamps = [timestamp_text(time) for time in times] if times else [""] * num_frames
        rows = self._template.build("?", stamps).frame_segments
        segments = np.full((num_frames, max(map(len, rows))), -1)
        for segment, row in zip(segments, rows, strict=True):
            segment[: len(row)] = row
        return segments

    def stamps(self, num_frames: int, times: Sequence[float] | None) -> Int64Array:
        """Return (frames, 2) the ids before and behind the point of every frame's time.

        ``IGNORE`` without timestamps.
        """
        if times is None:
            return np.full((num_frames, NUM_SIGNS), IGNORE)
        encode = self._tokenizer.encode
        return np.array([encode(f"{time:.1f}", add_special_tokens=False) for time in times])

    def signs(self, stamps: Int64Array) -> Int64Array:
        """Return (2, n) the ids of ``stamps`` and of all that differ from one of them by a digit.

        Of each kind, in order, ``IGNORE`` behind; nothing of stamps that are ``IGNORE``.
        """
        known = self._tokenizer.get_vocab()
        convert = self._tokenizer.convert_ids_to_tokens
        rows = []
        for column in stamps.T:
            texts = convert([int(sign) for sign in set(column) - {IGNORE}])
            rows.append(sorted({known[near] for text in texts for near in near_signs(text)}))
        signs = np.full((len(rows), max(map(len, rows))), IGNORE)
        for row, ids in zip(signs, rows, strict=True):
            row[: len(ids)] = ids
        return signs

    def question(self, text: str) -> list[int]:
        """Return the ids between the last picture and the answer."""
        return list(self._template.build(text, [""]).question)

    def ask(self, questions: list[Question]) -> AskedTokens:
        """Return the ids of questions with their answers."""
        # Few texts are asked many times over.
        asked = {text: self.question(text) for text in {each.text for each in questions}}
        rows = []
        for question in questions:
            answer = self._tokenizer.encode(f" {question.answer}", add_special_tokens=False)
            rows.append((asked[question.text], [*answer, self._tokenizer.eos_token_id]))
        length = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = np.full((len(rows), length), self._tokenizer.pad_token_id)
        labels = np.full((len(rows), length), IGNORE)
        named = np.zeros((len(rows), length), dtype=bool)
        for row, (prompt, answer) in enumerate(rows):
            ids[row, : len(prompt) + len(answer)] = prompt + answer
            labels[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = answer
            named[row, : len(prompt)] = np.isin(prompt, self._names)
        return AskedTokens(ids=ids, labels=labels, named=named)


@lru_cache(maxsize=1024)
def near_signs(sign: str) -> frozenset[str]:
    """Return what a time's sign becomes by another digit, and itself.

    Before a point a digit may also be gone from the front or have come there.
    """
    digits = sign.removesuffix(".")
    point = sign[len(digits) :]
    places = range(len(digits))
    near = {digits[:place] + new + digits[place + 1 :] for place in places for new in DIGITS}
    if point:
        near |= {digits[1:], *(new + digits for new in DIGITS)}
    longest = MOST_DIGITS if point else 1
    return frozenset(
        each + point
        for each in near
        if each and len(each) <= longest and (each == "0" or not each.startswith("0"))
    )


@lru_cache(maxsize=2)
def prompts_of(tokenizer: PreTrainedTokenizerFast) -> Prompts:
    """Return the prompts of a tokenizer, made once in each process."""
    return Prompts(tokenizer)
