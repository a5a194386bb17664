"""The shared language model: prefills a clip once, answers any number of questions on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from workers.messages import SamplingOptions
from workers.prompt import Prompt, build_prompt, join_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualSequence:
    """The bounded visual sequence of one clip.

    ``features[i]`` (k_i, hidden) are frame i's kept tokens in source order, ``keep_indices[i]``
    (k_i,) their flat indices among the frame's ``frame_length`` unpruned ones, ``marks[i]`` the
    text before it.
    """

    features: tuple[torch.Tensor, ...]
    keep_indices: tuple[torch.Tensor, ...]
    marks: tuple[str, ...]
    frame_length: int


class LanguageModel:
    """The language half of a LLaVA-NeXT checkpoint.

    Making one reads the tokenizer only, so prompts can be measured while :meth:`load` reads the
    weights.

    Args:
        location: checkpoint folder or hub name.
        device: torch device name.
        dtype: torch dtype of the weights.
        compact_positions: see :func:`workers.prompt.join_positions`.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(
        self, location: str, *, device: str, dtype: torch.dtype, compact_positions: bool
    ) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._location = location
        self._device = torch.device(device)
        self._dtype = dtype
        self._compact = compact_positions
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
        self._positions = torch.empty(0, dtype=torch.int64)

    @property
    def context_length(self) -> int:
        """Positions the model was made for."""
        return int(self._config.text_config.max_position_embeddings)

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
        """Take the visual sequence that the following questions are about."""
        self._clip, self._prefix, self._cache = clip, None, None

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> None:
        """Run all up to the last frame through the model, unless the cache holds it already.

        Cost: O(length^2) attention once for each clip (and template prefix), not for each question.
        """
        if prompt.frame_segments == self._prefix or self._clip is None:
            return
        self._positions = join_positions(
            prompt, self._clip.keep_indices, self._clip.frame_length, compact=self._compact
        )
        embed = self._model.get_input_embeddings()
        parts = []
        for segment, features in zip(prompt.frame_segments, self._clip.features, strict=True):
            parts.append(embed(torch.tensor(segment, dtype=torch.int64, device=self._device)))
            parts.append(features.to(self._device, self._dtype))
        self._cache = DynamicCache()  # whole layers: a sliding window's could not be cut back
        self._model(
            inputs_embeds=torch.cat(parts)[None],
            position_ids=self._positions[None].to(self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._prefix = prompt.frame_segments

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
        first = int(self._positions[-1]) + 1
        follow = torch.arange(first, first + question.shape[1])
        positions = torch.cat([self._positions, follow])[None].to(self._device)
        torch.manual_seed(sampling.seed)
        choice: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        choice |= {"temperature": sampling.temperature} if sampling.temperature > 0 else {}
        try:
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
