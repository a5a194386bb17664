"""Where a run's stages run, and how many of each."""

from dataclasses import dataclass
from typing import Literal

from streaming.ranges import check_group, flag, option
from workers.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where the stages run, how many of each there are, and what bounds their queues."""

    executor: Literal["auto", "local", "ray"] = option(
        "auto",
        "in this process, or in actors on Ray (auto: ray where --address, several encoders or "
        "language models, or a limit on decode workers are asked for, else local)",
    )
    num_decoders: int = option(2, "decode workers", least=1, most=1024)
    num_encoders: int = option(1, "encode and prune workers", least=1, most=1024)
    num_llms: int = option(1, "replicas of the language model", least=1, most=1024)
    address: str | None = option(
        None, "HOST:PORT of a Ray cluster to join, or auto (default: a private local one)"
    )
    clips_in_flight: int = option(
        4, "clips worked on side by side, where a command takes many", least=1, most=1024
    )
    frames_per_chunk: int | None = option(
        None,
        "frames that travel together (default: 8; with --high-resolution gated 16 or fewer)",
        least=1,
        most=1024,
    )
    stall_seconds: float = option(
        900.0, "give up after so long without any progress", above=0, most=604_800
    )
    decode_seconds: float | None = option(
        None,
        "the same for decode workers, on Ray (default: --stall-seconds)",
        above=0,
        most=604_800,
    )
    decoder_gib: float | None = option(
        None,
        "memory that a decode worker may hold of its own, on Ray (default: any)",
        least=0.25,
        most=100_000,
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=())
        for name in ("decode_seconds", "decoder_gib"):
            if self.executor == "local" and getattr(self, name) is not None:
                raise InputError(
                    f"{flag(name)} ends a decode worker that goes beyond it, which only a process "
                    "of its own can be: leave out --executor local"
                )
        if self.address is None:
            return
        if self.executor == "local":
            raise InputError("--address joins a Ray cluster: leave out --executor local")
        _check_address(self.address)

    @property
    def resolved_executor(self) -> Literal["local", "ray"]:
        """Where the stages run, with ``auto`` settled."""
        if self.executor != "auto":
            return self.executor
        several = self.num_encoders > 1 or self.num_llms > 1
        limited = self.decode_seconds is not None or self.decoder_gib is not None
        return "ray" if several or limited or self.address is not None else "local"


def _check_address(address: str) -> None:
    """Refuse what is no address of a head node; ``ray://`` is that of another protocol."""
    scheme, colons, _ = address.partition("://")
    if colons:
        raise InputError(
            f"--address {address}: {scheme}:// is not taken; give HOST:PORT of the head node "
            "(Ray's own port is 6379), or auto"
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and not (
        host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536
    ):
        raise InputError(f"--address {address}: give HOST:PORT of the head node, or auto")
