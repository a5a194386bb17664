"""The prompt of the checkpoint's own chat template as token ids, in its parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from training.labels import IGNORE
from training.questions import Question

Int64Array = NDArray[np.int64]
OPENING = "USER: "
BETWEEN = "\n"
REQUEST = " ASSISTANT:"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedTokens:
    """Questions with their answers: ids and labels (questions, length), padded at the end.

    A label is the id that should be *predicted at* that place: of the next token, within answers.
    """

    ids: Int64Array
    labels: Int64Array


def opening_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the ids before the first picture."""
    return [tokenizer.bos_token_id, *tokenizer.encode(OPENING, add_special_tokens=False)]


def between_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the ids after each picture."""
    return list(tokenizer.encode(BETWEEN, add_special_tokens=False))


def ask(
    tokenizer: PreTrainedTokenizerFast, questions: list[Question], num_questions: int
) -> AskedTokens:
    """Return the ids of ``questions``, and of nothing up to ``num_questions``."""
    rows = []
    for question in questions:
        prompt = tokenizer.encode(question.text + REQUEST, add_special_tokens=False)
        answer = tokenizer.encode(f" {question.answer}", add_special_tokens=False)
        rows.append((prompt, [*answer, tokenizer.eos_token_id]))
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = np.full((num_questions, length), tokenizer.pad_token_id)
    labels = np.full((num_questions, length), IGNORE)
    for row, (prompt, answer) in enumerate(rows):
        ids[row, : len(prompt) + len(answer)] = prompt + answer
        labels[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = answer
    return AskedTokens(ids=ids, labels=labels)
