"""The forward passes of the language model: what it reads of a clip, and what it answers."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    DynamicCache,
    GenerationConfig,
    LlavaNextConfig,
    PreTrainedModel,
    StoppingCriteria,
)
from transformers.utils import logging

from workers.arrays import Int64Array, unpack
from workers.checkpoint import LANGUAGE_MODEL, build_module, read_config, read_tensors
from workers.llm.answer import SamplingOptions
from workers.llm.choices import Choice
from workers.llm.choosing import choose
from workers.llm.fastv import LayerPruning
from workers.llm.positions import join_positions, visual_mask
from workers.llm.prompt import Prompt
from workers.visual import VisualSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """What the model holds of a clip: keys and values up to its last frame, and their positions.

    With FastV they are those that ``pruning`` chose for one question, so that its answer only can
    go on from here.
    """

    cache: Any
    positions: Int64Array
    pruning: LayerPruning | None


class Decoder:
    """The weights of a LLaVA-NeXT checkpoint's language model. One call at a time.

    Args:
        model: what :func:`workers.checkpoint.locate` returned, or transformers' causal language
            model, loaded in ``dtype``.
        device: torch device name.
        dtype: torch dtype of the weights.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(self, model: str | PreTrainedModel, *, device: str, dtype: torch.dtype) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._device = torch.device(device)
        self._dtype = dtype
        loaded = _load(model, dtype) if isinstance(model, str) else model
        self._model: Any = loaded.to(self._device)

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
        cache = DynamicCache()  # whole layers: a sliding window's could not be cut back
        with torch.inference_mode(), pruning.prefill() if pruning else nullcontext():
            self._model(
                inputs_embeds=self._embed(segments, visual, is_visual.to(self._device)),
                position_ids=self._follow(positions, len(tail)),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        if tail:
            cache.crop(-len(tail))
        return Prefix(cache=cache, positions=positions, pruning=pruning)

    def generate(
        self,
        prefix: Prefix,
        question: tuple[int, ...],
        sampling: SamplingOptions,
        *,
        push: Callable[[int], None],
        stop: Event,
    ) -> tuple[int, ...]:
        """Answer from where the prefix ends, and cut its cache back to there.

        An exception leaves the cache in no state to go on from.

        Args:
            prefix: of the clip; its cache grows and shrinks meanwhile.
            question: token ids of all that follows it.
            sampling: greedy or drawn.
            push: gets every token as it comes.
            stop: ends the answer at the next token once it is set.

        Returns:
            The answer's token ids.
        """
        tokens = torch.tensor([question], device=self._device)
        positions = self._follow(prefix.positions, len(question))
        torch.manual_seed(sampling.seed)
        choice: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        choice |= {"temperature": sampling.temperature} if sampling.temperature > 0 else {}
        with torch.inference_mode(), _going_on(prefix):
            ids = self._model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(positions),
                position_ids=positions,
                past_key_values=prefix.cache,
                max_new_tokens=sampling.max_new_tokens,
                streamer=_Streamer(push),
                stopping_criteria=[_Stopped(stop)],
                **choice,
            )
        prefix.cache.crop(len(prefix.positions) - prefix.cache.get_seq_length())
        return tuple(ids[0, len(question) :].tolist())

    def choose(
        self,
        prefix: Prefix,
        question: tuple[int, ...],
        choices: tuple[Choice, ...],
        sampling: SamplingOptions,
    ) -> Choice:
        """Answer with one of some choices, and cut the prefix's cache back to where it ends.

        See :func:`workers.llm.choosing.choose`. An exception leaves the cache in no state to go on
        from.
        """
        ends = self._model.generation_config.eos_token_id
        end_tokens = ends if isinstance(ends, list) else [] if ends is None else [ends]
        with torch.inference_mode(), _going_on(prefix):
            chosen = choose(partial(self._read, prefix), question, choices, sampling, end_tokens)
        prefix.cache.crop(len(prefix.positions) - prefix.cache.get_seq_length())
        return chosen

    def _read(self, prefix: Prefix, tokens: tuple[int, ...]) -> torch.Tensor:
        """Run tokens through the model from where the cache ends; return the last one's logits."""
        num_read = prefix.cache.get_seq_length() - len(prefix.positions)
        positions = self._follow(prefix.positions, num_read + len(tokens))
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor([tokens], device=self._device),
            attention_mask=torch.ones_like(positions),
            position_ids=positions[:, -len(tokens) :],
            past_key_values=prefix.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[0, -1]

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
    whole = LlavaNextConfig(**read_config(location))
    config = whole.text_config
    tensors = read_tensors(location, LANGUAGE_MODEL, dtype=dtype)
    config.tie_word_embeddings = "lm_head.weight" not in tensors
    model = build_module(
        MODEL_FOR_CAUSAL_LM_MAPPING[type(config)],
        location,
        config=config,
        tensors=tensors,
        dtype=dtype,
    )
    try:
        model.generation_config = GenerationConfig.from_pretrained(location)
    except OSError:
        model.generation_config = GenerationConfig.from_model_config(whole)
    return model


def _going_on(prefix: Prefix) -> AbstractContextManager[None]:
    """Let the forward passes inside go on from a prefix, pruned or not."""
    return prefix.pruning.generation() if prefix.pruning else nullcontext()


class _Streamer:
    """Hands the tokens of an answer on as transformers draws them; the prompt comes first."""

    def __init__(self, push: Callable[[int], None]) -> None:
        self._push = push
        self._in_prompt = True

    def put(self, tokens: torch.Tensor) -> None:
        if self._in_prompt:
            self._in_prompt = False
            return
        for token in tokens.flatten().tolist():
            self._push(token)

    def end(self) -> None:
        """All tokens have come."""


class _Stopped(StoppingCriteria):  # type: ignore[misc]
    """Ends an answer that nobody waits for any more."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._stop.is_set(), device=input_ids.device)
