"""Seconds to the first token of a question about a warm clip: over HTTP, and with transformers.

Clients ask a server, each its next question when it has an answer; transformers answers the same
questions about the same frames one after another, as its ``generate`` does, with the pixels at
hand. Both take turns in one run, so that what else the machine does meets both.

Run: python -m benchmarks.serving [--clients 1 8 32] [--repeats 3] [--json PATH]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware
from streaming.bench.transformers_system import TransformersSystem
from streaming.flags import change
from streaming.options import Options
from streaming.serve.client import Client

NUM_FRAMES, BUDGET, MAX_NEW_TOKENS = 32, 512, 8
Times = tuple[float, float]
"""Seconds to the first token, and to the end."""


@contextmanager
def serving(*words: str) -> Iterator[Client]:
    """Run a server in a process of its own."""
    command = [sys.executable, "-m", "streaming.serve", "--port", "0", "--num-frames", "32"]
    command += ["--budget", str(BUDGET), "--max-new-tokens", str(MAX_NEW_TOKENS), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Client(process.stdout.readline().strip(), None)
        process.terminate()


def over_http(client: Client, file_id: str, question: str) -> Times:
    """Ask the server one question."""
    started = time.perf_counter()
    clip = {"type": "video_url", "video_url": {"url": file_id}}
    content = [clip, {"type": "text", "text": question}]
    body = {"messages": [{"role": "user", "content": content}], "stream": True}
    first = 0.0
    for chunk in client.ask(body):
        if not first and chunk["choices"][0]["delta"].get("content"):
            first = time.perf_counter() - started
    return first, time.perf_counter() - started


class OneByOne:
    """Transformers, which takes one question at a time."""

    def __init__(self, clip: str) -> None:
        settings = {"num_frames": NUM_FRAMES, "max_new_tokens": MAX_NEW_TOKENS}
        self._system = TransformersSystem(change(Options(), settings, source=""))
        self._sampled = self._system._sample(clip, NUM_FRAMES)
        from streaming.bench.pictures import read_pictures

        pictures = read_pictures(clip, self._sampled.frame_indices.tolist())
        self._pixels = self._system._process(pictures)
        self._turn = threading.Lock()

    def ask(self, question: str) -> Times:
        """Answer when it is this question's turn."""
        started = time.perf_counter()
        with self._turn:
            said = self._system._answer(self._pixels, self._sampled, question)
        return said.first - started, said.end - started


def measure(ask: Callable[[str], Times], num_clients: int, num_questions: int) -> list[Times]:
    """Ask from some threads at a time; returns what each question took."""
    questions = [f"What number is shown, and what moves, {n}?" for n in range(num_questions)]
    with ThreadPoolExecutor(num_clients) as threads:
        return list(threads.map(ask, questions))


def percentiles(times: list[Times]) -> dict[str, float]:
    """Return p50 and p95 of both times."""
    first, whole = np.percentile(np.array(times), [50, 95], axis=0).T.tolist()
    names = ("first_p50", "first_p95", "whole_p50", "whole_p95")
    return dict(zip(names, [*first, *whole], strict=True))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    found: dict[int, dict[str, list[Times]]] = {n: {} for n in arguments.clients}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("--executor", arguments.executor, "--max-queue", "64") as client,
    ):
        clip = str(Path(folder, "clip.mp4"))
        draw_clip(Path(clip))
        file_id = client.send(clip)
        plain = OneByOne(clip)
        over_http(client, file_id, "What is it?")
        for _ in range(arguments.repeats):
            for number, times in found.items():
                asked = max(4, number)
                served = measure(lambda text: over_http(client, file_id, text), number, asked)
                times.setdefault("server", []).extend(served)
                times.setdefault("transformers", []).extend(measure(plain.ask, number, asked))
    _report(found, arguments.json)


def _report(found: dict[int, dict[str, list[Times]]], path: str | None) -> None:
    print(f"{describe_hardware()}; {NUM_FRAMES} frames, budget {BUDGET}, embedded model")
    figures = {}
    for number, times in found.items():
        both = {name: percentiles(each) for name, each in times.items()}
        figures[number] = both
        for name, each in both.items():
            values = ", ".join(f"{what} {1000 * value:.0f} ms" for what, value in each.items())
            print(f"{number:3} clients, {name:12}: {values}")
        ratio = both["transformers"]["first_p50"] / both["server"]["first_p50"]
        print(f"{number:3} clients: first token {ratio:.1f} times as soon (p50)")
    if path is not None:
        Path(path).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
