"""What of the model's context, and of the budget, is left to the frames of a stream."""

from collections.abc import Sequence

from streaming.budget import DEFAULT_BUDGET, count_separator, count_timestamps
from streaming.options import Options
from streaming.watch.standing import StandingQuestion
from workers.errors import ContextError, InputError
from workers.llm.chat_template import ChatTemplate
from workers.llm.prompt import timestamp_text

_MOST_LEVELS = 32
_LATE_SECONDS = 999_999.9
"""A time whose text is as long as any."""


class Room:
    """What of the model's context, and of the budget, is left to frames."""

    def __init__(
        self,
        template: ChatTemplate,
        options: Options,
        questions: Sequence[StandingQuestion],
    ) -> None:
        prompts = [template.build(each.text, [""], each.choices) for each in questions]
        longest = max(prompts, key=lambda prompt: prompt.num_text_tokens)
        self._options = options
        self._separator = count_separator(template)
        answer = longest.num_answer_tokens(options.generation.max_new_tokens)
        self._tokens = template.context_length - longest.num_text_tokens - answer
        self._stamp = 0
        if options.budget.timestamps:
            (self._stamp,) = count_timestamps(template, [timestamp_text(_LATE_SECONDS)])

    def settle(self, window: int) -> tuple[int, int, int]:
        """Return the window, the number of levels and the budget: the first that fit."""
        for frames in range(window, 1, -1):
            for num_levels in range(_MOST_LEVELS, 0, -1):
                budget = self._budget(frames * num_levels)
                if self._fits(budget, frames, num_levels):
                    return frames, num_levels, budget
        wanted = self._options.budget.budget
        if wanted and wanted <= self._tokens - 2 * self._separator:
            raise InputError(f"--budget {wanted} does not pay for two frames of a stream: raise it")
        raise ContextError(
            f"the model's context leaves {max(0, self._tokens)} tokens beside the question and its "
            "answer: lower --budget or --max-new-tokens, or shorten the question"
        )

    def share(self, budget: int, window: int, num_levels: int) -> float:
        """Return the nominal share of a frame of the window."""
        return max(1.0, (budget - self._stamp * window * num_levels) / (2 * window))

    def _budget(self, num_frames: int) -> int:
        left = self._tokens - self._separator * num_frames
        return self._options.budget.budget or min(DEFAULT_BUDGET, left)

    def _fits(self, budget: int, window: int, num_levels: int) -> bool:
        """Return whether every frame gets a token, its time, and what the template adds to it."""
        num_frames = window * num_levels
        share = self.share(budget, window, num_levels)
        held = int(share * self._options.budget.headroom) >> (num_levels - 1)
        fits_budget = num_frames * (1 + self._stamp) <= budget
        fits_context = budget + self._separator * num_frames <= self._tokens
        return held > 0 and fits_budget and fits_context
