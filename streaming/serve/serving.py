"""What ``streaming.serve`` does once its words are read: apart, so that --help is quick."""

import argparse
import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import numpy as np
import uvicorn

from streaming.command import say
from streaming.engine import open_engine
from streaming.flags import change, merge_options
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.sample import check_run, sample_source
from streaming.serve.app import create_app
from streaming.serve.download import Fetcher
from streaming.serve.files import Files
from streaming.serve.guard import Guard
from streaming.serve.key import KEY_VARIABLE, read_key
from streaming.serve.media import Media
from streaming.serve.options import ServerOptions
from streaming.serve.service import Service
from streaming.serve.streams.streams import Streams
from streaming.serve.warm import WarmClips
from workers.disk.store import open_store
from workers.errors import InputError, OutputError, StreamError
from workers.run.engine import Engine
from workers.video.images import open_images

_DECODE_SECONDS = 20.0
_DECODER_GIB = 2.0
_CLOSE_SECONDS = 10


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Serve until interrupted."""
    options = settled(merge_options(arguments, ServerOptions()))
    key = read_key(options.address.api_key_file)
    check_address(options, key)
    check_run(options)
    with listening(options) as listener, serving(options, key) as (app, streams):
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{port}", file=output, flush=True)
        config = uvicorn.Config(
            app, http="h11", log_level="warning", access_log=False,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            server_header=False, h11_max_incomplete_event_size=2**16,
        )  # fmt: skip
        Server(config, streams).run(sockets=[listener])


class Server(uvicorn.Server):
    """Ends streams when it is told to stop, as whoever listens to one would be waited for.

    Args:
        config: of the server.
        streams: of the application.
    """

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        await asyncio.to_thread(self._streams.close)
        await super().shutdown(sockets)


def settled(options: ServerOptions) -> ServerOptions:
    """Return the options with what a server does by itself: decode where a clip can be killed for.

    A clip that crashes a decoder must not end the server, so nothing is decoded in this process
    unless that is asked for.
    """
    run = options.run
    if run.executor == "local":
        return options
    return change(
        options,
        {
            "executor": "ray",
            "decode_seconds": run.decode_seconds or _DECODE_SECONDS,
            "decoder_gib": run.decoder_gib or _DECODER_GIB,
        },
        source="",
    )


def check_address(options: ServerOptions, key: str | None) -> None:
    """Refuse to listen to others than this machine without a key.

    Raises:
        InputError: names the remedy.
    """
    if not options.address.is_loopback and key is None:
        raise InputError(
            f"--host {options.address.host} lets other machines ask: give --api-key-file, or set "
            f"{KEY_VARIABLE}"
        )


@contextmanager
def listening(options: ServerOptions) -> Iterator[socket.socket]:
    """Listen before anything is loaded, so that an address in use is told at once.

    Raises:
        OutputError: names the address.
    """
    host, port = options.address.host, options.address.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OutputError(f"--host {host} --port {port}: {reason}") from None
    with listener:
        yield listener


@contextmanager
def serving(options: ServerOptions, key: str | None) -> Iterator[tuple[Guard, Streams]]:
    """Start the workers, and return the application over them, and its streams."""
    media, load, kept = options.media, options.load, options.store
    store = None if kept.bank is None else open_store(kept.bank, kept.bank_gib)
    warm = WarmClips(
        max_bytes=int(load.warm_gib * 2**30),
        max_clips=load.warm_clips,
        at_once=options.run.clips_in_flight,
    )
    with ExitStack() as closing:
        files = Files(
            max_bytes=int(media.files_gib * 2**30),
            max_file_bytes=int(media.max_file_mib * 2**20),
            on_removal=warm.forget,
        )
        closing.callback(files.close)
        engine = closing.enter_context(open_engine(options, lazy_vision=False))
        fetcher = Fetcher(
            allowed=tuple(
                name.strip().lower().rstrip(".")
                for name in (media.allow_domain or "").split(",")
                if name.strip()
            ),
            max_bytes=files.max_file_bytes,
            seconds=media.fetch_seconds,
        )
        sources = Media(files, media, fetcher)
        service = Service(engine, options, sources, warm, store)
        streams = Streams(engine, options, sources)
        closing.callback(streams.close)
        ready = threading.Event()
        threading.Thread(
            target=_warm_up, args=(engine, service.options, ready), name="warm-up", daemon=True
        ).start()
        app = create_app(service, files, streams, options, api_key=key, is_ready=ready.is_set)
        yield app, streams


def _warm_up(engine: Engine, options: Options, ready: threading.Event) -> None:
    """Ask of a black picture, so that the first to ask does not wait for the models."""
    black = open_images([np.zeros((64, 64, 3), np.uint8)])
    options = change(options, {"num_frames": 1, "max_new_tokens": 1}, source="")
    try:
        plan = plan_clip(sample_source(black, options), options, ["?"])
        answer_clip(engine, plan, ["?"])
    except StreamError as error:
        say(f"error: the models cannot be used: {error}")
        return
    ready.set()
    say("ready")
