"""What one question about one clip comes back as."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workers.vision.geometry import Fit
from workers.visual import KeptFrame

STAGES_OF_A_QUESTION = ("prefill", "generate")
"""Stages of an answer alone; all others are its clip's."""
GPU_STAGES = ("encode", "prune", *STAGES_OF_A_QUESTION)
"""Stages that run on a GPU where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankUse:
    """Whether a clip's ranked tokens were stored ones, and the budget that they were made for.

    MR-Pruner's ranking depends on the nominal share of a frame: tokens made for a larger budget are
    ranked a little otherwise than those of a run of their own.
    """

    hit: bool
    made_for_budget: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """The answer to one question, with what the language model was shown to give it.

    ``num_entering_tokens`` are the visual ones, timestamps included, that entered the language
    model's first layers: more than were kept where it is pruned inside. ``num_text_tokens`` are
    the prompt's, without the timestamps, which are paid from the budget.
    Of the frames' ``num_tiles`` tiles ``num_encoded_tiles`` went through the vision tower; a tile
    that others are compared with counts each time.
    ``seconds`` holds the busy time of this clip and this question by stage, summed over workers
    that ran side by side, and of a forward pass that several questions shared an equal part;
    ``elapsed_seconds`` is wall time, from when the clip was asked for until
    it was ready and from the question to the answer, without what lay between.
    ``peak_memory_bytes`` is the peak resident memory by process name, ``config`` the resolved
    options of the run, ``bank`` None where no stored tokens were looked for, ``fit`` how a frame
    became its base tile. ``is_cut`` tells that the answer ended for its length.
    """

    video: str
    question: str
    answer: str
    model: str
    budget: int
    num_unpruned_tokens: int
    num_entering_tokens: int
    num_text_tokens: int
    num_answer_tokens: int
    num_tiles: int
    num_encoded_tiles: int
    frames: tuple[KeptFrame, ...]
    seconds: Mapping[str, float]
    elapsed_seconds: float
    peak_memory_bytes: Mapping[str, int]
    warnings: tuple[str, ...]
    config: Mapping[str, Any]
    bank: BankUse | None = None
    fit: Fit = "stretch"
    is_cut: bool = False

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, in OpenAI's words: ``stop``, or ``length`` where it was cut."""
        return "length" if self.is_cut else "stop"

    @property
    def num_frames(self) -> int:
        """Frames of which the language model got at least one token."""
        return sum(frame.num_visual_tokens > 0 for frame in self.frames)

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens in all of the language model's layers; never above ``budget``."""
        return sum(frame.num_visual_tokens for frame in self.frames)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values, without pictures and token indices."""
        return {
            "video": self.video,
            "question": self.question,
            "answer": self.answer,
            "finish_reason": self.finish_reason,
            "model": self.model,
            "budget": self.budget,
            "num_frames": self.num_frames,
            "num_visual_tokens": self.num_visual_tokens,
            "num_entering_tokens": self.num_entering_tokens,
            "num_unpruned_tokens": self.num_unpruned_tokens,
            "num_text_tokens": self.num_text_tokens,
            "num_answer_tokens": self.num_answer_tokens,
            "num_tiles": self.num_tiles,
            "num_encoded_tiles": self.num_encoded_tiles,
            "frames": [
                {
                    "pts_seconds": round(frame.pts_seconds, 6),
                    "num_visual_tokens": frame.num_visual_tokens,
                }
                for frame in self.frames
            ],
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "elapsed_seconds": round(self.elapsed_seconds, 4),
            "peak_memory_bytes": dict(self.peak_memory_bytes),
            "warnings": list(self.warnings),
            "bank": None if self.bank is None else asdict(self.bank),
        }


def seconds_of_a_question(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the busy seconds of an answer alone, not those of its clip."""
    return {stage: seconds[stage] for stage in STAGES_OF_A_QUESTION if stage in seconds}
