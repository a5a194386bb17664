"""First stage: the vision tower and the projector learn what every visual token shows."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import LlavaNextForConditionalGeneration

from training.heads import VisionHeads
from training.model import vision_features
from training.runner import LearningRate, MakeBatch, Tensors, to_tensors
from training.vision_data import LABELS, vision_batch

_CHECK_SEED = 1_000_003


@dataclass(kw_only=True)
class VisionStage:
    """Dense labels on the projector's output."""

    model: LlavaNextForConditionalGeneration
    heads: VisionHeads
    seed: int
    learning_rate: LearningRate
    num_pictures: int = 64
    name: str = "vision"
    module: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.module = nn.ModuleDict(
            {
                "tower": self.model.model.vision_tower,
                "projector": self.model.model.multi_modal_projector,
                "heads": self.heads,
            }
        )

    def groups(self) -> list[dict[str, Any]]:
        """All weights; decay on matrices only."""
        weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        return [
            {"params": [w for w in weights if w.dim() > 1], "weight_decay": 0.03, "scale": 1.0},
            {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0, "scale": 1.0},
        ]

    def make_batch(self) -> MakeBatch:
        """Batches of labelled pictures."""
        return partial(_batch, self.seed, self.num_pictures)

    def loss(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Return the sum of all heads' losses."""
        tiles = batch["tiles"]
        features = vision_features(self.model, tiles.flatten(0, 1))
        features = features.view(*tiles.shape[:2], *features.shape[1:])
        labels = {name: batch[name] for name in LABELS}
        loss, right = self.heads(features, labels)
        with torch.no_grad():
            right["feature_norm"] = features.norm(dim=-1).mean()
        return loss, right

    def after_step(self) -> None:
        """Nothing: the stage ends on a learning rate of nothing."""

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Return the same figures on 256 pictures never trained on."""
        batch = vision_batch(_CHECK_SEED, 0, 256)
        loss, right = self.loss(to_tensors(batch))
        return {"loss": float(loss), **{name: float(value) for name, value in right.items()}}


def _batch(seed: int, num_pictures: int, step: int) -> dict[str, Any]:
    return vision_batch(seed, step, num_pictures)
