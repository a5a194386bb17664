"""Second stage: the language model learns to answer, always from the full prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from training import attention
from training.canvas import ASPECTS, GEOMETRY, NUM_TILES
from training.compose import Recipe, most_shapes
from training.curriculum import Curriculum
from training.forward import Passage, Prefix, embed_prefix, run_language
from training.guides import copy_loss, look_loss, name_loss, some_tokens, stamp_loss
from training.heads import Labels, SequenceHeads
from training.labels import IGNORE
from training.language_data import clips_batch, language_batch
from training.numbers import Numbers
from training.questions import TYPES
from training.runner import LearningRate, MakeBatch, Tensors, to_tensors
from training.sequence_labels import SEEN

_NUM_PLACES = NUM_TILES * GEOMETRY.num_base
"""Patches of all tiles of a picture."""
_CHECK_SEED = 1_000_003
_CHECK_FRAMES = (1, 2, 4, 8)
_CHECK_CLIPS = 6
_WEIGHT_DECAY = 0.05
_AVERAGE = 0.995


@dataclass(kw_only=True)
class LanguageStage:
    """Cross entropy on the answers, and on what tokens half way up know of the frames before.

    ``average`` follows the weights slowly, so that a run can be measured and exported while its
    learning rate is still high.
    """

    model: LlavaNextForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    heads: SequenceHeads
    seed: int
    learning_rate: LearningRate
    curriculum: Curriculum
    name: str = "language"
    look_weight: float = 0.0
    type_weights: Mapping[str, float] = field(default_factory=dict)
    module: nn.Module = field(init=False)
    average: AveragedModel = field(init=False)
    _numbers: Numbers = field(init=False)

    def __post_init__(self) -> None:
        attention.register()
        self.model.model.language_model.set_attn_implementation(attention.NAME)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGE))
        self.average.requires_grad_(False)
        self._numbers = Numbers(self.tokenizer)
        for words in self._words():
            words.register_hook(self._numbers.as_sums)
        parts = {"model": self.model, "heads": self.heads, "average": self.average}
        self.module = nn.ModuleDict(parts)

    def groups(self) -> list[dict[str, Any]]:
        """The language model at full rate, the projector slower, the vision tower not at all."""
        tower = {id(weight) for weight in self.model.model.vision_tower.parameters()}
        projector = {id(w) for w in self.model.model.multi_modal_projector.parameters()}
        trained = [weight for weight in self.module.parameters() if weight.requires_grad]
        rest = [weight for weight in trained if id(weight) not in tower | projector]
        slow = list(self.model.model.multi_modal_projector.parameters())
        matrices = [weight for weight in rest if weight.dim() > 1]
        vectors = [weight for weight in rest if weight.dim() < 2]
        return [
            {"params": matrices, "weight_decay": _WEIGHT_DECAY, "scale": 1.0},
            {"params": vectors, "weight_decay": 0.0, "scale": 1.0},
            {"params": slow, "weight_decay": 0.0, "scale": 0.05},
        ]

    def make_batch(self) -> MakeBatch:
        """Batches of clips with questions."""
        return partial(language_batch, self.tokenizer, self.curriculum, self.seed)

    def loss(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Return the loss and the share of questions answered right."""
        prefix, logits, passage = self._forward(self.model, batch)
        labels = batch["labels"]
        losses = F.cross_entropy(logits.float(), labels[labels != IGNORE], reduction="none")
        weights = self._weights(batch)
        answers = (losses * weights).sum() / weights.sum()
        states, shown = _dense(prefix, passage.probed, batch)
        dense, figures = self.heads(states, shown)
        length, missed = self.heads.length(passage.asked[labels != IGNORE], batch["tiles"].shape[1])
        figures |= missed
        right = _right(logits, labels)
        asked = batch["types"] >= 0
        figures["answers"] = answers.detach()
        figures["right"] = right[asked].float().mean()
        figures["frames"] = torch.tensor(float(batch["tiles"].shape[1]))
        figures |= _by_type(right, batch["types"])
        look, time_look = look_loss(prefix, passage, batch)
        figures |= {"look": look.detach(), "time_look": time_look.detach()}
        name = name_loss(passage, batch)
        figures["name_look"] = name.detach()
        stamp = stamp_loss(prefix, passage, batch["stamp"])
        figures["stamp_look"] = stamp.detach()
        copied = copy_loss(self.model, prefix, passage, batch)
        figures["copied"] = copied.detach()
        times = stamp + copied + time_look
        guided = self.look_weight * (look + name) + batch["stamp_weight"] * times
        return answers + batch["dense_weight"] * (dense + length) + guided, figures

    def _weights(self, batch: Tensors) -> torch.Tensor:
        """Return how much every answer token counts."""
        by_type = torch.tensor([self.type_weights.get(name, 1.0) for name in TYPES])
        known = batch["labels"] != IGNORE
        return by_type[batch["types"]][..., None].expand(known.shape)[known]

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the numbers sums of their digits, and let the average follow."""
        for words in self._words():
            words.copy_(self._numbers.as_sums(words))
        self.average.update_parameters(self.model)

    def _words(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables that words are put in by and read out by."""
        return self.model.model.language_model.embed_tokens.weight, self.model.lm_head.weight

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Return the average's exact-match shares, on clips never trained on."""
        figures = {}
        for num_frames in _CHECK_FRAMES:
            right, types = [], []
            for number, aspect in enumerate(ASPECTS):
                generator = np.random.default_rng([_CHECK_SEED, num_frames, number])
                arrays = clips_batch(
                    self.tokenizer, generator, _CHECK_CLIPS, num_frames, aspect, 16,
                    Recipe(max_shapes=most_shapes(num_frames)), timed=bool(number % 2),
                )  # fmt: skip
                batch = to_tensors(arrays)
                _, logits, _ = self._forward(self.average.module, batch)
                right.append(_right(logits, batch["labels"]).flatten())
                types.append(batch["types"].flatten())
            hits, kinds = torch.cat(right), torch.cat(types)
            for index, name in enumerate(TYPES):
                if bool((kinds == index).any()):
                    figures[f"{name}/{num_frames}"] = float(hits[kinds == index].float().mean())
            figures[f"all/{num_frames}"] = float(hits[kinds >= 0].float().mean())
        return figures

    def _forward(
        self, model: LlavaNextForConditionalGeneration, batch: Tensors
    ) -> tuple[Prefix, torch.Tensor, Passage]:
        """Return the prefix, the logits at every answer token, and what else is learnt from."""
        geometry = GEOMETRY.frame(*(int(side) for side in batch["size"]))
        prefix = embed_prefix(model, batch["tiles"], geometry, batch["segments"])
        middle = len(model.model.language_model.layers) // 2
        timed = bool((batch["stamp"] != IGNORE).all())
        rows = some_tokens(prefix, batch["item"]) if timed else torch.empty(0, dtype=torch.int64)
        passage = run_language(model, prefix, batch["ids"], middle, rows)
        return prefix, model.lm_head(passage.hidden[batch["labels"] != IGNORE]), passage


def _right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return (clips, questions): whether every token of the answer is the likeliest one."""
    known = labels != IGNORE
    wrong = torch.zeros_like(known)
    wrong[known] = logits.argmax(-1) != labels[known]
    return ~wrong.any(-1)


def _by_type(right: torch.Tensor, types: torch.Tensor) -> Labels:
    """Return the share of each type's questions that are answered right."""
    present = [index for index in range(len(TYPES)) if bool((types == index).any())]
    return {f"right/{TYPES[index]}": right[types == index].float().mean() for index in present}


def _dense(prefix: Prefix, probed: torch.Tensor, batch: Tensors) -> tuple[torch.Tensor, Labels]:
    """Return the probed states of the picture tokens with their labels."""
    on_picture = prefix.token >= 0
    frame, token = prefix.frame[on_picture], prefix.token[on_picture]
    states = probed[:, on_picture]
    num_clips = states.shape[0]
    shape = (num_clips, -1, _NUM_PLACES)
    flat = {name: batch[name].view(shape)[:, frame, token].flatten() for name in SEEN}
    flat["is_base"] = (token < GEOMETRY.num_base).long().expand(num_clips, -1).flatten()
    # Behind the base tile the whole frame has been seen: there is asked for the number of shapes.
    shapes = torch.where(token < GEOMETRY.num_base, IGNORE, batch["num_shapes"][:, frame])
    flat["num_shapes"] = shapes.flatten()
    flat["log_frame"] = torch.log1p(frame.float()).expand(num_clips, -1).flatten()
    return states.flatten(0, 1), flat
