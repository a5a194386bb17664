"""Ray clusters of their own for tests: nodes, each a session of processes that can be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_node(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run ``ray start`` until the end of the block; killing its session kills the node.

    Not ``ray stop``: it would stop every cluster of the machine.
    """
    ray = str(Path(sys.executable).with_name("ray"))
    process = subprocess.Popen(
        [ray, "start", *arguments, "--block"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any("Ray runtime started" in line for line in process.stdout)
    try:
        yield process
    finally:
        kill_node(process)
        process.communicate()


@contextmanager
def ray_head(port: int, *, num_cpus: int) -> Iterator[str]:
    """Run a head node; gives its address."""
    folder = f"--temp-dir=/tmp/ray-test-{port}"  # Ray's sockets must have short paths
    cpus = f"--num-cpus={num_cpus}"
    with ray_node("--head", f"--port={port}", cpus, folder, "--include-dashboard=false"):
        yield f"127.0.0.1:{port}"


def kill_node(process: "subprocess.Popen[str]") -> None:
    """Kill whatever is left of a node, as a machine that loses its power."""
    pids = subprocess.run(["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True)
    for pid in pids.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
