"""The shared language model: reads a clip once, answers any number of questions about it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Event

import numpy as np
import torch

from workers.arrays import Int64Array
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.context import check_context, check_layer
from workers.llm.decoder import Decoder, Prefix
from workers.llm.detokenizer import TextStream
from workers.llm.fastv import LayerPruning
from workers.llm.model_thread import ModelThread
from workers.llm.prefix_cache import PrefixCache
from workers.llm.prompt import Prompt
from workers.llm.tokenizer import read_tokenizer
from workers.visual import VisualSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Request:
    """A question on its way through the model's thread, which puts pieces and an end into it."""

    visual: VisualSequence
    prompt: Prompt
    sampling: SamplingOptions
    pieces: "SimpleQueue[str | GeneratedAnswer | BaseException]" = field(
        default_factory=SimpleQueue
    )
    stop: Event = field(default_factory=Event)


class LanguageModel:
    """The language half of a LLaVA-NeXT checkpoint.

    Calls share nothing but a cache of what was read for earlier ones, so any call may be made anew,
    of another replica too. Calls made at once are answered one after another.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.
        device: torch device name.
        dtype: torch dtype of the weights.
        cache_tokens: tokens of earlier prompts that are kept; the last one's are in any case.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(
        self, location: str, *, device: str, dtype: torch.dtype, cache_tokens: int = 16_384
    ) -> None:
        self._tokenizer = read_tokenizer(location).load()
        self._decoder = Decoder(location, device=device, dtype=dtype)
        self._prefixes: PrefixCache[Prefix] = PrefixCache(cache_tokens)
        self._thread = ModelThread()

    def generate(
        self, visual: VisualSequence, prompt: Prompt, sampling: SamplingOptions
    ) -> Iterator[str | GeneratedAnswer]:
        """Yield the answer's text as it comes, then the whole of it with its record.

        Where the prompt has choices, the answer is the text of one and comes in one piece. It waits
        for its turn when others are asked. Closing the iterator ends the answer at its next token;
        leaving it unread holds nobody up.

        Cost: O(length^2) attention for a clip that is not in the cache, with FastV for every new
        question; O(length) a token then.

        Args:
            visual: what is shown of the clip; not modified.
            prompt: a question about its n frames, with its choices if it has any.
            sampling: greedy or drawn.

        Raises:
            ContextError: frames, question and answer do not fit.
            InputError: FastV is to prune at a layer that the model lacks.
            ValueError: the prompt is about another number of frames.
        """
        self._check(visual, prompt, sampling)
        request = _Request(visual=visual, prompt=prompt, sampling=sampling)
        self._thread.submit(partial(self._serve, request))
        try:
            yield from _read(request)
        finally:
            request.stop.set()

    def _check(self, visual: VisualSequence, prompt: Prompt, sampling: SamplingOptions) -> None:
        if len(prompt.frame_segments) != len(visual):
            raise ValueError(
                f"the prompt is about another number of frames: {len(prompt.frame_segments) = } "
                f"{len(visual) = }"
            )
        config = self._decoder.config
        if visual.fastv_keep is not None:
            check_layer(visual.fastv_layer, config.num_hidden_layers)
        length = len(visual.features)
        if not visual.compact_positions:
            length = int(visual.frame_lengths.sum())
        check_context(prompt, length, sampling.max_new_tokens, config.max_position_embeddings)

    def _serve(self, request: _Request) -> None:
        if request.stop.is_set():
            return
        try:
            request.pieces.put(self._answer(request))
        except BaseException as error:
            request.pieces.put(error)

    def _answer(self, request: _Request) -> GeneratedAnswer:
        visual, prompt = request.visual, request.prompt
        start = time.perf_counter()
        key = (
            visual.visual_id,
            prompt.frame_segments,
            None if visual.fastv_keep is None else prompt.question,
        )
        prefix = self._prefixes.get(key)
        if prefix is None:
            num_text = sum(map(len, prompt.frame_segments))
            self._prefixes.reserve(num_text + len(visual.features))
            prefix = self._decoder.prefill(visual, prompt)
            self._prefixes.put(key, prefix, len(prefix.positions))
        read = time.perf_counter()
        try:
            text, token_ids = self._say(request, prefix)
        except BaseException:  # its layers may hold different lengths now
            self._prefixes.drop(key)
            raise
        return GeneratedAnswer(
            text=text,
            token_ids=token_ids,
            num_text_tokens=prompt.num_text_tokens,
            seconds={"prefill": read - start, "generate": time.perf_counter() - read},
            keep_indices=_kept_by_question(visual, prefix.pruning),
        )

    def _say(self, request: _Request, prefix: Prefix) -> tuple[str, tuple[int, ...]]:
        """Return the answer's text and token ids, and put the text into the request as it comes."""
        prompt, sampling = request.prompt, request.sampling
        if prompt.choices:
            chosen = self._decoder.choose(prefix, prompt.question, prompt.choices, sampling)
            request.pieces.put(chosen.text)
            return chosen.text, chosen.token_ids
        text = TextStream(self._tokenizer, request.pieces.put)
        token_ids = self._decoder.generate(
            prefix, prompt.question, sampling, push=text.push, stop=request.stop
        )
        text.finish()
        return text.text.strip(), token_ids


def _read(request: _Request) -> Iterator[str | GeneratedAnswer]:
    """Yield what the model's thread puts into a request; raise what it failed with."""
    while True:
        piece = request.pieces.get()
        if isinstance(piece, BaseException):
            raise piece
        yield piece
        if isinstance(piece, GeneratedAnswer):
            return


def _kept_by_question(
    visual: VisualSequence, pruning: LayerPruning | None
) -> tuple[Int64Array, ...] | None:
    """Return what FastV kept of every frame for one question, None without it."""
    if pruning is None:
        return None
    kept = pruning.kept_visual.cpu().numpy()
    ends = np.searchsorted(kept, np.cumsum(visual.counts))
    return tuple(np.split(visual.keep_indices[kept], ends[:-1]))
