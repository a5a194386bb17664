"""The three stages as ordinary classes: decode, encode and prune, answer.

Each works in-process or inside an actor; nothing here knows which.
"""

import io
import time
from collections.abc import Iterator, Sequence

import numpy as np

from workers.messages import (
    BudgetOptions,
    Candidates,
    FrameChunk,
    FrameSelection,
    GeneratedAnswer,
    ModelOptions,
    PromptCost,
    PruneOptions,
    SamplingOptions,
    Segment,
    UInt8Array,
)
from workers.process import Stage, prepare_torch, release_memory


class DecodeStage(Stage):
    """File to pictures."""

    def decode(self, segment: Segment) -> Iterator[FrameChunk]:
        """Yield the segment's chunks in order; see :func:`workers.video.decode_segment`."""
        from workers.video import decode_segment

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
        from workers.vision import VisionEncoder

        device, dtype = prepare_torch(options)
        self._dtype = str(dtype).removeprefix("torch.")
        self._encoder = VisionEncoder(locate(options.model), device=device, dtype=dtype)

    def encode(self, chunk: FrameChunk, prune: PruneOptions) -> Candidates:
        """Encode a chunk's frames at both resolutions and rank their tokens.

        Args:
            chunk: at least one frame; not modified.
            prune: how; the same for all frames of a clip.

        Returns:
            The first ``prune.max_keep`` tokens of each frame's ranking.
        """
        candidates = self._encode(chunk, prune)
        release_memory()  # its features are gone by now
        return candidates

    def _encode(self, chunk: FrameChunk, prune: PruneOptions) -> Candidates:
        import torch

        from pruner import rank_frames
        from workers.arrays import pack

        with self._timed("encode"):
            features = self._encoder.encode(chunk.frames)
        with self._timed("prune"), torch.inference_mode():
            ranking = rank_frames(
                features.base,
                features.grid,
                num_keep=prune.num_keep,
                similarity=prune.similarity,
                cross_similarity=prune.cross_similarity,
                temperature=prune.temperature,
                beta=prune.beta,
                num_steps=prune.num_steps,
            )
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
        )


class AnswerStage(Stage):
    """Visual tokens and questions to answers."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        from workers.checkpoint import locate
        from workers.language import LanguageModel

        device, dtype = prepare_torch(options)
        self._model = LanguageModel(
            locate(options.model),
            device=device,
            dtype=dtype,
            compact_positions=options.compact_positions,
        )
        self._marks: tuple[str, ...] = ()

    def measure(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        """Count the tokens that questions about frames at these times cost.

        ``pts_seconds`` are the frames to be marked with their time; empty marks none.
        """
        from workers.prompt import time_mark

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

    def select(self, options: BudgetOptions, *candidates: Candidates) -> tuple[FrameSelection, ...]:
        """Take a clip: share the budget out and hold the bounded visual sequence for questions."""
        from workers.selection import select

        with self._timed("select"):
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
            seconds={
                "prefill": prefilled - start,
                "generate": time.perf_counter() - prefilled,
            },
        )


def make_thumbnail(frame: UInt8Array, width: int) -> bytes:
    """Return a frame (height, width, 3) as a JPEG at most ``width`` pixels across."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((width, width * frame.shape[0]), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    return data.getvalue()
