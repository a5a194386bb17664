"""The shared language model: reads a clip once, answers any number of questions about it."""

import time
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from workers.checkpoint import locate
from workers.errors import ModelError
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.context import check_context, check_layer
from workers.llm.decoder import Decoder, Prefix
from workers.llm.model_thread import ModelThread
from workers.llm.prefix_cache import PrefixCache
from workers.llm.prompt import Prompt
from workers.llm.question import Question
from workers.llm.tokenizer import read_tokenizer
from workers.llm.turn import Turn
from workers.process import ModelOptions, prepare_torch
from workers.visual import VisualSequence

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from workers.llm.grammar import Grammar


def load_language_model(options: ModelOptions) -> "LanguageModel":
    """Return the language model that the options name; raises ModelError where it cannot be."""
    device, dtype = prepare_torch(options)
    return LanguageModel(
        locate(options.model),
        device=device,
        dtype=dtype,
        cache_tokens=options.cache_tokens,
        weights=options.llm_weights,
    )


class LanguageModel:
    """The language half of a LLaVA-NeXT checkpoint.

    Calls share nothing but a cache of what was read for earlier ones, so any call may be made anew,
    of another replica too. Calls made at once take turns in the order they come; those that follow
    one another about the same clip share a turn, and the forward passes of it.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.
        device: torch device name.
        dtype: torch dtype of the weights.
        cache_tokens: tokens of earlier prompts that are kept; the last one's are in any case. Also
            those that questions answered together may hold of a clip that each prunes for itself.
        weights: how they are held; see :class:`Decoder`.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(
        self,
        location: str,
        *,
        device: str,
        dtype: torch.dtype,
        cache_tokens: int = 16_384,
        weights: str = "dtype",
    ) -> None:
        self._location = location
        self._tokenizer = read_tokenizer(location).load()
        self._decoder = Decoder(
            location, device=device, dtype=dtype, weights=weights, row_tokens=cache_tokens
        )
        self._prefixes: PrefixCache[Prefix] = PrefixCache(cache_tokens)
        self._waiting: deque[Question] = deque()
        self._thread = ModelThread()

    def generate(
        self, visual: VisualSequence, prompt: Prompt, sampling: SamplingOptions
    ) -> Iterator[str | GeneratedAnswer]:
        """Yield the answer's text as it comes, then the whole of it with its record.

        Where the prompt has choices, the answer is the text of one and comes in one piece; with a
        schema it is JSON that follows it, as far as it comes. It waits for its turn when others are
        asked, and is the same whatever they are. Closing the iterator ends the answer at its next
        token; leaving it unread holds nobody up.

        Cost: O(length^2) attention for a clip that is not in the cache, where it is pruned inside
        the model O(num_keep^2) for every question; O(length) a token then.

        Args:
            visual: what is shown of the clip; not modified.
            prompt: a question about its n frames, with its choices if it has any.
            sampling: greedy or drawn, free or by a schema.

        Raises:
            ContextError: frames, question and answer do not fit.
            InputError: it is to be pruned at a layer that the model lacks, or no answer can follow
                the schema.
            ModelError: schemas cannot be followed here.
            ValueError: the prompt is about another number of frames.
        """
        self._check(visual, prompt, sampling)
        question = Question(visual, prompt, sampling, self._grammar(sampling.json_schema))
        self._waiting.append(question)  # which threads may do at once; only the model's takes
        self._thread.submit(self._serve)
        try:
            yield from question.pieces()
        finally:
            question.stop.set()

    def _check(self, visual: VisualSequence, prompt: Prompt, sampling: SamplingOptions) -> None:
        if len(prompt.frame_segments) != len(visual):
            raise ValueError(
                f"the prompt is about another number of frames: {len(prompt.frame_segments) = } "
                f"{len(visual) = }"
            )
        config = self._decoder.config
        if visual.prune_layer is not None:
            check_layer(visual.prune_layer, config.num_hidden_layers)
        length = len(visual.features) if visual.compact_positions else visual.unpruned_length
        check_context(prompt, length, sampling.max_new_tokens, config.max_position_embeddings)

    def _grammar(self, schema: str | None) -> "Grammar | None":
        """Make the grammar of an answer, in the thread of whoever asks: nobody else waits."""
        if schema is None:
            return None
        vocabulary = self._vocabulary
        from workers.llm.grammar import Grammar

        return Grammar(vocabulary, self._decoder.config.vocab_size, schema)

    @cached_property
    def _vocabulary(self) -> "LLTokenizer":
        try:
            from workers.llm.grammar import read_vocabulary
        except ImportError:
            raise ModelError(
                "--json-schema needs llguidance where the language model is: "
                "pip install 'mr-stream[schemas]'"
            ) from None
        return read_vocabulary(self._location, self._decoder.end_tokens)

    def _serve(self) -> None:
        """Answer the question that waits longest and those right behind it about the same clip."""
        first = self._next()
        if first is None:  # answered in another's turn
            return
        start = time.perf_counter()
        try:
            prefix = self._prefix(first)
        except BaseException as error:
            self._take(first)
            first.fail(error)
            return
        first.prefill_seconds = time.perf_counter() - start
        Turn(self._decoder, self._tokenizer, prefix, lambda: self._take(first)).run()

    def _prefix(self, question: Question) -> Prefix:
        """Return what the model has read of a question's clip, if need be after reading it."""
        visual, prompt, key = question.visual, question.prompt, question.key
        prefix = self._prefixes.get(key)
        if prefix is None:
            num_text = sum(map(len, prompt.frame_segments))
            self._prefixes.reserve(num_text + len(visual.features))
            prefix = self._decoder.prefill(visual, prompt)
            self._prefixes.put(key, prefix, len(prefix.positions))
        return prefix

    def _take(self, like: Question) -> Question | None:
        """Take the question that waits longest if it goes on from the same prefix as another."""
        question = self._next()
        if question is None or question.key != like.key:
            return None
        return self._waiting.popleft()

    def _next(self) -> Question | None:
        """Return the question that waits longest; those that nobody waits for go."""
        while self._waiting and self._waiting[0].stop.is_set():
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None
