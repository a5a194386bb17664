"""One clip asked two questions by one system: what it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streaming.bench.concurrency import Load

STAGES = (
    "open", "decode", "tile", "encode", "prune", "transfer", "allocate", "prefill", "generate"
)  # fmt: skip
"""What seconds are told apart, in the order of a clip's way; ``tile`` is the preprocessing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Figures of one clip, opened anew, and of two questions about it, the second on warm tokens.

    ``num_tokens_seen`` are the unpruned visual tokens of the frames, ``num_tokens_entering`` those
    that the language model's first layer gets. ``seconds`` are busy seconds by stage of the clip
    and the first question, summed over workers side by side, so that their sum may exceed
    ``elapsed_seconds``, the wall time from opening the clip to the end of the first answer;
    ``cpu_seconds`` those of all processes meanwhile, ``gpu_seconds`` the busy ones of a GPU.
    ``first_token_seconds`` are from opening the clip, or from asking the second question.
    ``vision_flops`` and ``prefill_flops`` are what the models had to compute in ``encode`` and
    ``prefill``. ``peak_memory_bytes`` is by process and since it started. ``remark`` says what is
    not as asked for.
    """

    num_frames: int
    video_seconds: float
    num_tokens_seen: int
    num_tokens_entering: int
    seconds: Mapping[str, float]
    first_token_seconds: float
    elapsed_seconds: float
    second_first_token_seconds: float
    second_elapsed_seconds: float
    num_answer_tokens: int
    cpu_seconds: float
    gpu_seconds: float
    vision_flops: float
    prefill_flops: float
    peak_memory_bytes: Mapping[str, int]
    remark: str = ""


class System(Protocol):
    """Something that answers questions about clips, warm: its models are loaded."""

    def trial(self, clip: str, num_frames: int, questions: Sequence[str]) -> Trial:
        """Open a clip, ask the first question, then the second.

        Raises:
            StreamError: it cannot be done, for example as the model's context is too short.
        """

    def answers(self, clip: str, num_frames: int, questions: Sequence[str]) -> list[str]:
        """Answer every question about a clip, for its accuracy."""

    def load(
        self, clip: str, num_frames: int, questions: Sequence[str], levels: Sequence[int]
    ) -> list[Load]:
        """Let numbers of clients ask about a clip that stands ready; see ``concurrency.load``."""

    def close(self) -> None:
        """Stop what it has started."""
