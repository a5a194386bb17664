"""The streams of a server: so many at a time, each there until it is deleted."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from streaming.budget import DEFAULT_BUDGET
from streaming.options import Options
from streaming.sample import open_checkpoint
from streaming.serve.failures import RequestError, bad_request, explain
from streaming.serve.lengths import check_length
from streaming.serve.media import Media
from streaming.serve.options import ServerOptions
from streaming.serve.streams.addresses import AllowedSources
from streaming.serve.streams.ids import new_stream_id
from streaming.serve.streams.options import SourceOptions
from streaming.serve.streams.request import StreamRequest
from streaming.serve.streams.stream import Stream
from streaming.watch.plan import LivePlan, plan_live
from streaming.watch.standing import StandingQuestion
from workers.errors import StreamError, display_name
from workers.run.engine import Engine
from workers.video.live.address import Address, parse_address
from workers.video.live.source import LiveSource, Patience

_JOIN_SECONDS = 10.0
_DELETE_SECONDS = 1.0
_RETRY_SECONDS = 2


class Totals(NamedTuple):
    """How many streams there are, and the frames of all there ever were."""

    num_streams: int
    num_seen_frames: int
    num_dropped_frames: int


class Streams:
    """Opens, lists and ends streams; any thread may call at any time.

    Args:
        engine: with workers.
        options: of the server.
        media: knows the media folder.
    """

    def __init__(self, engine: Engine, options: ServerOptions, media: Media) -> None:
        self.engine = engine
        self._most = options.streams.max_streams
        self._allowed = AllowedSources(options.streams.allow_stream)
        self._options = options
        self._media = media
        self._lock = threading.Lock()
        self._streams: dict[str, Stream] = {}
        self._ending: list[threading.Thread] = []
        """Of streams that were deleted."""
        self._num_past_seen = self._num_past_dropped = 0

    def open(self, request: StreamRequest) -> Stream:
        """Open a source.

        Raises:
            RequestError: it is not allowed, there are too many, or the options are refused.
        """
        address, shown = self._locate(request.url)
        with self._lock:
            self._check_room()
        stream_id = new_stream_id()
        plan = replace(self._plan(request, request.name or shown), clip_id=stream_id)
        source = self._source(address, request.options.source, plan.fps)
        most = self._options.media.max_pixels
        stream = Stream(stream_id, self.engine, plan, source, request.questions, most)
        with self._lock:
            self._check_room()
            self._streams[stream_id] = stream
            stream.start()
        return stream

    def all(self) -> list[Stream]:
        """Return the streams, in the order in which they were opened."""
        return list(self._streams.values())

    def get(self, stream_id: str) -> Stream:
        """Return a stream.

        Raises:
            RequestError: there is none of this name.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            raise RequestError(404, "stream_not_found", "no stream of this id: open it first")
        return stream

    def delete(self, stream_id: str) -> None:
        """End a stream, and let go of its tokens; its work ends by then, or soon after.

        Raises:
            RequestError: there is none of this name.
        """
        with self._lock:
            stream = self.get(stream_id)
            del self._streams[stream_id]
            self._ending.append(stream.thread)
            self._num_past_seen += stream.hold().num_frames
            self._num_past_dropped += stream.num_dropped_frames
        stream.close()
        stream.thread.join(_DELETE_SECONDS)

    def close(self) -> None:
        """End all of them; there will be no more."""
        with self._lock:
            self._most = 0
            streams = list(self._streams.values())
            threads = [*self._ending, *(stream.thread for stream in streams)]
        for stream in streams:
            stream.close()
        end = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def totals(self) -> Totals:
        """Return numbers of all streams."""
        with self._lock:
            streams = self._streams.values()
            return Totals(
                num_streams=len(streams),
                num_seen_frames=self._num_past_seen + sum(s.hold().num_frames for s in streams),
                num_dropped_frames=self._num_past_dropped
                + sum(stream.num_dropped_frames for stream in streams),
            )

    def _locate(self, url: str) -> tuple[Address, str]:
        """Return what is opened, and how it is called."""
        if url[:5].lower() == "file:":
            path, name = self._media.in_folder(url)
            return Address(url=path, kind="file"), display_name(name)
        opened, shown = self._allowed.admit(url)
        return parse_address(opened), shown

    def _check_room(self) -> None:
        """Refuse another stream where there are as many as may be; the lock is held."""
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        if len(self._streams) + len(self._ending) >= self._most:
            text = f"{self._most} streams are kept here at a time: delete one that has ended"
            raise RequestError(429, "too_many_streams", text, retry=_RETRY_SECONDS)

    def _plan(self, request: StreamRequest, name: str) -> LivePlan:
        options = request.options
        questions: Sequence[StandingQuestion] = request.questions or [StandingQuestion(text="?")]
        self._check_answers(options)
        most_letters = self._options.load.max_text_letters
        for each in questions:
            check_length([each.text, *each.choices], options.model.model, most_letters)
        try:
            plan = plan_live(name, options.asking(), questions, window=options.source.window)
        except StreamError as error:
            raise explain(error) from None
        most = self._most_tokens()
        if plan.max_held_tokens > most:
            raise bad_request(
                f"a stream holds at most {most:,} tokens here, and this one would hold "
                f"{plan.max_held_tokens:,}: lower mr_stream.budget or mr_stream.headroom",
                "mr_stream.budget",
            )
        return plan

    def _check_answers(self, options: Options) -> None:
        most = self._options.load.max_answer_tokens
        if options.generation.max_new_tokens > most:
            text = f"mr_stream.max_new_tokens must be at most {most} here"
            raise bad_request(text, "mr_stream.max_new_tokens")

    def _most_tokens(self) -> int:
        """Return what a stream with the server's own options would hold at most."""
        own = self._options.budget
        context = open_checkpoint(self._options.model.model).template.context_length
        return int(own.headroom * (own.budget or min(DEFAULT_BUDGET, context // 2)))

    def _source(self, address: Address, options: SourceOptions, fps: float) -> LiveSource:
        return LiveSource(
            address,
            fps=fps,
            speed=options.speed if address.kind == "file" else 0.0,
            max_lag_seconds=options.max_lag,
            patience=Patience(silence=options.silence, give_up=options.give_up),
            max_bytes=int((self._options.run.decoder_gib or 0) * 2**30),
        )
