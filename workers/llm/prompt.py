"""The prompt: a question in the model's own chat template, with one placeholder a frame."""

from dataclasses import dataclass

from workers.llm.choices import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids of a prompt about n frames, cut behind the last frame's placeholder.

    ``frame_segments[i]`` are the text tokens between the placeholders of frame i - 1 and frame i
    (before the first: the template's opening); ``question`` is all that follows the last. Where
    there are ``choices``, the answer is one of them.
    """

    frame_segments: tuple[tuple[int, ...], ...]
    question: tuple[int, ...]
    choices: tuple[Choice, ...] = ()

    @property
    def num_text_tokens(self) -> int:
        """Tokens of the prompt that are no placeholder."""
        return sum(map(len, self.frame_segments)) + len(self.question)

    def num_answer_tokens(self, max_new_tokens: int) -> int:
        """Return the most tokens of an answer: a choice is said whole, whatever the limit."""
        lengths = [len(choice.token_ids) for choice in self.choices]
        return max(lengths, default=max_new_tokens)


def timestamp_text(pts_seconds: float) -> str:
    """Return the text put before a frame's placeholder to tell its time in the source."""
    return f"[{pts_seconds:.1f}s] "
