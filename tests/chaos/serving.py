"""python -m tests.chaos.serving --clips 1000 --kills 20: damaged clips and killed workers.

Both over HTTP. A server decodes on Ray, as it does by default. First it is asked about clips with
bytes destroyed, cut off or doubled; then about sound ones, while its workers are killed with signal
9. Every request must end with an answer or one line, in time; at the end the server must answer as
at the beginning.
Prints one JSON object; exit status 1 where that is not so.
"""

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from tests.clips import draw_clip

_LONGEST_SECONDS = 20.0


@contextmanager
def serving(*words: str) -> Iterator[tuple[int, httpx2.Client]]:
    """Run a server in a process of its own until the end of the block."""
    command = [sys.executable, "-m", "streaming.serve", "--port", "0", "--device", "cpu", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            with httpx2.Client(base_url=url, timeout=180) as client:
                while client.get("/health").status_code != 200:
                    time.sleep(0.2)
                yield process.pid, client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def damage(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a clip with bytes destroyed, cut off, doubled or turned round."""
    data = np.frombuffer(content, np.uint8).copy()
    start, length = int(generator.integers(len(data))), int(generator.integers(1, 400))
    kind = generator.integers(4)
    if kind == 0:
        part = data[start : start + length]
        part[:] = generator.integers(256, size=len(part))
    elif kind == 1:
        data = data[: max(1, start)]
    elif kind == 2:
        data = np.concatenate([data[:start], data[start : start + length], data[start:]])
    else:
        places = generator.integers(len(data), size=20)
        data[places] ^= generator.integers(1, 256, size=20).astype(np.uint8)
    return data.tobytes()


def ask(client: httpx2.Client, content: bytes, question: str) -> dict[str, Any]:
    """Ask about a clip; returns status, seconds, and the answer or the code of the error."""
    url = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": question}]
    body = {"messages": [{"role": "user", "content": parts}]}
    started = time.perf_counter()
    answer = client.post("/v1/chat/completions", json=body)
    told = answer.json()
    said = told["error"]["code"] if "error" in told else told["choices"][0]["message"]["content"]
    return {
        "status": answer.status_code,
        "seconds": time.perf_counter() - started,
        "said": said,
        "one line": "error" not in told or "\n" not in told["error"]["message"],
    }


def workers_of(server: int) -> list[int]:
    """Return the actors of a server, none of anybody else, by their process ids."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    family = {str(server)}
    while more := {pid for pid, parent, *_ in rows if parent in family} - family:
        family |= more
    return [int(pid) for pid, _, *text in rows if pid in family and "StageActor" in "".join(text)]


def memory_of(server: int) -> int:
    """Return the resident bytes of a server and its workers."""
    pids = ",".join(map(str, [server, *workers_of(server)]))
    listed = subprocess.run(["ps", "-o", "rss=", "-p", pids], capture_output=True, text=True)
    return sum(1024 * int(each) for each in listed.stdout.split())


def fuzz(server: int, client: httpx2.Client, clips: list[bytes], number: int) -> dict[str, Any]:
    """Ask about damaged clips, two at a time."""
    generator = np.random.default_rng(0)
    damaged = [damage(clips[n % len(clips)], generator) for n in range(number)]
    memory, before = [memory_of(server)], set(workers_of(server))
    results = []
    with ThreadPoolExecutor(2) as threads:
        for done in threads.map(lambda each: ask(client, each, "What is it?"), damaged):
            results.append(done)
            if len(results) % max(1, number // 10) == 0:
                memory.append(memory_of(server))
    return {
        **summary(results),
        "workers replaced": len(set(workers_of(server)) - before),
        "memory MiB": [round(each / 2**20) for each in memory],
    }


def kill(server: int, client: httpx2.Client, clip: bytes, number: int) -> dict[str, Any]:
    """Ask about ever new clips while workers are killed."""
    generator, over = np.random.default_rng(1), threading.Event()
    killed: Counter[str] = Counter()

    def strike() -> None:
        while sum(killed.values()) < number:
            time.sleep(float(generator.uniform(0.5, 2.5)))
            victims = workers_of(server)
            if victims:  # else all are starting
                os.kill(int(generator.choice(victims)), signal.SIGKILL)
                killed["workers"] += 1
        over.set()

    results: list[dict[str, Any]] = []

    def work(thread: int) -> None:
        count = 0
        while not over.is_set():
            count += 1
            results.append(ask(client, clip + bytes([thread]) * count, f"Question {count}?"))

    threading.Thread(target=strike, daemon=True).start()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    return {**summary(results), "killed": sum(killed.values())}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how requests ended, and how long they took."""
    seconds = np.array([result["seconds"] for result in results])
    statuses = Counter(str(result["status"]) for result in results)
    codes = Counter(result["said"] for result in results if result["status"] != 200)
    return {
        "requests": len(results),
        "statuses": dict(statuses),
        "codes": dict(codes),
        "seconds p50": round(float(np.median(seconds)), 2),
        "seconds max": round(float(seconds.max()), 2),
        "one line each": all(result["one line"] for result in results),
    }


def main() -> int:
    """Run both; returns 0 if every request ended as it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            draw_clip(Path(folder, "a.mp4"), num_frames=24),
            draw_clip(Path(folder, "b.mkv"), num_frames=24),
            draw_clip(Path(folder, "c.ts"), num_frames=24),
        ]
        clips = [path.read_bytes() for path in paths]
    words = ["--num-frames", "4", "--max-new-tokens", "8", "--decode-seconds", "8"]
    with serving(*words) as (server, client):
        before = ask(client, clips[0], "What number is shown?")
        damaged = fuzz(server, client, clips, arguments.clips)
        print(json.dumps(damaged), file=sys.stderr)
        killed = kill(server, client, clips[0], arguments.kills)
        after = ask(client, clips[0] + b"\0", "What number is shown?")
    good = (
        before["status"] == after["status"] == 200
        and before["said"] == after["said"]
        and damaged["one line each"]
        and killed["one line each"]
        and damaged["seconds max"] < _LONGEST_SECONDS
        and set(damaged["statuses"]) <= {"200", "422"}
    )
    print(json.dumps({"good": good, "damaged": damaged, "killed": killed}, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
