"""The checkpoint's prompts as token ids, in the parts that training puts together."""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from training.labels import IGNORE
from training.questions import Question
from training.words import CHAT_TEMPLATE, IMAGE_TOKEN, MAX_POSITIONS
from workers.llm.prompt import ChatTemplate
from workers.llm.tokenizer import TokenizerFiles

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedTokens:
    """Questions with their answers: ids and labels (questions, length), padded at the end.

    A label is the id that should be *predicted at* that place: of the next token, within answers.
    """

    ids: Int64Array
    labels: Int64Array


class Prompts:
    """Prompts about pictures, cut into what is shared by all questions and each question.

    Attributes:
        opening: ids before the first picture.
        between: ids after each picture.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        files = TokenizerFiles(
            location="training",
            backend=json.loads(tokenizer.backend_tokenizer.to_str()),
            additions=(),
            special_tokens=dict(tokenizer.special_tokens_map),
            config={},
        )
        self._tokenizer = tokenizer
        self._template = ChatTemplate(
            "training",
            files,
            CHAT_TEMPLATE,
            image_token=IMAGE_TOKEN,
            context_length=MAX_POSITIONS,
        )
        opening, between = self._template.build("?", ["", ""]).frame_segments
        self.opening, self.between = list(opening), list(between)

    def question(self, text: str) -> list[int]:
        """Return the ids between the last picture's and the answer's."""
        ids = list(self._template.build(text, [""]).question)
        start = len(self.between)
        if ids[:start] != self.between:
            raise ValueError(f"the question runs into what is before it: {text = } {ids = }")
        return ids[start:]

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
        for row, (prompt, answer) in enumerate(rows):
            ids[row, : len(prompt) + len(answer)] = prompt + answer
            labels[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = answer
        return AskedTokens(ids=ids, labels=labels)


@lru_cache(maxsize=2)
def prompts_of(tokenizer: PreTrainedTokenizerFast) -> Prompts:
    """Return the prompts of a tokenizer, made once in each process."""
    return Prompts(tokenizer)
