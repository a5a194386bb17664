"""A job over drawn clips whose workers and driver are killed at random, until it is done.

Run: python -m tests.chaos.killing [--kills 100] [--seed 0] [--seconds 1800]
Exit status 1 where a row is lost, is there twice, or differs from those of an undisturbed run.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streaming.bench.clip import draw_clip

_NUM_CLIPS = 12
_QUESTIONS = ("What number is shown?", "What moves?", "How many shapes are there?")
_MEAN_SECONDS = 2.5
"""Between two kills."""
_DRIVER_SHARE = 0.1
_COLUMNS = ("answer", "status", "error_message", "num_visual_tokens", "num_frames", "warnings")


@dataclass(slots=True)
class Damage:
    """What has been killed, and what became of the rows."""

    killed: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    runs: int = 0
    lost: int = 0
    repeated: int = 0
    different: list[str] = field(default_factory=list)

    @property
    def is_none(self) -> bool:
        """No row was lost, repeated or changed."""
        return not (self.lost or self.repeated or self.different)


def write_manifest(folder: Path) -> Path:
    """Draw clips of several lengths and ask three questions of each."""
    rows = []
    for number in range(_NUM_CLIPS):
        clip = folder / f"clip-{number}.mp4"
        draw_clip(clip, duration_seconds=2 + number % 4)
        rows.append({"id": f"clip-{number}", "video": str(clip), "questions": list(_QUESTIONS)})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def start(manifest: Path, output: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a job as the first process of a session."""
    command = [sys.executable, "-m", "streaming.batch", str(manifest), "--output", str(output)]
    command += ["--num-frames", "24", "--budget", "160", "--frames-per-chunk", "4", *arguments]
    with output.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def workers_of(session: int) -> list[int]:
    """Return the processes of a session's actors."""
    shown = subprocess.run(["ps", "-eo", "pid=,sid=,stat=,args="], check=True, capture_output=True)
    lines = [line.split(None, 3) for line in shown.stdout.decode().splitlines()]
    return [
        int(pid)
        for pid, sid, state, args in lines
        if int(sid) == session and not state.startswith("Z") and args.startswith("ray::StageActor")
    ]


def read_rows(output: Path) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Yield what an output's rows say, by name."""
    for path in sorted(output.glob("part-*.jsonl")):
        for line in path.read_text().split("\n")[:-1]:
            row = json.loads(line)
            yield (row["id"], row["question_index"]), {name: row[name] for name in _COLUMNS}


def kill_at_random(
    job: "subprocess.Popen[bytes]", dice: random.Random, damage: Damage, num_kills: int
) -> None:
    """Kill one process after another until there were so many or the job ends."""
    while damage.killed.total() < num_kills:
        try:
            job.wait(timeout=dice.expovariate(1 / _MEAN_SECONDS))
            return
        except subprocess.TimeoutExpired:
            workers = workers_of(job.pid)
        if dice.random() < _DRIVER_SHARE:
            os.kill(job.pid, signal.SIGKILL)
            damage.killed["driver"] += 1
        elif workers:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(workers), signal.SIGKILL)
                damage.killed["worker"] += 1


def compare(output: Path, expected: dict[tuple[str, int], dict[str, Any]], damage: Damage) -> None:
    """Count what an output lacks, has twice or says otherwise."""
    names = Counter(name for name, _ in read_rows(output))
    damage.lost += len(expected.keys() - names.keys())
    damage.repeated += sum(names.values()) - len(names)
    for name, row in read_rows(output):
        if row != expected[name]:
            damage.different.append(f"{name}: {row} instead of {expected[name]}")


def torment(folder: Path, *, num_kills: int, seed: int, seconds: float) -> Damage:
    """Run jobs until so many of their processes were killed, each job to its end.

    Args:
        folder: for clips and outputs.
        num_kills: of workers and drivers together.
        seed: of who is killed when; what that meets depends on the machine.
        seconds: after which no more is killed.
    """
    dice, damage = random.Random(seed), Damage()
    deadline = time.monotonic() + seconds
    manifest = write_manifest(folder)
    if start(manifest, folder / "undisturbed", "--executor", "local").wait():
        raise RuntimeError((folder / "undisturbed.log").read_text())
    expected = dict(read_rows(folder / "undisturbed"))
    while damage.killed.total() < num_kills and time.monotonic() < deadline:
        output = folder / f"job-{damage.jobs}"
        damage.jobs += 1
        status = None
        while status != 0 and time.monotonic() < deadline + 300:
            damage.runs += 1
            job = start(manifest, output, "--executor", "ray", "--num-encoders", "2")
            kill_at_random(job, dice, damage, num_kills)
            status = job.wait()
            if status not in (0, -signal.SIGKILL):
                raise RuntimeError(output.with_suffix(".log").read_text()[-2000:])
        compare(output, expected, damage)
    return damage


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1800)
    arguments = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        damage = torment(
            Path(folder),
            num_kills=arguments.kills,
            seed=arguments.seed,
            seconds=arguments.seconds,
        )
    kills = ", ".join(f"{number} {name}s" for name, number in damage.killed.items())
    print(
        f"{damage.jobs} jobs of {_NUM_CLIPS * len(_QUESTIONS)} rows in {damage.runs} runs and "
        f"{time.monotonic() - begin:.0f} s; killed: {kills}; rows lost {damage.lost}, repeated "
        f"{damage.repeated}, different {len(damage.different)}"
    )
    for text in damage.different:
        print(text)
    sys.exit(not damage.is_none)


if __name__ == "__main__":
    main()
