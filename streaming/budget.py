"""How many tokens a clip may have beside its text, and how many frames that pays for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pruner import METHODS
from streaming.options import Options
from streaming.sample import SampledClip
from workers.arrays import Int64Array
from workers.errors import ContextError, InputError
from workers.llm.backends import backend_of
from workers.llm.chat_template import ChatTemplate
from workers.llm.prompt import timestamp_text
from workers.video.sampling import thin_frames

DEFAULT_BUDGET = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCost:
    """Tokens that a prompt needs beside the visual ones, and what the model has room for.

    ``text`` is for ``question``, the longest, without any frame, and ``answer`` the most that its
    answer takes; each frame adds at most ``separator`` tokens of the chat template and
    ``timestamp`` of its time.
    """

    context: int
    question: str
    text: int
    answer: int
    separator: int
    timestamp: int


def count_prompt(
    sampled: SampledClip, options: Options, questions: Sequence[str], choices: Sequence[str]
) -> PromptCost:
    """Count what the longest of some questions costs with its choices, and each frame's text."""
    template = sampled.checkpoint.template
    prompts = {text: template.build(text, [""], choices) for text in questions}
    longest = max(prompts, key=lambda text: prompts[text].num_text_tokens)
    separator = count_separator(template)
    timestamps = []
    if options.budget.timestamps:
        times = sampled.source.pts_seconds(sampled.frame_indices)
        timestamps = [timestamp_text(t) for t in times.tolist()]
    return PromptCost(
        context=template.context_length,
        question=longest,
        text=prompts[longest].num_text_tokens - separator,
        answer=prompts[longest].num_answer_tokens(options.generation.max_new_tokens),
        separator=separator,
        timestamp=max(count_timestamps(template, timestamps), default=0),
    )


def settle_budget(
    sampled: SampledClip, options: Options, cost: PromptCost
) -> tuple[Int64Array, int]:
    """Return the budget, and the places of the frames for which it pays a token and a timestamp."""
    wanted, mark = options.budget, cost.timestamp
    places = np.arange(len(sampled.frame_indices))
    total = int(sampled.lengths.sum())
    if options.pruning.pruner == "none":
        budget = total + mark * len(places)
    elif wanted.keep_ratio is not None:
        budget = _floor(wanted.keep_ratio * total) + mark * len(places)
    elif wanted.budget is not None:
        budget = wanted.budget
    else:
        room = cost.context - cost.text - cost.answer
        least = 1 + cost.separator + mark
        places = thin_frames(places, _num_paid(room // least, room, cost, options))
        budget = min(DEFAULT_BUDGET, room - cost.separator * len(places))
    return thin_frames(places, _num_paid(budget // (1 + mark), budget, cost, options)), budget


def count_entering(
    options: Options, cost: PromptCost, lengths: Int64Array, budget: int, compact: bool
) -> int:
    """Return the most visual and timestamp tokens that enter the language model's first layers.

    More than the budget where it is pruned inside: all, or with ``--question-aware`` ``headroom``
    budgets, as far as the context holds that many beside the longest question.
    """
    if METHODS[options.pruning.pruner].enters_unpruned:
        return int(lengths.sum()) + cost.timestamp * len(lengths)
    if not options.budget.question_aware:
        return budget
    entering = math.floor(options.budget.headroom * budget)
    room = cost.context - cost.text - cost.answer - cost.separator * len(lengths)
    return max(budget, min(entering, room)) if compact else entering


def _floor(value: float) -> int:
    """Round down, but take 0.29 * 100 for 29; at least 1."""
    return max(1, math.floor(round(value, 6)))


def _num_paid(num_frames: int, tokens: int, cost: PromptCost, options: Options) -> int:
    if num_frames >= 1:
        return num_frames
    if tokens == options.budget.budget:
        raise InputError(
            f"--budget {tokens} does not pay for one frame and its timestamp of {cost.timestamp} "
            "tokens: raise it"
        )
    raise ContextError(
        f"the question takes {cost.text} tokens and the answer up to {cost.answer}, which leaves "
        f"no room for a frame in the model's context of {cost.context}: shorten the question or "
        "lower --max-new-tokens"
    )


def are_compact(options: Options, cost: PromptCost, lengths: Int64Array) -> bool:
    """Return whether positions are numbered without gaps: where asked for, or where they must be.

    Raises:
        ContextError: original positions are asked for and leave the context.
    """
    between = (cost.separator + cost.timestamp) * len(lengths)
    last = cost.text + int(lengths.sum()) + between + cost.answer
    fits = last <= cost.context
    if options.budget.position_ids == "original" and not fits:
        step = int(lengths.max()) + cost.separator + cost.timestamp
        room = cost.context - cost.answer - cost.text
        raise ContextError(
            f"--position-ids original numbers the unpruned sequence up to {last}, but the model's "
            f"context holds {cost.context}: use --position-ids auto, or lower --num-frames to at "
            f"most {max(0, room // step)}"
        )
    keeps_places = backend_of(options.model).positions
    return options.budget.position_ids == "compact" or not (fits and keeps_places)


def count_separator(template: ChatTemplate) -> int:
    """Return how many tokens the template puts between two frames."""
    return len(template.build("?", ["", ""]).frame_segments[1])


def count_timestamps(template: ChatTemplate, timestamps: Sequence[str]) -> tuple[int, ...]:
    """Return how many tokens each frame's timestamp adds to the prompt."""
    marked = template.build("?", timestamps).frame_segments
    plain = template.build("?", [""] * len(timestamps)).frame_segments
    return tuple(len(a) - len(b) for a, b in zip(marked, plain, strict=True))


def count_first_timestamps(template: ChatTemplate, timestamps: Sequence[str]) -> tuple[int, ...]:
    """Return how many tokens each frame's timestamp adds to the prompt where that frame is first.

    Cost: a prompt of one frame for each that is not among the last ones counted, some tenths of a
    millisecond.
    """
    plain = _count_opening(template, "")
    return tuple(_count_opening(template, text) - plain for text in timestamps)


@lru_cache(maxsize=16_384)
def _count_opening(template: ChatTemplate, timestamp: str) -> int:
    """Return how many tokens stand before the first frame; times come again in other clips."""
    return len(template.build("?", [timestamp]).frame_segments[0])
