"""What ``streaming.ask --server`` does: the same questions and output, the work is the server's."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from streaming.asking import summarize_record
from streaming.command import check_text, say, typed_lines
from streaming.config_file import read_config
from streaming.flags import change, places
from streaming.options import Options
from streaming.ranges import flag
from streaming.serve.chat import client_options
from streaming.serve.client import Client
from streaming.serve.key import read_key
from workers.errors import InputError


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Send the clip, and answer what is asked and typed."""
    extras = {**_given(arguments), "choices": arguments.choices or None}
    client = Client(arguments.server, read_key(arguments.api_key_file))
    clip = {"type": "video_url", "video_url": {"url": client.send(arguments.video)}}

    def answer(question: str) -> None:
        content = [clip, {"type": "text", "text": question}]
        chunks = client.ask(
            {
                "messages": [{"role": "user", "content": content}],
                "stream": True,
                "mr_stream": {name: value for name, value in extras.items() if value is not None},
            }
        )
        _print(chunks, arguments, output)

    for question in arguments.questions:
        answer(question)
    for line in typed_lines() if arguments.interactive else ():
        try:
            check_text(line, what="the question")
            answer(line)
        except InputError as error:
            say(f"error: {error}")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, of which all must be for a request to set."""
    values = {} if arguments.config is None else read_config(arguments.config)
    values |= {
        name: getattr(arguments, name)
        for name in places()
        if getattr(arguments, name, None) is not None
    }
    change(Options(), values, source="")
    for name in values:
        if name not in client_options():
            raise InputError(f"{flag(name)} is the server's own: leave it out with --server")
    return values


def _print(
    chunks: Iterator[Mapping[str, Any]], arguments: argparse.Namespace, output: TextIO
) -> None:
    """Print one answer, as text while it comes or as one JSON object."""
    for chunk in chunks:
        for choice in chunk["choices"]:
            if not arguments.json:
                text = choice["delta"].get("content") or ""
                print(text, end="", file=output, flush=True)
        if "mr_stream" in chunk:
            record = {**chunk["mr_stream"], "video": arguments.video}
            del record["warm"]
            print(json.dumps(record) if arguments.json else "", file=output, flush=True)
            say(summarize_record(record))
