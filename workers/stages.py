"""The three stages as ordinary classes: decode, encode and prune, answer.

Each works in-process or inside an actor; nothing here knows which.
"""

import io
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workers.messages import (
    BudgetOptions,
    Candidates,
    FrameChunk,
    FrameSelection,
    GeneratedAnswer,
    Int64Array,
    ModelOptions,
    PromptCost,
    PruneOptions,
    SamplingOptions,
    Segment,
    UInt8Array,
)
from workers.process import Stage, prepare_torch, release_memory

if TYPE_CHECKING:
    from workers.vision.encoder import FrameFeatures


class DecodeStage(Stage):
    """File to pictures."""

    def decode(self, segment: Segment) -> Iterator[FrameChunk]:
        """Yield the segment's chunks in order; see :func:`workers.video.decode.decode_segment`."""
        from workers.video.decode import decode_segment

        chunks = decode_segment(segment)
        while True:
            with self._timed("decode"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


class EncodeStage(Stage):
    """Pictures to each frame's best visual tokens."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        from workers.checkpoint import locate
        from workers.vision.encoder import VisionEncoder

        device, dtype = prepare_torch(options)
        self._dtype = str(dtype).removeprefix("torch.")
        self._encoder = VisionEncoder(locate(options.model), device=device, dtype=dtype)

    def encode(self, chunk: FrameChunk, prunings: Sequence[PruneOptions]) -> tuple[Candidates, ...]:
        """Encode a chunk's frames once, and rank their tokens in one or several ways.

        Args:
            chunk: at least one frame; not modified.
            prunings: how; the same for all frames of a clip.

        Returns:
            For each of ``prunings`` the first ``max_keep`` tokens of each frame's ranking.
        """
        candidates = self._encode(chunk, prunings)
        release_memory()  # its features are gone by now
        return candidates

    def _encode(
        self, chunk: FrameChunk, prunings: Sequence[PruneOptions]
    ) -> tuple[Candidates, ...]:
        with self._timed("encode"):
            base_only = all(prune.base_only for prune in prunings)
            features = self._encoder.encode(chunk.frames, base_only=base_only)
        return tuple(self._prune(chunk, features, prune) for prune in prunings)

    def _prune(
        self, chunk: FrameChunk, features: "FrameFeatures", prune: PruneOptions
    ) -> Candidates:
        import torch

        from pruner import Settings, Task, rank
        from workers.arrays import pack

        if prune.base_only:
            features = features.without_grid()
        start = time.perf_counter()
        with self._timed("prune"), torch.inference_mode():
            settings = Settings(
                similarity=prune.similarity,
                cross_similarity=prune.cross_similarity,
                temperature=prune.temperature,
                beta=prune.beta,
                num_steps=prune.num_steps,
                cross_resolution=prune.cross_resolution,
                half_precision_degree=prune.half_precision_degree,
            )
            task = Task(
                num_keep=prune.num_keep,
                frame_indices=chunk.frame_indices.tolist(),
                settings=settings,
                seed=prune.seed,
                newlines_last=prune.newlines_last,
            )
            ranking = rank(prune.ranker, features.base, features.grid, task)
            order = ranking.order[:, : prune.max_keep]
            newline = features.newline.expand(*features.grid.shape[:2], 1, -1)
            rows = torch.cat([features.grid, newline], dim=2).flatten(1, 2)
            flat = torch.cat([features.base, rows], dim=1)  # (n, num_tokens, hidden)
            kept = torch.take_along_dim(flat, order[..., None], dim=1).flatten(0, 1)
        num_frames, num_kept = order.shape
        return Candidates(
            frame_indices=chunk.frame_indices,
            pts_seconds=chunk.pts_seconds,
            counts=np.full(num_frames, num_kept, np.int64),
            order=pack(order.flatten()),
            features=pack(kept),
            dtype=self._dtype,
            informativeness=pack(ranking.informativeness),
            num_base=features.base.shape[1],
            rows=features.grid.shape[1],
            columns=features.grid.shape[2],
            thumbnails=tuple(
                make_thumbnail(frame, prune.thumbnail_width)
                for frame in chunk.frames
                if prune.thumbnail_width
            ),
            prune_seconds=time.perf_counter() - start,
        )


class AnswerStage(Stage):
    """Visual tokens and questions to answers."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        from workers.checkpoint import locate
        from workers.llm.model import LanguageModel

        device, dtype = prepare_torch(options)
        self._model = LanguageModel(locate(options.model), device=device, dtype=dtype)
        self._marks: tuple[str, ...] = ()
        self._num_frames = self._frame_length = 0

    def measure(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        """Count the tokens that questions about frames at these times cost.

        ``pts_seconds`` are the frames to be marked with their time; empty marks none.
        """
        from workers.llm.prompt import time_mark

        def text(question: str, marks: Sequence[str]) -> int:
            return self._model.prompt(question, marks).num_text_tokens

        one = max(text(question, [""]) for question in questions)
        separators = text(questions[0], ["", ""]) - text(questions[0], [""])
        plain = self._model.prompt(questions[0], [""] * len(pts_seconds)).frame_segments
        marked = self._model.prompt(questions[0], [time_mark(t) for t in pts_seconds])
        return PromptCost(
            context_length=self._model.context_length,
            num_text_tokens=one - separators,
            num_separator_tokens=separators,
            num_marker_tokens=tuple(
                len(with_mark) - len(without)
                for with_mark, without in zip(marked.frame_segments, plain, strict=True)
            ),
        )

    def load(self) -> None:
        """Read the weights; called once, while the clip is still being encoded."""
        with self._timed("load"):
            self._model.load()

    def select(
        self, options: BudgetOptions, *encoded: tuple[Candidates, ...]
    ) -> tuple[FrameSelection, ...]:
        """Take a clip: share the budget out and hold the bounded visual sequence for questions.

        Args:
            options: the budget, and which of the prunings it is for.
            encoded: what :meth:`EncodeStage.encode` returned for every chunk, in any order.
        """
        from workers.selection import select

        with self._timed("select"):
            candidates = [prunings[options.pruning] for prunings in encoded]
            frames = sorted(
                (int(index), float(pts))
                for each in candidates
                for index, pts in zip(each.frame_indices, each.pts_seconds, strict=True)
            )
            times = [pts for _, pts in frames] if options.time_marks else []
            cost = self.measure([""], times)
            markers = cost.num_marker_tokens if options.time_marks else (0,) * len(frames)
            sequence, selections = select(candidates, options, markers)
            self._model.set_clip(sequence)
            self._marks = sequence.marks
            self._num_frames, self._frame_length = len(frames), sequence.frame_length
        return selections

    def answer(self, question: str, sampling: SamplingOptions) -> Iterator[str | GeneratedAnswer]:
        """Yield the answer's text as it comes, then the whole of it with its record."""
        self.load()
        prompt = self._model.prompt(question, self._marks)
        start = time.perf_counter()
        with self._timed("prefill"):
            self._model.prefill(prompt)
        prefilled = time.perf_counter()
        pieces = []
        for piece in self._model.answer(prompt, sampling):
            pieces.append(piece)
            yield piece
        yield GeneratedAnswer(
            text="".join(pieces).strip(),
            token_ids=tuple(self._model.token_ids),
            num_text_tokens=prompt.num_text_tokens,
            keep_indices=self._kept_by_question(),
            seconds={
                "prefill": prefilled - start,
                "generate": time.perf_counter() - prefilled,
            },
        )

    def _kept_by_question(self) -> tuple[Int64Array, ...] | None:
        """Return what FastV kept of every frame for the question answered last, None without it."""
        kept = self._model.fastv_kept
        if kept is None:
            return None
        frame, flat = divmod(kept.cpu().numpy(), self._frame_length)
        return tuple(flat[frame == number] for number in range(self._num_frames))


def make_thumbnail(frame: UInt8Array, width: int) -> bytes:
    """Return a frame (height, width, 3) as a JPEG at most ``width`` pixels across."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((width, width * frame.shape[0]), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    return data.getvalue()
