"""Memory of a job as its data set grows: peak of the driver, of workers, and of the object store.

Run: python -m benchmarks.batch_memory [--clips 20 400] [--executor ray]
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from streaming.bench.clip import draw_clip
from streaming.bench.hardware import describe_hardware

_NAMES = {b"ray::StageActor": "largest worker", b"streaming.batch": "driver"}


def peak_of(status: str) -> int:
    """Return the peak resident bytes that a process' status tells."""
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0


def shared_bytes() -> int:
    """Return the machine's shared memory in use, of which Ray's object store is a part."""
    match = re.search(r"Shmem:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    return int(match[1]) * 1024 if match else 0


def watch(job: "subprocess.Popen[bytes]") -> dict[str, int]:
    """Look at a job's processes until it ends; returns the highest value of each."""
    highest: dict[str, int] = defaultdict(int)
    before = shared_bytes()
    while job.poll() is None:
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words, status = (place / "cmdline").read_bytes(), (place / "status").read_text()
                if os.getsid(int(place.name)) != job.pid:
                    continue
            except OSError:  # has ended meanwhile
                continue
            for word, name in _NAMES.items():
                if word in words:
                    highest[name] = max(highest[name], peak_of(status))
        highest["object store"] = max(highest["object store"], shared_bytes() - before)
        time.sleep(0.2)
    return highest


def main() -> None:
    """Run a job for each size of the data set and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[20, 400])
    parser.add_argument("--executor", default="ray")
    arguments = parser.parse_args()
    columns = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = folder / "clip.mp4"
        draw_clip(drawn, duration_seconds=4)
        for number in arguments.clips:
            rows = []
            for place in range(number):
                clip = folder / f"{number}-{place}.mp4"
                shutil.copy(drawn, clip)
                rows.append({"id": place, "video": str(clip), "question": "what number is shown?"})
            manifest = folder / f"{number}.jsonl"
            manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            command = [sys.executable, "-m", "streaming.batch", str(manifest), "--num-frames", "16"]
            command += ["--output", str(folder / f"out-{number}"), "--budget", "160"]
            job = subprocess.Popen(
                [*command, "--executor", arguments.executor],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            columns[number] = watch(job)
            if job.returncode:
                raise RuntimeError(f"the job of {number} clips ended with {job.returncode}")
    print(describe_hardware())
    print(f"\nPeak MiB, --executor {arguments.executor}, 16 frames of 640 x 360 a clip\n")
    print("| |" + "".join(f" {number} clips |" for number in columns))
    print("|---|" + "---:|" * len(columns))
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = "".join(f" {column[name] / 2**20:.0f} |" for column in columns.values())
        print(f"| {name} |{cells}")


if __name__ == "__main__":
    main()
