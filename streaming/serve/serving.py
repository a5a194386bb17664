"""What ``streaming.serve`` does once its words are read: apart, so that --help is quick."""

import argparse
import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import uvicorn

from streaming.engine import open_engine
from streaming.flags import change, merge_options
from streaming.sample import check_run
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
from streaming.serve.warming import Warming
from workers.disk.store import open_store
from workers.errors import InputError, OutputError

_DECODE_SECONDS = 20.0
_DECODER_GIB = 2.0
_CLOSE_SECONDS = 10


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Serve until interrupted.

    Raises:
        StreamError: the models cannot be used.
    """
    options = settled(merge_options(arguments, ServerOptions()))
    key = read_key(options.address.api_key_file)
    check_address(options, key)
    check_run(options)
    with listening(options) as listener, serving(options, key) as (app, streams, warming):
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{port}", file=output, flush=True)
        config = uvicorn.Config(
            app, http="h11", log_level="warning", access_log=False,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            server_header=False, h11_max_incomplete_event_size=2**16,
        )  # fmt: skip
        server = Server(config, streams, lambda: warming.failure is not None)
        server.run(sockets=[listener])
        if warming.failure is not None:
            raise warming.failure


class Server(uvicorn.Server):
    """Ends streams when it is told to stop, as whoever listens to one would be waited for.

    Args:
        config: of the server.
        streams: of the application.
        is_useless: asked ten times a second; it stops where that is so.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        streams: Streams,
        is_useless: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config)
        self._streams = streams
        self._is_useless = is_useless

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop."""
        return await super().on_tick(counter) or self._is_useless()

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
def serving(options: ServerOptions, key: str | None) -> Iterator[tuple[Guard, Streams, Warming]]:
    """Start the workers, and return the application over them, its streams and its warm-up."""
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
            allowed=media.allowed_domains,
            max_bytes=files.max_file_bytes,
            seconds=media.fetch_seconds,
        )
        sources = Media(files, media, fetcher)
        service = Service(engine, options, sources, warm, store)
        streams = Streams(engine, options, sources)
        closing.callback(streams.close)
        warming = Warming(engine, service.options)
        app = create_app(service, files, streams, options, api_key=key, is_ready=warming.is_ready)
        yield app, streams, warming
