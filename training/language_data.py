"""Batches of clips with questions for the language stage; each a pure function of its number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from training.canvas import ASPECTS, geometry_of
from training.compose import Recipe, compose_clip
from training.degrade import degrade
from training.draw import PLATE_ID, frame_moments, frames_of
from training.labels import IGNORE, label_tokens
from training.prompts import prompts_of
from training.questions import TYPES, Question, questions_of
from training.scene import Clip
from workers.vision.tiles import cut_tiles

Batch = dict[str, NDArray[np.generic]]
Mixture = Mapping[int, float]
SEEN = ("motion", "number_rank", "first_character", "x", "y")
NUM_RANKS = 4
WRITTEN = ("number", "code", "first", "last")
"""Types whose answer is written in the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """What clips are like and how much they are asked, from each step on.

    ``mixtures`` are the chances of every number of frames, ``dense_weights`` how much the questions
    to tokens half way up count beside the answers.

    ``text_share`` of the batches of several frames are about text: a plate in every scene, and two
    scenes or more.
    """

    mixtures: Sequence[tuple[int, Mapping[int, float]]]
    dense_weights: Sequence[tuple[int, float]] = ((0, 1.0),)
    tokens_per_batch: int = 6000
    num_questions: int = 12
    plate_chance: float = 0.75
    code_chance: float = 0.25
    text_share: float = 0.0

    def mixture(self, step: int) -> Mixture:
        """Return the chances that hold at ``step``."""
        return [mixture for start, mixture in self.mixtures if step >= start][-1]

    def dense_weight(self, step: int) -> float:
        """Return how much the questions to tokens half way up count at ``step``."""
        return [weight for start, weight in self.dense_weights if step >= start][-1]


def language_batch(
    tokenizer: PreTrainedTokenizerFast, curriculum: Curriculum, seed: int, step: int
) -> Batch:
    """Return one batch of clips of one length and one aspect ratio."""
    generator = np.random.default_rng([seed, 2, step])
    mixture = curriculum.mixture(step)
    chances = np.array(list(mixture.values()))
    num_frames = int(generator.choice(list(mixture), p=chances / chances.sum()))
    aspect = str(generator.choice(list(ASPECTS)))
    prefix = num_frames * (geometry_of(aspect).layout.num_tokens + 1)
    asked = curriculum.num_questions * 16
    num_clips = max(2, min(32, curriculum.tokens_per_batch // (prefix + asked)))
    recipe = Recipe(
        max_shapes=most_shapes(num_frames),
        plate_chance=curriculum.plate_chance,
        code_chance=curriculum.code_chance,
    )
    if num_frames > 1 and generator.random() < curriculum.text_share:
        recipe = Recipe(max_shapes=2, plate_chance=1.0, code_chance=0.15, min_scenes=2)
    batch = clips_batch(
        tokenizer, generator, num_clips, num_frames, aspect, curriculum.num_questions, recipe
    )
    batch["dense_weight"] = np.array(curriculum.dense_weight(step), dtype=np.float32)
    return batch


def most_shapes(num_frames: int) -> int:
    """Return how many shapes a scene has at most: fewer where there are more scenes."""
    return 4 if num_frames < 3 else 3


def clips_batch(
    tokenizer: PreTrainedTokenizerFast,
    generator: np.random.Generator,
    num_clips: int,
    num_frames: int,
    aspect: str,
    num_questions: int,
    recipe: Recipe,
) -> Batch:
    """Return ``num_clips`` clips with their questions.

    Returns:
        ``tiles`` (clips, frames, 5, 56, 56, 3) uint8; ``ids`` and ``labels`` (clips, questions,
        length); ``types`` (clips, questions), -1 where there is none; the dense labels ``SEEN``
        (clips, frames, 5, 16); ``num_shapes`` (clips, frames); ``reads`` (clips, questions,
        frames), whether a question's answer is written there; ``size`` (height, width).
    """
    batch: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("tiles", "num_shapes", *SEEN)
    }
    chosen, moments_of = [], []
    for _ in range(num_clips):
        clip = compose_clip(generator, aspect, num_frames, recipe)
        moments = frame_moments(num_frames, float(generator.uniform(0.0, 0.999)))
        pictures = degrade(generator, frames_of(clip, moments))
        geometry = geometry_of(aspect)
        batch["tiles"].append(np.stack([cut_tiles(picture, geometry) for picture in pictures]))
        shown = [len(clip.scene_at(moment)[1].shapes) for moment in moments]
        batch["num_shapes"].append(np.array(shown))
        for name, labels in sequence_labels(clip, moments).items():
            batch[name].append(labels)
        moments_of.append(moments)
        chosen.append(choose(generator, questions_of(clip), num_questions))
    arrays: Batch = {name: np.stack(parts) for name, parts in batch.items()}
    flat = [question for questions in chosen for question in questions]
    asked = prompts_of(tokenizer).ask(flat)
    shape = (num_clips, num_questions, asked.ids.shape[1])
    arrays["ids"] = np.full(shape, tokenizer.pad_token_id)
    arrays["labels"] = np.full(shape, IGNORE)
    arrays["types"] = np.full(shape[:2], -1)
    arrays["reads"] = np.zeros((*shape[:2], num_frames), dtype=bool)
    row = 0
    for clip_index, questions in enumerate(chosen):
        for question_index, question in enumerate(questions):
            arrays["ids"][clip_index, question_index] = asked.ids[row]
            arrays["labels"][clip_index, question_index] = asked.labels[row]
            arrays["types"][clip_index, question_index] = TYPES.index(question.type)
            if question.type in WRITTEN:
                times = np.array(moments_of[clip_index])
                inside = (times >= question.start) & (times < question.end)
                arrays["reads"][clip_index, question_index] = inside
            row += 1
    arrays["size"] = np.array(ASPECTS[aspect][::-1])
    return arrays


def choose(generator: np.random.Generator, questions: list[Question], count: int) -> list[Question]:
    """Return up to ``count`` questions, taking the types in turn."""
    shuffled = [questions[index] for index in generator.permutation(len(questions))]
    by_type = [[q for q in shuffled if q.type == type_] for type_ in TYPES]
    turns = max(len(group) for group in by_type)
    in_turn = [group[turn] for turn in range(turns) for group in by_type if turn < len(group)]
    return in_turn[:count]


def sequence_labels(clip: Clip, moments: list[float]) -> dict[str, NDArray[np.int64]]:
    """Return what the frames so far tell about each token: class numbers (frames, 5, 16).

    ``motion``: the way its shape moves, from the second frame of a scene on. ``number_rank``: where
    a tile shows a number, how many other numbers came earlier. ``first_character``: of a tile's
    plate. ``x``, ``y``: where in the frame its
    shape is. ``IGNORE`` where the frames so far cannot tell.
    """
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SEEN}
    before = -1
    for moment in moments:
        labels = label_tokens(clip, moment)
        index, scene = clip.scene_at(moment)
        motion = labels.motion if index == before else np.full_like(labels.motion, IGNORE)
        earlier = sum(bool(s.plate and s.plate.is_number) for s in clip.scenes[:index])
        on_number = (labels.item == PLATE_ID) & (np.arange(5) > 0)[:, None]
        on_number = on_number & bool(scene.plate and scene.plate.is_number)
        rank = np.where(on_number, min(earlier, NUM_RANKS - 1), IGNORE)
        read = labels.first_character.copy()
        read[0] = IGNORE
        for name, value in zip(SEEN, (motion, rank, read, labels.x, labels.y), strict=True):
            rows[name].append(value)
        before = index
    return {name: np.stack(values) for name, values in rows.items()}
