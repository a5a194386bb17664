"""Asks the questions about one clip of every cell of an evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from streaming.clip_plan import ClipPlan
from streaming.evaluate.cells import Cell
from streaming.evaluate.questions import Question, is_right
from streaming.evaluate.records import Failure, failure_line
from streaming.option_groups import FrameOptions
from streaming.options import Options
from streaming.pipeline import WatchedClip, ahead, allocate, ask, encode
from streaming.plan import Variant, plan_clips
from streaming.result import STAGES_OF_A_QUESTION, Answer
from streaming.sample import SampledClip, sample_clip
from workers.errors import ContextError, InputError, StreamError, VideoError
from workers.process import ModelOptions
from workers.run.engine import Engine

_SHARED = ("decode", "tile", "encode")


def clip_name(question: Question) -> str:
    """Return what a clip's answers are recorded under."""
    frames = "" if question.num_frames is None else f"@{question.num_frames}"
    return f"{question.clip}{frames}"


def answer_clip(
    engine: Engine, questions: Sequence[Question], cells: Sequence[Cell]
) -> Iterator[dict[str, Any]]:
    """Yield the line of each cell; cells that look at the same pictures share their encoding.

    Where the clip cannot be asked, the last line is the failure of all cells that are left.

    Raises:
        StreamError: something beside this clip failed: a model, a worker, the run.
    """
    stage, left = "plan", [cell.key for cell in cells]
    try:
        for group in _plan(questions, cells):
            stage = "watch"
            encoded = encode(engine, group[0][1])
            for cell, plan in group:
                stage = "watch"
                clip = allocate(engine, plan, encoded)
                stage = "ask"
                line = _answer_cell(engine, clip, cell, questions)
                left.remove(cell.key)
                yield line
    except (VideoError, ContextError, InputError) as error:
        yield failure_line(_failure(questions, stage, error), left)


def _failure(questions: Sequence[Question], stage: str, error: StreamError) -> Failure:
    path, text = questions[0].clip, str(error)
    return Failure(
        clip=clip_name(questions[0]),
        num_questions=len(questions),
        stage=stage,
        type=type(error).__name__,
        message=text if path in text else f"{path}: {text}",
    )


def _plan(
    questions: Sequence[Question], cells: Sequence[Cell]
) -> list[list[tuple[Cell, ClipPlan]]]:
    """Plan a clip for every cell, grouped by what is encoded.

    Fractions are of the tokens of both resolutions of the set's frames.
    """
    question, texts = questions[0], tuple(question.text for question in questions)

    @cache
    def sample(frames: FrameOptions, model: str) -> SampledClip:
        return sample_clip(question.clip, Options(frames=frames, model=ModelOptions(model=model)))

    by_frames: dict[FrameOptions, list[Cell]] = {}
    for cell in cells:
        by_frames.setdefault(cell.frames(question.num_frames), []).append(cell)
    by_clip: dict[str, list[tuple[Cell, ClipPlan]]] = {}
    for frames, group in by_frames.items():
        sampled = sample(frames, group[0].options.model.model)
        variants = []
        for cell in group:
            whole = replace(cell, frame_factor=1.0).frames(question.num_frames)
            whole = replace(whole, high_resolution="all")
            num_tokens = int(sample(whole, cell.options.model.model).lengths.sum())
            budget = cell.budgeted(num_tokens, int(sampled.lengths.sum()))
            options = replace(cell.options, frames=frames, budget=budget)
            variants.append(Variant(options=options, questions=texts))
        for cell, plan in zip(group, plan_clips(sampled, variants), strict=True):
            by_clip.setdefault(plan.clip.clip_id, []).append((cell, plan))
    return list(by_clip.values())


def _answer_cell(
    engine: Engine, clip: WatchedClip, cell: Cell, questions: Sequence[Question]
) -> dict[str, Any]:
    encoded, plan = clip.visual.encoded, clip.plan
    seconds: dict[str, float] = {name: encoded.seconds.get(name, 0.0) for name in _SHARED}
    seconds["prune"] = sum(clip.visual.seconds.values())
    said = []
    asked = ahead(ask(engine, clip, question.text) for question in questions)
    for question, pieces in zip(questions, asked, strict=True):
        (answer,) = (piece for piece in pieces if isinstance(piece, Answer))
        for stage in STAGES_OF_A_QUESTION:
            seconds[stage] = seconds.get(stage, 0.0) + answer.seconds[stage]
        right = is_right(answer.answer, question.answers, question.tolerance)
        said.append({"type": question.type, "question": question.text, "answer": answer.answer,
                     "right": right})  # fmt: skip
    return {
        "row": cell.row, "kept": cell.kept, "seed": cell.options.generation.seed,
        "clip": clip_name(questions[0]),
        "budget": plan.budget,
        "num_visual_tokens": answer.num_visual_tokens,
        "num_entering_tokens": answer.num_entering_tokens,
        "num_unpruned_tokens": plan.num_unpruned_tokens,
        "num_frames": plan.clip.num_frames,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "answers": said,
    }  # fmt: skip
