"""One engine for one clip, many clips and a server: what may be asked, by any thread at any time.

Whatever is asked names its clip; clips and questions share the workers (see
:mod:`workers.run.schedule`).
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from workers.disk.requests import LoadRequest, OpenRequest, SaveRequest, StoreNews
from workers.errors import StreamError, TokensLostError, WorkerError
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.prompt import Prompt
from workers.messages import (
    AllocateRequest,
    Clip,
    GenerateRequest,
    ShortenRequest,
    SourceRequest,
)
from workers.run.call_job import CallJob
from workers.run.clip_job import ClipJob, Progress
from workers.run.clips import EncodedClip, Visual
from workers.run.job import MAX_DEATHS
from workers.run.meter import Meter
from workers.run.queue import Unit
from workers.run.schedule import Schedule
from workers.run.worker import InputLostError, Worker
from workers.video.source import Source
from workers.visual import Allocation

_MAX_OVERRUNS_OPENING = 2
"""Decoders that opening a clip may keep for too long, or have take too much memory."""


class Engine:
    """Runs clips and questions on workers.

    Args:
        workers: see :class:`workers.run.schedule.Schedule`, as for the others.
        close: called when all workers have stopped.
        meter: told what the workers do.
    """

    def __init__(
        self,
        workers: Mapping[str, Sequence[Worker]],
        close: Callable[[], None] = lambda: None,
        meter: Meter | None = None,
    ) -> None:
        self._schedule = Schedule(workers, close, meter)

    def start(self) -> None:
        """Start all workers; returns before they are ready."""
        self._schedule.start()

    def close(self) -> None:
        """Stop all workers; whoever still waits gets a WorkerError. May be called twice."""
        self._schedule.close()

    @property
    def failure(self) -> StreamError | None:
        """What ended every job there was and will be, None as long as the workers serve."""
        return self._schedule.failure

    @property
    def peak_memory_bytes(self) -> Mapping[str, int]:
        """Of every worker that has answered, by name."""
        return self._schedule.peak_memory_bytes

    @property
    def cpu_seconds(self) -> Mapping[str, float]:
        """Of the process of every worker that has answered, by the worker's name, so far."""
        return self._schedule.cpu_seconds

    def open(self, request: SourceRequest, name: str) -> Source:
        """Open a clip in a decoder, which on Ray is killed if it hangs or takes too much memory.

        Args:
            request: what to open.
            name: of the clip, for errors.

        Raises:
            VideoError: it cannot be read.
            StreamError: decoders died on it, or the engine is closed.
        """
        job = CallJob("decoder", f"{name}: opening it", max_overruns=_MAX_OVERRUNS_OPENING)
        ((_, source),) = self._schedule.listen(job, [("decoder", Unit(job=job, request=request))])
        opened: Source = source
        return opened

    def encode(
        self, clip: Clip, show: Callable[[Progress], None] = lambda progress: None
    ) -> EncodedClip:
        """Read, encode and rank a clip; blocks until all its frames are done or given up on.

        Raises:
            VideoError: the clip cannot be read.
            StreamError: a model or a worker failed.
        """
        job = ClipJob(clip)
        for progress in self._schedule.listen(job, job.units()):
            show(progress)
        return EncodedClip(
            clip=clip,
            bank=tuple(job.ranked[frame] for frame in sorted(job.ranked)),
            pts_seconds=dict(sorted(job.pts_seconds.items())),
            thumbnails=job.thumbnails,
            warnings=job.warnings,
            seconds=dict(job.seconds),
            prune_seconds=tuple(job.prune_seconds),
            elapsed_seconds=time.perf_counter() - job.started,
            num_encoded_tiles=job.num_encoded_tiles,
            num_given_up=job.num_given_up,
        )

    def load(
        self, clip: Clip, request: LoadRequest | OpenRequest
    ) -> tuple[EncodedClip | None, tuple[str, ...]]:
        """Return a clip with tokens that were stored, None if there are none, and what is amiss.

        The clip's pruning is then that of the entry, so that what is lost and must be encoded again
        comes out as it was.

        Raises:
            StreamError: an entry that was named cannot be used, or a worker failed.
        """
        started = time.perf_counter()
        job = CallJob("encoder", f"{clip.name}: looking for stored tokens")
        events = self._schedule.listen(job, [("encoder", Unit(job=job, request=request))])
        ((handle, news),) = events
        manifest = news.manifest
        if manifest is None:
            return None, news.warnings
        encoded = EncodedClip(
            clip=replace(clip, prunings=(manifest.pruning,)),
            bank=(handle,),
            pts_seconds=dict(zip(manifest.frame_indices, manifest.pts_seconds, strict=True)),
            thumbnails=news.thumbnails,
            warnings=manifest.warnings,
            seconds=dict(job.seconds),
            prune_seconds=(0.0,),
            elapsed_seconds=time.perf_counter() - started,
            made_for_budget=manifest.made_for_budget,
            origin=request,
        )
        return encoded, news.warnings

    def save(self, encoded: EncodedClip, request: SaveRequest) -> tuple[str, ...]:
        """Store a clip's tokens; return why they could not be, if so.

        Raises:
            StreamError: a worker failed.
        """
        news: StoreNews
        _, news, seconds = self._call(encoded, request, "storing its tokens")
        encoded.seconds = {**encoded.seconds, **seconds}
        return news.warnings

    def allocate(self, encoded: EncodedClip, allocation: Allocation) -> Visual:
        """Share the budget out; the sequence stays with the workers.

        Raises:
            StreamError: see :meth:`workers.bank.TokenBank.allocate`, or a worker failed.
        """
        started = time.perf_counter()
        request = AllocateRequest(allocation=allocation)
        handle, frames, seconds = self._call(encoded, request, "sharing its budget out")
        return Visual(
            encoded=encoded,
            allocation=allocation,
            handle=handle,
            frames=frames,
            seconds={"prune": encoded.prune_seconds[allocation.pruning], **seconds},
            elapsed_seconds=time.perf_counter() - started,
        )

    def _call(
        self, encoded: EncodedClip, request: Any, what: str
    ) -> tuple[Any, Any, Mapping[str, float]]:
        """Return (handle, news, busy seconds) of what an encoder does with a clip's tokens."""
        name = encoded.clip.name
        for _ in range(MAX_DEATHS):
            job = CallJob("encoder", f"{name}: {what}")
            unit = Unit(job=job, request=request, inputs=encoded.bank)
            try:
                ((handle, news),) = self._schedule.listen(job, [("encoder", unit)])
            except InputLostError:  # with the machine that held them
                encoded.bank = self._again(encoded)
                continue
            return handle, news, job.seconds
        raise WorkerError(f"{name}: its tokens were lost {MAX_DEATHS} times")

    def _again(self, encoded: EncodedClip) -> tuple[Any, ...]:
        """Return handles on the same tokens: loaded again, else encoded again."""
        if encoded.origin is not None:
            loaded, _ = self.load(encoded.clip, encoded.origin)
            if loaded is not None and loaded.clip.prunings == encoded.clip.prunings:
                return loaded.bank
        if not encoded.clip.segments:
            raise TokensLostError(f"{encoded.clip.name}: its tokens were lost and cannot be read")
        return self.encode(encoded.clip).bank

    def shorten(self, clip: Clip, frame: Any, max_keep: int) -> Any:
        """Return a handle on no more than the first tokens of a frame's rankings.

        What is cut off is freed with the last handle on the whole, wherever the frame is held.

        Args:
            clip: the frame's.
            frame: the handle in ``bank`` of an encoded clip of one frame a chunk.
            max_keep: tokens at most.

        Raises:
            TokensLostError: the frame is gone with the machine that held it.
            StreamError: a worker failed.
        """
        job = CallJob("encoder", f"{clip.name}: shortening a ranking")
        unit = Unit(job=job, request=ShortenRequest(max_keep=max_keep), inputs=(frame,))
        try:
            ((handle, _),) = self._schedule.listen(job, [("encoder", unit)])
        except InputLostError:
            raise TokensLostError(f"{clip.name}: the tokens of a frame were lost") from None
        return handle

    def generate(
        self,
        visual: Visual,
        prompt: Prompt,
        sampling: SamplingOptions,
        check: Callable[[], object] | None = None,
    ) -> Generator[str | GeneratedAnswer, None, None]:
        """Queue a question and return its answer: the text as it comes, then the whole of it.

        Questions that are queued before the answers of others are read share forward passes with
        them, if they are about the same sequence; the answer is the same. Closing an answer stops
        the work. A language model that dies is replaced and gives the same answer again, of which
        only what is new is yielded. ``check`` is called now and then while nothing comes, and
        raises to wait no longer.

        Raises:
            StreamError: the model or a worker failed.
        """
        request = GenerateRequest(prompt=prompt, sampling=sampling)
        return self._pieces(visual, request, self._ask(visual, request, check), check)

    def _ask(
        self,
        visual: Visual,
        request: GenerateRequest,
        check: Callable[[], object] | None,
        num_heard: int = 0,
    ) -> Generator[Any, None, None]:
        job = CallJob("llm", f"{visual.encoded.clip.name}: an answer", num_heard=num_heard)
        unit = Unit(job=job, request=request, inputs=(visual.handle,), company=visual.company)
        return self._schedule.listen(job, [("llm", unit)], check)

    def _pieces(
        self,
        visual: Visual,
        request: GenerateRequest,
        events: Generator[Any, None, None],
        check: Callable[[], object] | None,
    ) -> Generator[str | GeneratedAnswer, None, None]:
        num_heard = 0
        for _ in range(MAX_DEATHS):
            handle = visual.handle
            try:
                with closing(events):
                    for _, news in events:
                        num_heard += len(news) if isinstance(news, str) else 0
                        yield news
                return
            except InputLostError:
                if visual.handle is handle:  # else another question has seen to it
                    visual.handle = self.allocate(visual.encoded, visual.allocation).handle
                events = self._ask(visual, request, check, num_heard)
        raise WorkerError(f"{visual.encoded.clip.name}: its tokens were lost {MAX_DEATHS} times")
