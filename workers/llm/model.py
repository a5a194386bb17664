"""The shared language model: prefills a clip once, answers any number of questions on it."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from threading import Event, Thread
from typing import Any, cast

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoProcessor,
    DynamicCache,
    GenerationConfig,
    LlavaNextConfig,
    StoppingCriteria,
    TextIteratorStreamer,
)
from transformers.utils import logging

from workers.checkpoint import LANGUAGE_MODEL, build_module, read_config, read_tensors
from workers.errors import ModelError
from workers.llm.fastv import LayerPruning, check_layer
from workers.llm.prompt import Prompt, build_prompt, join_positions
from workers.llm.sequence import VisualSequence
from workers.messages import SamplingOptions


class LanguageModel:
    """The language half of a LLaVA-NeXT checkpoint.

    Making one reads the tokenizer only, so prompts can be measured while :meth:`load` reads the
    weights.

    Args:
        location: checkpoint folder or hub name.
        device: torch device name.
        dtype: torch dtype of the weights.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(self, location: str, *, device: str, dtype: torch.dtype) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._location = location
        self._device = torch.device(device)
        self._dtype = dtype
        self._config = LlavaNextConfig(**read_config(location))
        try:
            self.processor = AutoProcessor.from_pretrained(location)
        except (OSError, ValueError) as error:
            raise ModelError(f"{location}: processor: {str(error).splitlines()[0]}") from None
        if not getattr(self.processor, "chat_template", None):
            raise ModelError(f"{location}: the checkpoint has no chat template")
        self._model: Any = None
        self._clip: VisualSequence | None = None
        self._prefix: tuple[tuple[int, ...], ...] | None = None
        self._cache: Any = None
        self._pruning: LayerPruning | None = None
        self._positions = torch.empty(0, dtype=torch.int64)

    @property
    def context_length(self) -> int:
        """Positions the model was made for."""
        return int(self._config.text_config.max_position_embeddings)

    @property
    def fastv_kept(self) -> torch.Tensor | None:
        """Places of the tokens that FastV kept among the visual tokens, ascending; None without."""
        return None if self._pruning is None else self._pruning.kept_visual

    def prompt(self, question: str, marks: Sequence[str]) -> Prompt:
        """Tokenize a question about frames with these marks."""
        return build_prompt(self.processor, question, marks)

    def load(self) -> None:
        """Read the weights; does nothing where they are loaded already."""
        if self._model is not None:
            return
        config = self._config.text_config
        tensors = read_tensors(self._location, LANGUAGE_MODEL, dtype=self._dtype)
        config.tie_word_embeddings = "lm_head.weight" not in tensors
        model = build_module(
            MODEL_FOR_CAUSAL_LM_MAPPING[type(config)],
            self._location,
            config=config,
            tensors=tensors,
            dtype=self._dtype,
        )
        try:
            model.generation_config = GenerationConfig.from_pretrained(self._location)
        except OSError:
            model.generation_config = GenerationConfig.from_model_config(self._config)
        self._model = model.to(self._device)

    def set_clip(self, clip: VisualSequence) -> None:
        """Take the visual sequence that the following questions are about.

        Raises:
            InputError: its FastV layer is none of this model's.
        """
        if clip.fastv_keep is not None:
            check_layer(clip.fastv_layer, self._config.text_config.num_hidden_layers)
        self._clip, self._prefix, self._cache, self._pruning = clip, None, None, None

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> None:
        """Run all up to the last frame through the model, unless the cache holds it already.

        With FastV the question goes along, as the choice depends on it, and leaves the cache again.

        Cost: O(length^2) attention once for each clip (and template prefix), not for each question;
        with FastV for each question.
        """
        clip = self._clip
        if clip is None:
            return
        tail = () if clip.fastv_keep is None else prompt.question
        prefix = (*prompt.frame_segments, tail)
        if prefix == self._prefix:
            return
        self._prefix, self._pruning = None, None
        self._positions = join_positions(
            prompt, clip.keep_indices, clip.frame_length, compact=clip.compact_positions
        )
        embeds, is_visual = self._embed(prefix, clip.features)
        if clip.fastv_keep is not None:
            self._pruning = LayerPruning(
                self._model, layer=clip.fastv_layer, is_visual=is_visual, num_keep=clip.fastv_keep
            )
        self._cache = DynamicCache()  # whole layers: a sliding window's could not be cut back
        with self._pruning.prefill() if self._pruning else nullcontext():
            self._model(
                inputs_embeds=embeds,
                position_ids=self._follow(len(tail)),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        if tail:
            self._cache.crop(-len(tail))
        self._prefix = prefix

    def _embed(
        self, segments: Sequence[tuple[int, ...]], features: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return text and frames in turn (1, length, hidden), and which of it is visual."""
        embed = self._model.get_input_embeddings()
        parts = []
        for segment, visual in zip(segments, (*features, features[0][:0]), strict=True):
            parts.append(embed(torch.tensor(segment, dtype=torch.int64, device=self._device)))
            parts.append(visual.to(self._device, self._dtype))
        lengths = torch.tensor([len(part) for part in parts])
        is_visual = torch.tensor([False, True]).repeat(len(segments)).repeat_interleave(lengths)
        return torch.cat(parts)[None], is_visual

    def _follow(self, num_tokens: int) -> torch.Tensor:
        """Return the position ids (1, length) of the prefix and of tokens right behind it."""
        first = int(self._positions[-1]) + 1
        follow = torch.arange(first, first + num_tokens)
        return torch.cat([self._positions, follow])[None].to(self._device)

    def answer(self, prompt: Prompt, sampling: SamplingOptions) -> Iterator[str]:
        """Yield the answer's text as it comes, then leave the cache as it was before.

        Args:
            prompt: whose frames are those of the clip set last.
            sampling: greedy or drawn.
        """
        self.prefill(prompt)
        streamer = TextIteratorStreamer(
            self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True
        )
        failures: list[BaseException] = []
        stop = Event()

        def run() -> None:
            try:
                self.token_ids = self._generate(prompt, sampling, streamer, stop)
            except BaseException as error:
                failures.append(error)
            finally:
                streamer.end()

        thread = Thread(target=run, daemon=True)
        thread.start()
        try:
            yield from filter(None, streamer)
        finally:  # the cache is free again only once the thread has put it in order
            stop.set()
            thread.join()
        if failures:
            raise failures[0]

    @torch.inference_mode()
    def _generate(
        self, prompt: Prompt, sampling: SamplingOptions, streamer: Any, stop: Event
    ) -> list[int]:
        question = torch.tensor([prompt.question], device=self._device)
        positions = self._follow(question.shape[1])
        torch.manual_seed(sampling.seed)
        choice: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        choice |= {"temperature": sampling.temperature} if sampling.temperature > 0 else {}
        try:
            with self._pruning.generation() if self._pruning else nullcontext():
                ids = self._model.generate(
                    input_ids=question,
                    attention_mask=torch.ones_like(positions),
                    position_ids=positions,
                    past_key_values=self._cache,
                    max_new_tokens=sampling.max_new_tokens,
                    streamer=streamer,
                    stopping_criteria=[_Stopped(stop)],
                    **choice,
                )
        finally:
            self._cache.crop(len(self._positions) - self._cache.get_seq_length())
        return cast(list[int], ids[0, question.shape[1] :].tolist())


class _Stopped(StoppingCriteria):  # type: ignore[misc]
    """Ends an answer that nobody waits for any more."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._stop.is_set(), device=input_ids.device)
