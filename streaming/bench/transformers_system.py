"""What people use today as a system of the bench: transformers' own processor and ``generate``.

Frames are read by a plain PyAV loop and enter the language model with all of their tokens.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streaming.bench.concurrency import Load, load
from streaming.bench.flops import prefill_flops, vision_flops
from streaming.bench.pictures import read_pictures
from streaming.bench.trial import Trial
from streaming.flags import change
from streaming.options import Options
from streaming.sample import SampledClip, count_tiles, sample_clip, seconds_of
from workers.checkpoint import locate, read_config
from workers.errors import InputError
from workers.families import family_of
from workers.process import peak_memory_bytes, prepare_process, prepare_torch

IMAGE = "<image>"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Said:
    """An answer, when its first token came and when it ended."""

    text: str
    num_tokens: int
    first: float
    end: float


class TransformersSystem:
    """transformers' model of images and text on the frames that the options sample.

    The second question about a clip reuses its pixels, which is all that ``generate`` lets one
    keep. A prompt beyond the model's context is answered all the same, for its time.
    """

    def __init__(self, options: Options) -> None:
        prepare_process()
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._options = options
        self._device, self._dtype = prepare_torch(options.model)
        location = locate(options.model.model)
        if family_of(read_config(location)).is_video:
            raise InputError("transformers takes a video here, not pictures: give another --model")
        self._processor: Any = AutoProcessor.from_pretrained(location)
        model: Any = AutoModelForImageTextToText.from_pretrained(location, dtype=self._dtype)
        self._model = model.to(self._device).eval()
        self._vision = _VisionClock(self._model.model, self._device)

    def close(self) -> None:
        """Nothing runs between questions."""

    def trial(self, clip: str, num_frames: int, questions: Sequence[str]) -> Trial:
        """See :class:`streaming.bench.trial.System`."""
        cpu, begin = time.process_time(), time.perf_counter()
        sampled = self._sample(clip, num_frames)
        opened = time.perf_counter()
        pictures = read_pictures(clip, sampled.frame_indices.tolist())
        decoded = time.perf_counter()
        pixels = self._process(pictures)
        tiled = time.perf_counter()
        self._vision.seconds = 0.0
        said = self._answer(pixels, sampled, questions[0])
        encode = self._vision.seconds
        cpu = time.process_time() - cpu
        asked = time.perf_counter()
        again = self._answer(pixels, sampled, questions[1])
        num_tokens = int(sampled.lengths.sum())
        length = self._ids(sampled, questions[0]).shape[1]
        num_tiles = count_tiles(sampled.source, sampled.frame_indices, sampled.tiles)
        config = self._model.config
        return Trial(
            num_frames=len(pictures),
            video_seconds=seconds_of(sampled.source),
            num_tokens_seen=num_tokens,
            num_tokens_entering=num_tokens,
            seconds={
                "open": opened - begin,
                "decode": decoded - opened,
                "tile": tiled - decoded,
                "encode": encode,
                "prefill": said.first - tiled - encode,
                "generate": said.end - said.first,
            },
            first_token_seconds=said.first - begin,
            elapsed_seconds=said.end - begin,
            second_first_token_seconds=again.first - asked,
            second_elapsed_seconds=again.end - asked,
            num_answer_tokens=said.num_tokens,
            cpu_seconds=cpu,
            gpu_seconds=said.end - tiled if self._device == "cuda" else 0.0,
            vision_flops=vision_flops(config, config.vision_config.num_hidden_layers, num_tiles),
            prefill_flops=prefill_flops(config.text_config, length),
            peak_memory_bytes={"transformers": peak_memory_bytes()},
            remark=self._remark(length),
        )

    def answers(self, clip: str, num_frames: int, questions: Sequence[str]) -> list[str]:
        """See :class:`streaming.bench.trial.System`."""
        sampled = self._sample(clip, num_frames)
        pixels = self._process(read_pictures(clip, sampled.frame_indices.tolist()))
        return [self._answer(pixels, sampled, question).text for question in questions]

    def load(
        self, clip: str, num_frames: int, questions: Sequence[str], levels: Sequence[int]
    ) -> list[Load]:
        """See :class:`streaming.bench.trial.System`; ``generate`` takes one caller at a time."""
        sampled = self._sample(clip, num_frames)
        pixels = self._process(read_pictures(clip, sampled.frame_indices.tolist()))
        turn = threading.Lock()

        def ask(question: str) -> object:
            with turn:
                return self._answer(pixels, sampled, question)

        return load(ask, questions, levels=levels)

    def _sample(self, clip: str, num_frames: int) -> SampledClip:
        options = change(self._options, {"num_frames": num_frames}, source="")
        return sample_clip(clip, options)

    def _process(self, pictures: Sequence[Any]) -> Any:
        """Return the processor's pixels of some pictures, on the model's device."""
        pixels = self._processor.image_processor(list(pictures), return_tensors="pt")
        return pixels.to(self._device, self._dtype)

    def _ids(self, sampled: SampledClip, question: str) -> Any:
        """Return the token ids (1, length) that the processor makes of the frames and a text."""
        images = [{"type": "image"} for _ in sampled.lengths]
        content = [*images, {"type": "text", "text": question}]
        prompt = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        for length in sampled.lengths.tolist():
            prompt = prompt.replace(IMAGE, "\0" * length, 1)
        tokens = self._processor.tokenizer(prompt.replace("\0", IMAGE), return_tensors="pt")
        return tokens["input_ids"].to(self._device)

    def _answer(self, pixels: Any, sampled: SampledClip, question: str) -> _Said:
        import torch

        ids = self._ids(sampled, question)
        times = _FirstToken()
        generation = self._options.generation
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **pixels,
                max_new_tokens=generation.max_new_tokens,
                do_sample=False,
                streamer=times,
            )
        tokens = output[0, ids.shape[1] :].tolist()
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        end = time.perf_counter()
        return _Said(text=text.strip(), num_tokens=len(tokens), first=times.first, end=end)

    def _remark(self, length: int) -> str:
        context = self._model.config.text_config.max_position_embeddings
        if length <= context:
            return ""
        return f"{length:,} tokens: beyond the model's context of {context:,}"


class _FirstToken:
    """A streamer that notes when the first token comes."""

    def __init__(self) -> None:
        self.first = 0.0
        self._has_prompt = False

    def put(self, tokens: Any) -> None:
        """Take the prompt, then one token after another."""
        if self._has_prompt:
            self.first = self.first or time.perf_counter()
        self._has_prompt = True

    def end(self) -> None:
        """Do nothing."""


class _VisionClock:
    """Sums up the seconds from the vision tower's start to the projector's end, on any device."""

    def __init__(self, model: Any, device: str) -> None:
        self.seconds = 0.0
        self._device = device
        self._begin = 0.0
        model.vision_tower.register_forward_pre_hook(lambda *_: self._start())
        model.multi_modal_projector.register_forward_hook(lambda *_: self._stop())

    def _start(self) -> None:
        self._begin = self._now()

    def _stop(self) -> None:
        self.seconds += self._now() - self._begin

    def _now(self) -> float:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()
