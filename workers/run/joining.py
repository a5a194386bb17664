"""Joining a cluster, or starting one: what can be known before, and no half of one left behind."""

import errno
import os
import resource
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from workers.errors import ResourceError

_CONNECT_SECONDS = 10.0
_LEAST_FREE_BYTES = 64 * 2**20
_LOCAL = "or give --executor local"


def check_address(address: str) -> None:
    """Fail in seconds where nobody listens; Ray itself would try for minutes.

    Args:
        address: HOST:PORT, or auto.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ResourceError(f"no Ray cluster answers at --address {address} ({error})") from None


def check_machine(num_actors: int) -> None:
    """Refuse a private cluster where Ray would fail after half a minute, or hang.

    Measured: its processes need some 70 open files and three for each actor, and a folder for
    sockets and logs.

    Raises:
        ResourceError: too few open files allowed, or no space in Ray's folder.
    """
    needed = 128 + 8 * num_actors
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ResourceError(
            f"Ray needs about {needed} open files for {num_actors} workers, this shell allows "
            f"{hard}: raise it with ulimit -n, {_LOCAL}"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
            file.flush()
        found = os.statvfs(folder)
        if found.f_bavail * found.f_frsize < _LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, f"less than {_LEAST_FREE_BYTES // 2**20} MiB free")
    except OSError as error:
        raise ResourceError(
            f"Ray cannot write to its folder {folder} ({error.strerror}): free some space, set "
            f"RAY_TMPDIR to another folder, {_LOCAL}"
        ) from None


def settle_token() -> None:
    """Give a private cluster a token of its own where it would write one to an unwritable home."""
    given = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    stored = os.path.expanduser("~/.ray/auth_token")
    if not os.path.exists(stored) and not any(name in os.environ for name in given):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # Ray keeps it as long as the process


@contextmanager
def held_signals() -> Iterator[None]:
    """Deliver an interrupt after the block: half a cluster could not be stopped.

    Also puts back the handler of SIGTERM, which Ray replaces by one of its own that exits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    previous = {each: signal.signal(each, hold) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # of Ray's handler
        held.append(signal.SIGTERM)
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
        if held:
            signal.raise_signal(held[0])
