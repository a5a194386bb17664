"""The prompt: the model's own chat template, with one image placeholder a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workers.errors import InputError, ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids of a prompt about n frames, cut behind the last frame's placeholder.

    ``frame_segments[i]`` are the text tokens between the placeholders of frame i - 1 and frame i
    (before the first: the template's opening); ``question`` is all that follows the last.
    """

    frame_segments: tuple[tuple[int, ...], ...]
    question: tuple[int, ...]

    @property
    def num_text_tokens(self) -> int:
        """Tokens of the prompt that are no placeholder."""
        return sum(map(len, self.frame_segments)) + len(self.question)


def time_mark(pts_seconds: float) -> str:
    """Return the text put before a frame's placeholder to tell its time in the source."""
    return f"[{pts_seconds:.1f}s] "


def build_prompt(processor: Any, question: str, marks: Sequence[str]) -> Prompt:
    """Render and tokenize the prompt exactly as transformers' processor does.

    Args:
        processor: a ``LlavaNextProcessor``.
        question: the user's text.
        marks: one text a frame, put right before its placeholder; empty for none.

    Raises:
        InputError: the question spells the placeholder.
        ModelError: the template does not place one image after another ahead of the question.
    """
    image_token = processor.image_token
    if image_token in question:
        raise InputError(
            f"the question contains {image_token!r}, which the model reserves for frames"
        )
    content = [{"type": "image"}] * len(marks) + [{"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    pieces = text.split(image_token)
    if len(pieces) != len(marks) + 1 or question.strip() not in pieces[-1]:
        raise ModelError("the checkpoint's chat template does not put the images before the text")
    text = (
        "".join(piece + mark + image_token for piece, mark in zip(pieces, marks, strict=False))
        + pieces[-1]
    )
    tokenizer = processor.tokenizer
    has_start = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    ids = tokenizer(text, add_special_tokens=not has_start)["input_ids"]
    return _cut(ids, processor.image_token_id)


def _cut(ids: list[int], image_token_id: int) -> Prompt:
    segments: list[tuple[int, ...]] = []
    start = 0
    for position, token in enumerate(ids):
        if token == image_token_id:
            segments.append(tuple(ids[start:position]))
            start = position + 1
    return Prompt(frame_segments=tuple(segments), question=tuple(ids[start:]))


def join_positions(
    prompt: Prompt, keep_indices: Sequence[torch.Tensor], frame_length: int, *, compact: bool
) -> torch.Tensor:
    """Return the position ids of segments and kept visual tokens, up to the last frame's.

    Args:
        prompt: of the n frames.
        keep_indices: per frame, ascending int64 flat indices of its kept tokens.
        frame_length: unpruned visual tokens of a frame.
        compact: number the kept sequence 0, 1, 2, ...; otherwise keep the position each token has
            in the unpruned sequence, as MR-Pruner's published code does, with gaps.

    Returns:
        (length,) int64.
    """
    positions = []
    start = 0
    for segment, kept in zip(prompt.frame_segments, keep_indices, strict=True):
        positions += [torch.arange(start, start + len(segment)), start + len(segment) + kept]
        start += len(segment) + frame_length
    joined = torch.cat(positions)
    return torch.arange(len(joined)) if compact else joined
