"""Whether the embedded checkpoint answers alike from tiles that were cut in two ways."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruner.mr_pruner import mr_pruner
from training.make_set import draw_set
from training.measure import sample_frames
from training.questions import TIMED
from workers.arrays import UInt8Array
from workers.checkpoint import locate
from workers.vision.encoder import FrameFeatures, VisionEncoder
from workers.vision.geometry import FrameGeometry, TileGeometry

Cut = Callable[
    [Sequence[UInt8Array], TileGeometry], tuple[torch.Tensor | UInt8Array, list[FrameGeometry]]
]
"""Pictures to tiles, and how each picture was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How many questions were asked, answered alike, and answered right in each way."""

    asked: int
    equal: int
    exact_right: int
    fast_right: int


class Answerer:
    """Transformers' own model, shown the kept tokens of each frame and numbering them anew."""

    def __init__(self, folder: str, device: torch.device) -> None:
        from transformers import AutoProcessor, LlavaNextForConditionalGeneration

        self._model: Any = LlavaNextForConditionalGeneration.from_pretrained(folder).to(device)
        self._processor: Any = AutoProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def answer(self, kept: Sequence[torch.Tensor], question: str) -> str:
        """Return the greedy answer about frames of which these tokens (k, hidden) are kept."""
        content = [{"type": "image"}] * len(kept) + [{"type": "text", "text": question}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        tokenizer = self._processor.tokenizer
        ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
        places = (ids == self._processor.image_token_id).nonzero()[:, 0].tolist()
        embeds = self._model.get_input_embeddings()(ids.to(self._model.device))
        parts, start = [], 0
        for place, tokens in zip(places, kept, strict=True):
            parts += [embeds[start:place], tokens]
            start = place + 1
        whole = torch.cat([*parts, embeds[start:]])[None]
        output = self._model.generate(
            inputs_embeds=whole,
            attention_mask=torch.ones(whole.shape[:2], device=whole.device),
            max_new_tokens=5,
        )[0]
        return str(tokenizer.decode(output, skip_special_tokens=True)).strip()


def keep_tokens(batch: FrameFeatures, keep_ratio: float) -> list[torch.Tensor]:
    """Return the tokens (k, hidden) that MR-Pruner keeps of each frame, in source order."""
    newline = batch.newline.expand(*batch.grid.shape[:2], 1, -1)
    rows = torch.cat([batch.grid, newline], dim=2).flatten(1, 2)
    chosen = mr_pruner(batch.base, batch.grid, keep_ratio=keep_ratio)
    return [flat[kept] for flat, kept in zip(torch.cat([batch.base, rows], 1), chosen, strict=True)]


def compare_answers(
    encoder: VisionEncoder, exact: Cut, fast: Cut, keep_ratio: float, clips_per_kind: int
) -> Answers:
    """Ask drawn clips of 1 to 8 frames their questions in both ways, but those that take times.

    Args:
        encoder: of the embedded checkpoint.
        exact: one way to cut frames into tiles.
        fast: the other.
        keep_ratio: fraction kept of each frame's tokens.
        clips_per_kind: clips of each of five aspect ratios and four lengths.
    """
    answerer = Answerer(locate("embedded"), encoder.device)
    asked = equal = 0
    right = [0, 0]
    with tempfile.TemporaryDirectory() as name:
        questions = draw_set(Path(name), 7, clips_per_kind, num_frames=(1, 2, 4, 8))
        lines = map(json.loads, questions.read_text(encoding="utf-8").splitlines())
        for clip, group in groupby(lines, key=lambda line: line["clip"]):
            of_clip = list(group)
            pictures, _ = sample_frames(Path(name, clip), of_clip[0]["num_frames"])
            frames = [np.asarray(picture) for picture in pictures]
            kept = [
                [
                    tokens
                    for batch in encoder.encode(*cut(frames, encoder.geometry))
                    for tokens in keep_tokens(batch, keep_ratio)
                ]
                for cut in (exact, fast)
            ]
            for line in (line for line in of_clip if line["type"] not in TIMED):
                said = [answerer.answer(tokens, line["question"]) for tokens in kept]
                asked += 1
                equal += said[0] == said[1]
                right = [
                    count + (one in line["answers"]) for count, one in zip(right, said, strict=True)
                ]
    return Answers(asked=asked, equal=equal, exact_right=right[0], fast_right=right[1])
