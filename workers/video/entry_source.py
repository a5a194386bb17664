"""An entry of stored tokens as a clip: what its manifest says, without the video."""

from dataclasses import dataclass

import numpy as np

from workers.arrays import Float64Array, Int64Array
from workers.disk.entry import read_manifest
from workers.disk.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EntrySource:
    """The frames that were sampled when the entry was made; position i is the i-th of them."""

    path: str
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name of the clip that the entry was made of."""
        return self.manifest.name

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was unusual about the clip."""
        return self.manifest.source_warnings

    @property
    def num_frames(self) -> int:
        """Number of frames that were sampled."""
        return len(self.manifest.sizes)

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells these tokens from others."""
        return self.path, self.manifest.arrays_digest

    def size_of(self, frame_position: int) -> tuple[int, int]:
        """Return the displayed (height, width) of a frame."""
        return self.manifest.sizes[frame_position]

    def pts_seconds(self, positions: Int64Array) -> Float64Array:
        """Return the source times, (n,) float64 seconds, of frames by position."""
        return np.array(self.manifest.key["pts_seconds"], np.float64)[positions]


def open_entry_source(path: str) -> EntrySource:
    """Open an entry by its manifest.

    Raises:
        EntryError: it is damaged, or of another format.
    """
    return EntrySource(path=path, manifest=read_manifest(path))
