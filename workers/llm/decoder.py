"""The forward passes of the language model: what it reads of a clip, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from workers.arrays import Int64Array, unpack
from workers.llm.alike import rows_are_alike
from workers.llm.answer import MOST_TOGETHER, SamplingOptions
from workers.llm.choices import Choice
from workers.llm.choosing import choose
from workers.llm.language_model import load_language_model
from workers.llm.layer_pruning import LayerPruning, some_layers
from workers.llm.positions import join_positions, visual_mask
from workers.llm.prompt import Prompt
from workers.llm.proportional import SizedTokens
from workers.llm.quantized import quantize
from workers.llm.row_attention import EACH_ITS_OWN, MOST_QUERIES, attend_by_row
from workers.llm.row_cache import RowCache
from workers.llm.rows import Reading, Row, make_readings, read_prefix
from workers.llm.saying import Saying, end_tokens, read_controls, say
from workers.visual import VisualSequence

if TYPE_CHECKING:
    from workers.llm.grammar import Grammar


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """What the model holds of a clip: keys and values up to its last frame, and their positions.

    Where it is thinned out inside the model, all layers from some on hold nothing: ``pruning`` has
    what enters them, of which each question's own choice goes on. ``bias`` (length,) is what its
    tokens weigh in attention, as a logarithm, None where each weighs as one.
    """

    cache: RowCache
    positions: Int64Array
    bias: torch.Tensor | None = None
    pruning: LayerPruning | None = None


class Decoder:
    """The weights of a checkpoint's language model. One call at a time.

    Args:
        model: what :func:`workers.checkpoint.locate` returned, or transformers' causal language
            model, loaded in ``dtype``.
        device: torch device name.
        dtype: torch dtype of the weights.
        weights: ``"int8"`` to hold them in that; see :func:`workers.llm.quantized.quantize`.
        row_tokens: that questions may hold together of a clip that each prunes for itself.

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
        row_tokens: int = 16_384,
    ) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._device = torch.device(device)
        self._dtype = dtype
        self._row_tokens = row_tokens
        loaded = load_language_model(model, dtype) if isinstance(model, str) else model
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
        """Run all up to the last frame through the model, or the layers before it is pruned.

        Cost: O(length^2) attention.
        """
        segments, layer = prompt.frame_segments, visual.prune_layer
        positions = join_positions(prompt, visual)
        is_visual = torch.from_numpy(visual_mask(segments, visual.counts)).to(self._device)
        position_ids = torch.from_numpy(positions)[None].to(self._device)
        sized = None
        if visual.sizes is not None:
            sized = SizedTokens(visual, is_visual, self.config.max_position_embeddings)
        bias = None if sized is None else sized.log_sizes()
        cache = RowCache(None if bias is None else read_prefix(bias))
        with torch.inference_mode(), some_layers(self._model, slice(layer)):
            hidden = self._model.base_model(
                inputs_embeds=self._embed(segments, visual, is_visual),
                position_ids=position_ids,
                attention_mask=None if bias is None else EACH_ITS_OWN,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        if layer is None:
            return Prefix(cache=cache, positions=positions, bias=bias)
        cache.add_layers(self.config.num_hidden_layers)
        pruning = LayerPruning(visual, hidden, position_ids, is_visual, sized)
        return Prefix(cache=cache, positions=positions, bias=bias, pruning=pruning)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Token ids of which any ends an answer."""
        return end_tokens(self._model.generation_config.eos_token_id)

    def say(
        self,
        prompt: Prompt,
        sampling: SamplingOptions,
        push: Callable[[int], object],
        grammar: "Grammar | None" = None,
    ) -> Saying[tuple[tuple[int, ...], bool]]:
        """Return an answer that is about to be said; see :func:`workers.llm.saying.say`."""
        controls = read_controls(self._model, prompt.question, sampling)
        return say(prompt.question, controls, sampling.max_new_tokens, push, grammar)

    def choose(self, prompt: Prompt, sampling: SamplingOptions) -> Saying[Choice]:
        """Return a choice about to be said; see :func:`workers.llm.choosing.choose`."""
        return choose(prompt.question, prompt.choices, sampling, self.end_tokens)

    def most_rows(self, prefix: Prefix) -> int:
        """Return how many rows of a prefix a forward pass may take: one with a sliding window.

        Where each row holds what it keeps of the prefix, all of them stay within ``row_tokens``.
        """
        if getattr(self.config, "sliding_window", None) is not None:
            return 1
        if prefix.pruning is None:
            return MOST_TOGETHER
        return max(1, min(MOST_TOGETHER, self._row_tokens // prefix.pruning.num_kept))

    def kept_visual(self, prefix: Prefix, row: Row) -> torch.Tensor | None:
        """Return what a row keeps of the visual tokens, None where it does not choose."""
        return None if prefix.pruning is None else prefix.pruning.visual_places(row)

    def read(
        self, prefix: Prefix, rows: Sequence[Row], texts: Sequence[tuple[int, ...]]
    ) -> torch.Tensor:
        """Run the next tokens of each row through the model; no row depends on the others.

        In one forward pass, where a row of a matrix product is the same whatever is beside it.
        Where its last bits may depend on the number of rows, texts longer than a token are read one
        by one, and the pass for single tokens is filled up to ``MOST_TOGETHER``. One by one, too,
        where each brings what it keeps of the clip: such a pass is long enough.

        Args:
            prefix: that the rows go on from.
            rows: at most :meth:`most_rows`; an exception leaves them as they were.
            texts: at least a token each.

        Returns:
            The logits (rows, vocabulary) of what follows.
        """
        read = self._passes
        if self.most_rows(prefix) == 1 or (self._rows_are_alike and prefix.pruning is None):
            read = self._pass
        logits = read(prefix, rows, texts)
        for row, text in zip(rows, texts, strict=True):
            row.length += len(text)
        return logits

    def _passes(
        self, prefix: Prefix, rows: Sequence[Row], texts: Sequence[tuple[int, ...]]
    ) -> torch.Tensor:
        """Make a pass for each longer text and one, if need be filled up, for single tokens."""
        logits: dict[int, torch.Tensor] = {}
        singles = [place for place, text in enumerate(texts) if len(text) == 1]
        longer = [[place] for place, text in enumerate(texts) if len(text) > 1]
        for places in [*longer, singles] if singles else longer:
            fills = places is singles and not self._rows_are_alike
            filling = MOST_TOGETHER - len(places) if fills else 0
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
        counts = [len(text) for text in texts]
        readings = make_readings(rows, [row.length for row in rows], counts, prefix.bias)
        is_single = len(rows) == 1 and not filling and counts[0] <= MOST_QUERIES
        is_plain = is_single and prefix.bias is None
        first = int(prefix.positions[-1]) + 1
        tokens = [token for text in texts for token in text]
        places = [first + i for each in readings for i in range(each.start, each.length)]
        inputs = {
            "input_ids": torch.tensor([tokens + [0] * filling], device=self._device),
            "position_ids": torch.tensor([places + [0] * filling], device=self._device),
            "attention_mask": None if is_plain else EACH_ITS_OWN,
            "past_key_values": prefix.cache,
            "use_cache": True,
        }
        with torch.inference_mode():
            if prefix.pruning is not None:
                return self._pruned_pass(prefix.pruning, rows, readings, inputs, filling)
            with prefix.cache.reading(readings):
                return self._logits(readings, inputs, filling)

    def _pruned_pass(
        self,
        pruning: LayerPruning,
        rows: Sequence[Row],
        readings: Sequence[Reading],
        inputs: dict[str, Any],
        filling: int,
    ) -> torch.Tensor:
        """Read on in the layers that hold the whole prefix, then in those that hold some of it."""
        cache: RowCache = inputs["past_key_values"]
        with (
            some_layers(self._model, slice(pruning.layer)),
            pruning.choosing(rows, readings, cache),
        ):
            hidden = self._model.base_model(**inputs).last_hidden_state
        later = pruning.readings(rows, readings)
        inputs |= pruning.enter(rows, readings, hidden, inputs["position_ids"])
        with some_layers(self._model, slice(pruning.layer, None)), cache.reading(later):
            return self._logits(later, inputs, filling)

    def _logits(
        self, readings: Sequence[Reading], inputs: dict[str, Any], filling: int
    ) -> torch.Tensor:
        """Return the logits (rows, vocabulary) of what follows each reading."""
        ends = torch.tensor([each.end - 1 for each in readings] + [0] * filling)
        logits: torch.Tensor = self._model(**inputs, logits_to_keep=ends).logits
        return logits[0, : len(readings)]

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
