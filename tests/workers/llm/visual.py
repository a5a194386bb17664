"""Clips as the language model gets them, and answers about them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workers.arrays import UInt8Array, pack
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.chat_template import ChatTemplate
from workers.llm.model import LanguageModel
from workers.llm.prompt import Prompt
from workers.vision.encoder import VisionEncoder
from workers.vision.tiles import cut_pictures
from workers.visual import VisualSequence

QUESTIONS = ["What color is the cat?", "How many people are there?", "Where is the red car?"]
GREEDY = SamplingOptions(max_new_tokens=24)


def random_frames(seed: int, num_frames: int = 3) -> UInt8Array:
    coarse = np.random.default_rng(seed).integers(0, 256, (num_frames, 9, 16, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def show_frames(checkpoint: Path, frames: Iterable[UInt8Array], *, step: int = 1) -> VisualSequence:
    """Keep every ``step``-th token of each frame; with 1 nothing is pruned.

    Frames may differ in size.
    """
    encoder = VisionEncoder(str(checkpoint), device="cpu", dtype=torch.float32)
    whole = []
    for frame in frames:
        (features,) = encoder.encode(*cut_pictures([frame], encoder.geometry))
        newline = features.newline.expand(*features.grid.shape[:2], 1, -1)
        rows = torch.cat([features.grid, newline], dim=2).flatten(1, 2)
        whole.append(torch.cat([features.base, rows], dim=1)[0])
    kept = [np.arange(0, len(tokens), step) for tokens in whole]
    return identified(
        VisualSequence(
            visual_id="",
            features=pack(torch.cat([tokens[::step] for tokens in whole])),
            dtype="float32",
            counts=np.array([len(places) for places in kept]),
            keep_indices=np.concatenate(kept),
            frame_indices=np.arange(len(whole)),
            frame_lengths=np.array([len(tokens) for tokens in whole]),
            gaps=np.zeros(len(whole), np.int64),
            num_timestamp_tokens=np.zeros(len(whole), np.int64),
        )
    )


def identified(visual: VisualSequence, **changes: Any) -> VisualSequence:
    """Return a changed sequence with the id of its content."""
    changed = replace(visual, **changes)
    digest = hashlib.sha256(changed.features.tobytes() + changed.keep_indices.tobytes())
    others = (
        changed.compact_positions,
        changed.prune_layer,
        changed.num_keep,
        changed.reserve,
    )
    digest.update(b"" if changed.priority is None else changed.priority.tobytes())
    digest.update(b"" if changed.sizes is None else changed.sizes.tobytes())
    digest.update(repr((changed.counts.tolist(), changed.frame_lengths.tolist(), others)).encode())
    return replace(changed, visual_id=digest.hexdigest())


def load_model(folder: Path, **options: Any) -> LanguageModel:
    settings: dict[str, Any] = {"device": "cpu", "dtype": torch.float32} | options
    return LanguageModel(str(folder), **settings)


class Asker:
    """Asks a model questions about clips, without timestamps unless told otherwise."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.model = load_model(folder, **options)
        self.template = ChatTemplate.load(str(folder))

    def prompt(
        self, visual: VisualSequence, question: str, stamps: Sequence[str] | None = None
    ) -> Prompt:
        return self.template.build(question, [""] * len(visual) if stamps is None else stamps)

    def pieces(
        self, visual: VisualSequence, question: str, sampling: SamplingOptions = GREEDY
    ) -> Any:
        return self.model.generate(visual, self.prompt(visual, question), sampling)

    def whole(
        self,
        visual: VisualSequence,
        question: str,
        sampling: SamplingOptions = GREEDY,
        stamps: Sequence[str] | None = None,
    ) -> GeneratedAnswer:
        prompt = self.prompt(visual, question, stamps)
        *_, answer = self.model.generate(visual, prompt, sampling)
        assert isinstance(answer, GeneratedAnswer)
        return answer

    def ask(self, visual: VisualSequence, question: str, **options: Any) -> list[int]:
        """Return the answer's token ids."""
        return list(self.whole(visual, question, **options).token_ids)
