"""The two ways from the tiles of synthetic frames to an answer that ``benchmarks.gpu`` compares."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch

from benchmarks.random_llava import IMAGE_TOKEN, language_half, vision_half
from pruner import METHODS
from workers.arrays import UInt8Array
from workers.frames import Pruning, TileChunk
from workers.llm.answer import SamplingOptions
from workers.llm.decoder import Decoder
from workers.llm.prompt import Prompt
from workers.llm.rows import Row
from workers.messages import AllocateRequest, EncodeRequest
from workers.process import ModelOptions
from workers.stages import EncodeStage
from workers.vision.encoder import VisionEncoder
from workers.vision.normalize import Normalization, normalize
from workers.visual import Allocation, VisualSequence

FRAMES_PER_CHUNK = 8
HEADROOM = 4
_OPENING, _QUESTION = tuple(range(4, 20)), tuple(range(20, 44))


class Runs:
    """One model and the tiles of one synthetic frame after another, all of 2 x 2 tiles and a base.

    Args:
        model: a ``LlavaNextForConditionalGeneration`` with :mod:`benchmarks.random_llava`'s halves.
        device: where it is.
        dtype: of its weights.
        num_new_tokens: length of an answer.
    """

    def __init__(self, model: Any, *, device: str, dtype: torch.dtype, num_new_tokens: int) -> None:
        self.model = model
        self.device = device
        self.encoder = VisionEncoder(vision_half(model), device=device, dtype=dtype)
        self._dtype = dtype
        self._decoder = Decoder(language_half(model), device=device, dtype=dtype)
        self._num_new_tokens = num_new_tokens
        self.size = 2 * self.encoder.geometry.tile_size
        self.frame = self.encoder.geometry.frame(self.size, self.size)

    @cached_property
    def stage(self) -> EncodeStage:
        """The encode stage, with this model's vision half."""
        name = str(self._dtype).removeprefix("torch.")
        stage = EncodeStage(ModelOptions(device=self.device, dtype=name), lazy=True)
        stage._encoder = self.encoder
        return stage

    def tiles(self, num_frames: int) -> UInt8Array:
        """Return the tiles (5 * num_frames, size, size, 3) of frames of coarse noise."""
        side = self.encoder.geometry.tile_size
        shape = (num_frames * self.frame.num_tiles, side // 14, side // 14, 3)
        coarse = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return coarse.repeat(14, axis=1).repeat(14, axis=2)

    def chunks(self, num_frames: int) -> Iterator[TileChunk]:
        """Yield the frames as decoders hand them on."""
        tiles, step = self.tiles(num_frames), self.frame.num_tiles
        for first in range(0, num_frames, FRAMES_PER_CHUNK):
            frames = np.arange(first, min(first + FRAMES_PER_CHUNK, num_frames))
            yield TileChunk(
                clip_id="synthetic",
                frame_indices=frames,
                pts_seconds=frames.astype(np.float64),
                sizes=np.full((len(frames), 2), self.size),
                num_tiles=np.full(len(frames), step),
                tiles=tiles[frames[0] * step : (frames[-1] + 1) * step],
            )

    def watch(
        self, chunks: list[TileChunk], *, method: str, budget: int
    ) -> tuple[VisualSequence, dict[str, float]]:
        """Return what the stages make of chunks, and the busy seconds of encoding and ranking."""
        num_frames = sum(map(len, chunks))
        share, length = max(1, budget // num_frames), self.frame.num_tokens
        most = length if METHODS[method].scope == "none" else min(HEADROOM * share, length)
        pruning = Pruning(method=method, num_keep=min(share, length), max_keep=most)
        ranked, seconds = [], {"encode": 0.0, "prune": 0.0}
        for chunk in chunks:
            request = EncodeRequest(
                tiles=self.encoder.geometry, prunings=(pruning,), frame_indices=chunk.frame_indices
            )
            ((output, note),) = self.stage.run(request, chunk)
            ranked.append(output)
            seconds["encode"] += note.seconds["encode"]
            seconds["prune"] += note.news.prune_seconds[0]
        allocation = Allocation(method=method, budget=budget)
        ((visual, _),) = self.stage.run(AllocateRequest(allocation=allocation), *ranked)
        return visual, seconds

    def ask(self, chunks: list[TileChunk], *, method: str, budget: int) -> tuple[int, ...]:
        """Return the token ids of an answer about the frames of chunks, by this project."""
        visual, _ = self.watch(chunks, method=method, budget=budget)
        segments = (_OPENING, *[()] * (len(visual) - 1))
        prompt = Prompt(frame_segments=segments, question=_QUESTION)
        sampling = SamplingOptions(max_new_tokens=self._num_new_tokens)
        saying = self._decoder.say(prompt, sampling, lambda token: None)
        prefix, row, unread = self._decoder.prefill(visual, prompt), Row(slot=0), next(saying)
        while True:
            try:
                unread = saying.send(self._decoder.read(prefix, [row], [unread])[0])
            except StopIteration as end:
                token_ids, _ = end.value
                return cast(tuple[int, ...], token_ids)

    def ask_transformers(self, tiles: UInt8Array) -> tuple[int, ...]:
        """Return those of transformers' own ``generate`` on all tokens of the same tiles."""
        pixels = torch.from_numpy(tiles).to(self.device)
        pixel_values = normalize(pixels, Normalization(), self._dtype)
        num_frames = len(tiles) // self.frame.num_tiles
        images = (IMAGE_TOKEN,) * (num_frames * self.frame.num_tokens)
        ids = torch.tensor([(*_OPENING, *images, *_QUESTION)], device=self.device)
        with torch.inference_mode():
            answer = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixel_values.unflatten(0, (num_frames, -1)),
                image_sizes=torch.full((num_frames, 2), self.size, device=self.device),
                max_new_tokens=self._num_new_tokens,
            )
        return tuple(answer[0, ids.shape[1] :].tolist())
