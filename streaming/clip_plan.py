"""What is done with one clip, settled before any worker is asked anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruner import METHODS
from streaming.budget import count_first_timestamps, count_separator, count_timestamps
from streaming.options import Options
from streaming.sample import count_tiles
from workers.arrays import Int64Array
from workers.llm.chat_template import ChatTemplate
from workers.llm.context import check_context
from workers.llm.prompt import Prompt, timestamp_text
from workers.messages import Clip
from workers.video.source import Source
from workers.visual import Allocation, KeptFrame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipPlan:
    """What is done with one clip: ``clip`` is for the workers, the rest for those who ask.

    Its frames are those at the positions ``frames`` of ``source``.
    """

    clip: Clip
    source: Source
    frames: Int64Array
    template: ChatTemplate
    budget: int
    pruning: int
    max_keep: int
    """The most that a frame may be handed, whoever else shares the clip."""
    num_entering: int
    """The most visual and timestamp tokens that enter the language model's first layers."""
    num_unpruned_tokens: int
    source_seconds: float
    """From the source's first picture to its last."""
    compact_positions: bool
    options: Options
    warnings: tuple[str, ...]
    """What is unusual about the source."""

    @property
    def num_tiles(self) -> int:
        """Tiles of all frames, the base tiles among them."""
        return count_tiles(self.source, self.frames, self.clip.tiles)

    def timestamps(self, pts_seconds: Sequence[float]) -> list[str]:
        """Return the text before each frame shown at these times; empty without timestamps."""
        wanted = self.options.budget.timestamps
        return [timestamp_text(t) if wanted else "" for t in pts_seconds]

    def allocation(self, pts_seconds: Sequence[float]) -> Allocation:
        """Return how the budget is shared among the frames that could be encoded."""
        options = self.options
        timestamps = self.timestamps(pts_seconds) if options.budget.timestamps else []
        may_leave_out = METHODS[options.pruning.pruner].may_leave_frames_out
        return Allocation(
            method=options.pruning.pruner,
            budget=self.budget,
            num_entering=self.num_entering,
            question_aware=options.budget.question_aware,
            reserve=options.budget.reserve,
            proportional=options.is_proportional,
            pruning=self.pruning,
            max_keep=self.max_keep,
            shares=options.budget.shares,
            novelty=options.budget.novelty,
            num_timestamp_tokens=count_timestamps(self.template, timestamps),
            num_first_timestamp_tokens=count_first_timestamps(
                self.template, timestamps if may_leave_out else []
            ),
            num_separator_tokens=count_separator(self.template),
            compact_positions=self.compact_positions,
            fastv_layer=options.pruning.fastv_layer,
        )

    def prompt(
        self, question: str, frames: Sequence[KeptFrame], choices: Sequence[str] = ()
    ) -> Prompt:
        """Return the prompt of a question about frames; those that keep nothing are not in it.

        Args:
            question: see :meth:`workers.llm.chat_template.ChatTemplate.build`.
            frames: what enters the model of each.
            choices: as for the question.

        Raises:
            InputError: see :meth:`workers.llm.chat_template.ChatTemplate.build`.
            ContextError: it does not fit the model's context, with the visual tokens and an answer.
        """
        shown = [frame for frame in frames if len(frame.keep_indices)]
        stamps = self.timestamps([frame.pts_seconds for frame in shown])
        prompt = self.template.build(question, stamps, choices)
        kept = sum(len(frame.keep_indices) for frame in shown)
        self.check(prompt, kept, sum(frame.gap + frame.layout.num_tokens for frame in shown))
        return prompt

    def check(self, prompt: Prompt, num_kept: int, num_unpruned: int) -> None:
        """Refuse a prompt about frames of which so many tokens are kept of so many.

        What is left out with other frames is among the latter.

        Raises:
            ContextError: see :meth:`prompt`.
        """
        unpruned = METHODS[self.options.pruning.pruner].enters_unpruned
        option = "--budget" if self.options.budget.keep_ratio is None else "--keep-ratio"
        check_context(
            prompt,
            num_visual_tokens=num_kept if self.compact_positions else num_unpruned,
            max_new_tokens=self.options.generation.max_new_tokens,
            context_length=self.template.context_length,
            visual_option="--num-frames" if unpruned or not self.compact_positions else option,
        )
