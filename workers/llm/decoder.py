"""The forward passes of the language model: what it reads of a clip, and what it answers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig, PreTrainedModel
from transformers.utils import logging

from workers.arrays import Int64Array, unpack
from workers.checkpoint import LANGUAGE_MODEL, build_module, read_tensors
from workers.errors import ModelError
from workers.families import load_config
from workers.llm.alike import rows_are_alike
from workers.llm.answer import MOST_TOGETHER, SamplingOptions
from workers.llm.choices import Choice
from workers.llm.choosing import choose
from workers.llm.fastv import LayerPruning
from workers.llm.positions import join_positions, visual_mask
from workers.llm.prompt import Prompt
from workers.llm.quantized import quantize
from workers.llm.rows import Row, RowCache, attend_by_row, make_readings
from workers.llm.saying import Saying, end_tokens, read_controls, say
from workers.visual import VisualSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """What the model holds of a clip: keys and values up to its last frame, and their positions.

    With FastV they are those that ``pruning`` chose for one question, so that its answer only can
    go on from here.
    """

    cache: RowCache
    positions: Int64Array
    pruning: LayerPruning | None


class Decoder:
    """The weights of a checkpoint's language model. One call at a time.

    Args:
        model: what :func:`workers.checkpoint.locate` returned, or transformers' causal language
            model, loaded in ``dtype``.
        device: torch device name.
        dtype: torch dtype of the weights.
        weights: ``"int8"`` to hold them in that; see :func:`workers.llm.quantized.quantize`.

    Raises:
        ModelError: the checkpoint cannot be used, or torchao is not installed.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        *,
        device: str,
        dtype: torch.dtype,
        weights: str = "dtype",
    ) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._device = torch.device(device)
        self._dtype = dtype
        loaded = _load(model, dtype) if isinstance(model, str) else model
        if weights == "int8":
            quantize(loaded, self._device)
        self._model: Any = loaded.to(self._device)
        attend_by_row(self._model)
        self._rows_are_alike = rows_are_alike(self._model, MOST_TOGETHER)

    @property
    def config(self) -> Any:
        """The language model's configuration, as transformers has it."""
        return self._model.config

    def prefill(self, visual: VisualSequence, prompt: Prompt) -> Prefix:
        """Run all up to the last frame through the model.

        With FastV the question goes along, and leaves the cache again.

        Cost: O(length^2) attention.
        """
        tail = () if visual.fastv_keep is None else prompt.question
        segments = (*prompt.frame_segments, tail)
        positions = join_positions(prompt, visual)
        is_visual = torch.from_numpy(visual_mask(segments, visual.counts))
        pruning = None
        if visual.fastv_keep is not None:
            pruning = LayerPruning(
                self._model,
                layer=visual.fastv_layer,
                is_visual=is_visual,
                num_keep=visual.fastv_keep,
            )
        cache = RowCache()
        with torch.inference_mode(), pruning.prefill() if pruning else nullcontext():
            self._model(
                inputs_embeds=self._embed(segments, visual, is_visual.to(self._device)),
                position_ids=self._follow(positions, len(tail)),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        cache.end_prefix(len(tail))
        return Prefix(cache=cache, positions=positions, pruning=pruning)

    def say(
        self, prompt: Prompt, sampling: SamplingOptions, push: Callable[[int], object]
    ) -> Saying[tuple[int, ...]]:
        """Return an answer that is about to be said; see :func:`workers.llm.saying.say`."""
        controls = read_controls(self._model, prompt.question, sampling)
        return say(prompt.question, controls, sampling.max_new_tokens, push)

    def choose(self, prompt: Prompt, sampling: SamplingOptions) -> Saying[Choice]:
        """Return a choice about to be said; see :func:`workers.llm.choosing.choose`."""
        ends = end_tokens(self._model.generation_config.eos_token_id)
        return choose(prompt.question, prompt.choices, sampling, ends)

    def most_rows(self, prefix: Prefix) -> int:
        """Return how many rows of a prefix a forward pass may take.

        One where some layers see fewer keys than others: with FastV, or with a sliding window.
        """
        has_window = getattr(self.config, "sliding_window", None) is not None
        return 1 if has_window or prefix.pruning else MOST_TOGETHER

    def read(
        self, prefix: Prefix, rows: Sequence[Row], texts: Sequence[tuple[int, ...]]
    ) -> torch.Tensor:
        """Run the next tokens of each row through the model; no row depends on the others.

        In one forward pass, where a row of a matrix product is the same whatever is beside it.
        Where its last bits may depend on the number of rows, texts longer than a token are read one
        by one, and the pass for single tokens is filled up to ``MOST_TOGETHER``.

        Args:
            prefix: that the rows go on from.
            rows: at most :meth:`most_rows`; an exception leaves them as they were.
            texts: at least a token each.

        Returns:
            The logits (rows, vocabulary) of what follows.
        """
        lengths = [row.length for row in rows]
        try:
            if self._rows_are_alike or self.most_rows(prefix) == 1:
                return self._pass(prefix, rows, texts)
            return self._passes(prefix, rows, texts)
        except BaseException:
            for row, length in zip(rows, lengths, strict=True):
                row.length = length
            raise

    def _passes(
        self, prefix: Prefix, rows: Sequence[Row], texts: Sequence[tuple[int, ...]]
    ) -> torch.Tensor:
        """Make a pass for each longer text and one, filled up, for single tokens."""
        logits: dict[int, torch.Tensor] = {}
        singles = [place for place, text in enumerate(texts) if len(text) == 1]
        longer = [[place] for place, text in enumerate(texts) if len(text) > 1]
        for places in [*longer, singles] if singles else longer:
            filling = MOST_TOGETHER - len(places) if places is singles else 0
            some = [rows[i] for i in places], [texts[i] for i in places]
            logits |= zip(places, self._pass(prefix, *some, filling), strict=True)
        return torch.stack([logits[place] for place in range(len(rows))])

    def _pass(
        self,
        prefix: Prefix,
        rows: Sequence[Row],
        texts: Sequence[tuple[int, ...]],
        filling: int = 0,
    ) -> torch.Tensor:
        readings = make_readings(rows, texts)
        first = int(prefix.positions[-1]) + 1
        tokens = [token for text in texts for token in text]
        places = [first + i for each in readings for i in range(each.row.length, each.length)]
        is_alone = len(rows) == 1 and not filling
        with torch.inference_mode(), _going_on(prefix), prefix.cache.reading(readings):
            logits: torch.Tensor = self._model(
                input_ids=torch.tensor([tokens + [0] * filling], device=self._device),
                position_ids=torch.tensor([places + [0] * filling], device=self._device),
                attention_mask=None if is_alone else torch.empty(1, 1, 0, 0),  # else made for all
                past_key_values=prefix.cache,
                use_cache=True,
                logits_to_keep=torch.tensor([each.end - 1 for each in readings]),
            ).logits
        return logits[0]

    def _embed(
        self, segments: tuple[tuple[int, ...], ...], visual: VisualSequence, is_visual: torch.Tensor
    ) -> torch.Tensor:
        """Return text and frames in turn (1, length, hidden); one copy to the device of each."""
        tokens = [token for segment in segments for token in segment]
        text = torch.tensor(tokens, dtype=torch.int64, device=self._device)
        text = self._model.get_input_embeddings()(text)
        embeds: torch.Tensor = text.new_empty(len(is_visual), text.shape[1])
        embeds[~is_visual] = text
        embeds[is_visual] = unpack(visual.features, visual.dtype).to(self._device, self._dtype)
        return embeds[None]

    def _follow(self, positions: Int64Array, num_tokens: int) -> torch.Tensor:
        """Return the position ids (1, length) of a prefix and of tokens right behind it."""
        first = positions[-1] + 1
        follow = np.concatenate([positions, np.arange(first, first + num_tokens)])
        return torch.from_numpy(follow)[None].to(self._device)


def _load(location: str, dtype: torch.dtype) -> Any:
    whole = load_config(location)
    config = whole.text_config
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{location}: a {config.model_type!r} is no language model")
    tensors = read_tensors(location, LANGUAGE_MODEL, dtype=dtype)
    config.tie_word_embeddings = "lm_head.weight" not in tensors
    model = build_module(
        MODEL_FOR_CAUSAL_LM_MAPPING[type(config)],
        location,
        config=config,
        tensors=tensors,
        dtype=dtype,
    )
    layers = getattr(model.base_model, "layers", [None])
    if any(getattr(layer, "self_attn", None) is None for layer in layers):
        raise ModelError(
            f"{location}: a {type(model).__name__} cannot read clips: not all of its layers are of "
            "attention, as those of Llama, Mistral, Qwen2 and Granite are"
        )
    try:
        model.generation_config = GenerationConfig.from_pretrained(location)
    except OSError:
        model.generation_config = GenerationConfig.from_model_config(whole)
    return model


def _going_on(prefix: Prefix) -> AbstractContextManager[None]:
    """Let the forward passes inside go on from a prefix, pruned or not."""
    return prefix.pruning.generation() if prefix.pruning else nullcontext()
