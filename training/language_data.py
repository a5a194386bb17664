"""Batches of clips with questions for the language stage; each a pure function of its number."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from training.canvas import ASPECTS, geometry_of
from training.compose import LONGEST_SECONDS, Recipe, compose_clip, draw_duration, most_shapes
from training.curriculum import Curriculum
from training.degrade import degrade
from training.draw import frame_moments, frames_of
from training.labels import IGNORE
from training.looks import reads_of, seen_in, sought_in
from training.prompts import prompts_of
from training.questions import TYPES, Question, questions_of
from training.scene import Clip
from training.sequence_labels import SEEN, sequence_labels
from workers.vision.tiles import cut_tiles

Batch = dict[str, NDArray[np.generic]]
LONG = 32
"""Frames from which on pictures are wide or tall, which have the fewest tokens."""
LONG_ASPECTS = ("16:9", "9:16")
DEAR = 16
"""Frames from which on training draws few clips of one scene: no time can be asked for there."""
_ONE_SCENE = 0.4
"""Chance that such a clip may be of one scene."""
_ASKED = 18
"""Tokens of a question with its answer, about."""
_STAMP = 5
_FEWEST_TIMED = 2
"""Frames of a clip whose times are asked for in training: easily told in short ones, to begin."""


def aspects_of(num_frames: int) -> tuple[str, ...]:
    """Return the aspect ratios that clips of so many frames come in."""
    return LONG_ASPECTS if num_frames >= LONG else tuple(ASPECTS)


def most_questions(num_frames: int) -> int:
    """Return how many questions a clip is asked at most.

    About as many as it has; of dear clips that there are few of, all.
    """
    return 12 if num_frames < 4 else 20 if num_frames < DEAR else 40


def language_batch(
    tokenizer: PreTrainedTokenizerFast, curriculum: Curriculum, seed: int, step: int
) -> Batch:
    """Return one batch of clips of one length and one aspect ratio."""
    generator = np.random.default_rng([seed, 2, step])
    mixture = curriculum.mixture(step)
    chances = np.array(list(mixture.values()))
    num_frames = int(generator.choice(list(mixture), p=chances / chances.sum()))
    aspect = str(generator.choice(aspects_of(num_frames)))
    prefix = num_frames * (geometry_of(aspect).num_tokens + 1 + _STAMP)
    num_questions = most_questions(num_frames)
    asked = num_questions * _ASKED
    num_clips = max(1, min(32, curriculum.tokens_per_batch // (prefix + asked)))
    may_be_one = num_frames < DEAR or generator.random() < _ONE_SCENE
    recipe = Recipe(
        max_shapes=most_shapes(num_frames), plate_chance=curriculum.plate_chance,
        code_chance=curriculum.code_chance, min_scenes=1 if may_be_one else 2,
    )  # fmt: skip
    if num_frames > 1 and generator.random() < curriculum.text_share:
        recipe = Recipe(max_shapes=2, plate_chance=1.0, code_chance=0.15, min_scenes=2)
    timed = bool(generator.random() < curriculum.timed_share)
    batch = clips_batch(
        tokenizer, generator, num_clips, num_frames, aspect, num_questions, recipe, timed=timed
    )  # fmt: skip
    batch["dense_weight"] = np.array(curriculum.dense_weight(step), dtype=np.float32)
    batch["stamp_weight"] = np.array(curriculum.stamp_weight(step), dtype=np.float32)
    return batch


def clips_batch(
    tokenizer: PreTrainedTokenizerFast,
    generator: np.random.Generator,
    num_clips: int,
    num_frames: int,
    aspect: str,
    num_questions: int,
    recipe: Recipe,
    *,
    timed: bool = False,
) -> Batch:
    """Return ``num_clips`` clips with their questions, sampled at the same moments.

    They are cut out of sources of up to ten minutes: times do not begin at 0.

    Returns:
        ``tiles`` (clips, frames, 5, 56, 56, 3) uint8; ``segments`` (frames, length), the ids before
        every picture, with timestamps where ``timed``; ``ids`` and ``labels`` (clips, questions,
        length); ``types`` (clips, questions), -1 where there is none; the dense labels ``SEEN``
        (clips, frames, 5, 64) and ``num_shapes`` (clips, frames); ``stamp`` (frames, 2), the ids
        that tell a frame's time; ``signs`` (2, n), those and all that differ by a digit; ``reads``
        (clips, questions, frames), whether a question's answer is to be found there, and ``sought``
        (clips, questions, length), the item where it is; ``named`` the same, which tokens of a
        question are the words that name what it is about; ``size`` (height, width).
    """
    moments = frame_moments(num_frames, float(generator.uniform(0.0, 0.999)))
    duration = draw_duration(generator, num_frames, recipe)
    start = float(generator.uniform(0.0, LONGEST_SECONDS - duration)) * (generator.random() < 0.5)
    times = [start + moment * duration for moment in moments]
    clips = [
        replace(compose_clip(generator, aspect, num_frames, recipe), duration_seconds=duration)
        for _ in range(num_clips)
    ]
    asked = [questions_of(clip, timed=timed, fewest_timed=_FEWEST_TIMED) for clip in clips]
    chosen = [
        [
            seen_in(question, clip, moments, times)
            for question in choose(generator, questions, num_questions)
        ]
        for clip, questions in zip(clips, asked, strict=True)
    ]
    prompts = prompts_of(tokenizer)
    batch = _pictures(generator, clips, moments)
    batch |= _asked(tokenizer, clips, chosen, moments, num_questions)
    batch["segments"] = prompts.segments(num_frames, times if timed else None)
    stamps = prompts.stamps(num_frames, times if timed else None)
    batch |= {"stamp": stamps, "signs": prompts.signs(stamps)}
    batch["size"] = np.array(ASPECTS[aspect][::-1])
    return batch


def _pictures(
    generator: np.random.Generator, clips: Sequence[Clip], moments: Sequence[float]
) -> Batch:
    """Return the tiles of all clips, and what their tokens show."""
    rows: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("tiles", "num_shapes", *SEEN)
    }
    for clip in clips:
        geometry = geometry_of(clip.aspect)
        pictures = degrade(generator, frames_of(clip, list(moments)))
        rows["tiles"].append(np.stack([cut_tiles(picture, geometry) for picture in pictures]))
        shown = [len(clip.scene_at(moment)[1].shapes) for moment in moments]
        rows["num_shapes"].append(np.array(shown))
        for name, labels in sequence_labels(clip, moments).items():
            rows[name].append(labels)
    return {name: np.stack(parts) for name, parts in rows.items()}


def _asked(
    tokenizer: PreTrainedTokenizerFast,
    clips: Sequence[Clip],
    chosen: Sequence[Sequence[Question]],
    moments: Sequence[float],
    num_questions: int,
) -> Batch:
    """Return the questions of all clips as ids, and where their answers are to be found."""
    asked = prompts_of(tokenizer).ask([question for each in chosen for question in each])
    length = asked.ids.shape[1]
    shape = (len(clips), num_questions)
    batch: dict[str, NDArray[np.int64] | NDArray[np.bool_]] = {
        "ids": np.full((*shape, length), tokenizer.pad_token_id),
        "labels": np.full((*shape, length), IGNORE),
        "sought": np.full((*shape, length), IGNORE),
        "types": np.full(shape, -1),
        "reads": np.zeros((*shape, len(moments)), dtype=bool),
        "named": np.zeros((*shape, length), dtype=bool),
    }
    places = [(clip, row) for clip, each in enumerate(chosen) for row in range(len(each))]
    for number, (clip, row) in enumerate(places):
        question, place = chosen[clip][row], (clip, row)
        batch["ids"][place] = asked.ids[number]
        batch["labels"][place] = asked.labels[number]
        batch["named"][place] = asked.named[number]
        batch["types"][place] = TYPES.index(question.type)
        batch["sought"][place] = sought_in(question, asked.labels[number])
        batch["reads"][place] = reads_of(question, clips[clip], moments)
    return dict(batch)


def choose(generator: np.random.Generator, questions: list[Question], count: int) -> list[Question]:
    """Return up to ``count`` questions, taking the types in turn."""
    shuffled = [questions[index] for index in generator.permutation(len(questions))]
    by_type = [[q for q in shuffled if q.type == type_] for type_ in TYPES]
    turns = max(len(group) for group in by_type)
    in_turn = [group[turn] for turn in range(turns) for group in by_type if turn < len(group)]
    return in_turn[:count]
