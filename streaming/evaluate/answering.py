"""Asks the questions about one clip of every cell of an evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from streaming.evaluate.cells import Cell
from streaming.evaluate.questions import Question, is_right
from streaming.options import FrameOptions, Options
from streaming.pipeline import allocate, ask, encode
from streaming.plan import ClipPlan, Variant, plan_clips
from streaming.result import Answer
from streaming.sample import SampledClip, sample_clip
from workers.process import ModelOptions
from workers.run.engine import EncodedClip, Engine

_SHARED = ("decode", "tile", "encode")


def clip_name(question: Question) -> str:
    """Return what a clip's answers are recorded under."""
    frames = "" if question.num_frames is None else f"@{question.num_frames}"
    return f"{question.clip}{frames}"


def answer_clip(
    engine: Engine, questions: Sequence[Question], cells: Sequence[Cell]
) -> Iterator[dict[str, Any]]:
    """Yield one record for each cell; cells that look at the same pictures share their encoding."""
    groups: dict[str, list[tuple[Cell, ClipPlan]]] = {}
    for cell, plan in _plan(questions, cells):
        groups.setdefault(plan.clip.clip_id, []).append((cell, plan))
    for group in groups.values():
        encoded = encode(engine, group[0][1])
        for cell, plan in group:
            yield _answer_cell(engine, plan, encoded, cell, questions)


def _plan(questions: Sequence[Question], cells: Sequence[Cell]) -> Iterator[tuple[Cell, ClipPlan]]:
    """Plan a clip for every cell; budgets count tokens of both resolutions."""
    question, texts = questions[0], tuple(question.text for question in questions)
    by_frames: dict[FrameOptions, list[Cell]] = {}
    for cell in cells:
        by_frames.setdefault(cell.frames(question.num_frames), []).append(cell)
    for frames, group in by_frames.items():
        sampled = _sample(question.clip, frames, group[0].options.model.model)
        variants = []
        for cell in group:
            whole = replace(cell, frame_factor=1.0).frames(question.num_frames)
            whole = replace(whole, base_only=False)
            num_tokens = int(_sample(question.clip, whole, cell.options.model.model).lengths.sum())
            budget = replace(cell.options.budget, budget=cell.budget_for(num_tokens))
            options = replace(cell.options, frames=frames, budget=budget)
            variants.append(Variant(options=options, questions=texts))
        yield from zip(group, plan_clips(sampled, variants), strict=True)


@lru_cache(maxsize=8)
def _sample(clip: str, frames: FrameOptions, model: str) -> SampledClip:
    return sample_clip(clip, Options(frames=frames, model=ModelOptions(model=model)))


def _answer_cell(
    engine: Engine,
    plan: ClipPlan,
    encoded: EncodedClip,
    cell: Cell,
    questions: Sequence[Question],
) -> dict[str, Any]:
    clip = allocate(engine, plan, encoded)
    seconds: dict[str, float] = {name: encoded.seconds.get(name, 0.0) for name in _SHARED}
    seconds["prune"] = sum(clip.visual.seconds.values())
    said = []
    for question in questions:
        (answer,) = (x for x in ask(engine, clip, question.text) if isinstance(x, Answer))
        for stage in ("prefill", "generate"):
            seconds[stage] = seconds.get(stage, 0.0) + answer.seconds[stage]
        right = is_right(answer.answer, question.answers)
        said.append({"type": question.type, "question": question.text, "answer": answer.answer,
                     "right": right})  # fmt: skip
    return {
        "row": cell.row, "kept": cell.kept, "seed": cell.options.generation.seed,
        "clip": clip_name(questions[0]),
        "budget": plan.budget,
        "num_visual_tokens": answer.num_visual_tokens,
        "num_unpruned_tokens": plan.num_unpruned_tokens,
        "num_frames": plan.clip.num_frames,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "answers": said,
    }  # fmt: skip
