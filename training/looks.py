"""Where in a clip the answer to a question is to be found: what training guides attention to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.draw import FIRST_ID, SECOND_ID
from training.labels import IGNORE, Int64Array
from training.questions import TIMED, Question
from training.scene import Clip

WRITTEN = ("number", "code", "first", "last")
"""Types whose answer is written in the picture."""
NAMED = ("color", "shape", "side", "height", "motion", "when", "order")
"""Types whose answer is that of one shape, seen wherever the shape is."""


def reads_of(question: Question, clip: Clip, moments: Sequence[float]) -> NDArray[np.bool_]:
    """Return (frames) whether an answer that is looked up is to be found there, of all else False.

    What is written is read, and a shape seen, wherever it stands; the way it moves wherever that
    can be known, in all frames that show it but the first; which came first from where that is seen
    first to where it is gone, a time where the shape is seen first, or last.
    """
    found = np.zeros(len(moments), dtype=bool)
    if question.type not in (*WRITTEN, *NAMED, *TIMED):
        return found
    shown = np.array([clip.scenes[question.scene].shows(moment) for moment in moments])
    if question.type == "motion":
        return shown & (np.cumsum(shown) > 1)
    if question.type == "order":
        has_been = np.maximum.accumulate(shown)
        return shown & ~np.maximum.accumulate(has_been & ~shown)
    if question.type not in TIMED:
        return shown
    found[np.flatnonzero(shown)[0 if question.type == "appear" else -1]] = True
    return found


def sought_in(question: Question, labels: Int64Array) -> Int64Array:
    """Return (length) the item in which each token of the answer is found, ``IGNORE`` if in none.

    Args:
        question: What is asked.
        labels: Of the prompt with its answer, as ``Prompts.ask`` gives them; the last known one is
            the end of the answer.
    """
    sought = np.full_like(labels, IGNORE)
    answer = np.flatnonzero(labels != IGNORE)[:-1]
    if question.type in WRITTEN:
        sought[answer[:-1]], sought[answer[-1]] = FIRST_ID, SECOND_ID
    elif question.type in (*NAMED, *TIMED):
        sought[answer] = IGNORE if question.item is None else question.item
    return sought


def seen_in(
    question: Question, clip: Clip, moments: Sequence[float], times: Sequence[float]
) -> Question:
    """Return a question whose time is that of the sampled frame which tells it.

    Args:
        question: Of any type; others than times are returned as they are.
        clip: What is shown.
        moments: Of the sampled frames.
        times: The same in seconds, as the prompt tells them.
    """
    if question.type not in TIMED:
        return question
    shown = [
        time
        for moment, time in zip(moments, times, strict=True)
        if clip.scenes[question.scene].shows(moment)
    ]
    return replace(question, answer=f"{shown[0 if question.type == 'appear' else -1]:.1f}")
