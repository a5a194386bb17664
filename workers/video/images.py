"""Still pictures as a clip: files or arrays, one a second, each of its own size."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from workers.arrays import Float64Array, Int64Array, UInt8Array
from workers.errors import VideoOpenError, display_name
from workers.frames import PictureChunk
from workers.video.fetch import find_file, local_path
from workers.video.image_files import displayed_size, read_image
from workers.video.limits import check_size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSource:
    """Still pictures in the order given; made by :func:`open_images`.

    ``pictures`` are paths or (height, width, 3) uint8 RGB arrays, ``sizes`` (n, 2) int64 their
    displayed (height, width). Picture i is shown from second i on.
    """

    pictures: tuple[str | UInt8Array, ...]
    sizes: Int64Array
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path of a picture alone, else how many there are."""
        first = self.pictures[0]
        if len(self.pictures) == 1 and isinstance(first, str):
            return display_name(first)
        return f"{len(self.pictures)} images" if len(self.pictures) > 1 else "an image"

    @property
    def num_frames(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    @property
    def pts(self) -> Int64Array:
        """(n,) int64 presentation times in units of ``time_base_seconds``: 0, 1, 2, ..."""
        return np.arange(self.num_frames)

    @property
    def time_base_seconds(self) -> float:
        """The unit of ``pts``."""
        return 1.0

    @property
    def seekable(self) -> bool:
        """True: any picture can be read by itself."""
        return True

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells these pictures from others: versions of files, digests of pixels."""
        return tuple(map(_identity, self.pictures))

    def size_of(self, frame_position: int) -> tuple[int, int]:
        """Return the displayed (height, width) of a picture."""
        height, width = self.sizes[frame_position].tolist()
        return height, width

    def pts_seconds(self, positions: Int64Array) -> Float64Array:
        """Return (n,) float64 presentation times of pictures by position: one a second."""
        return self.pts[positions].astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSegment:
    """Some still pictures of one clip, sliced and read like a ``VideoSegment``."""

    clip_id: str
    pictures: tuple[str | UInt8Array, ...]
    sizes: Int64Array
    pts_seconds: Float64Array
    first_frame: int
    frames_per_chunk: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.pictures)

    def __getitem__(self, frames: slice) -> Self:
        start, _, step = frames.indices(len(self))
        if step != 1:
            raise ValueError(f"a segment is contiguous: {frames = }")
        return replace(
            self,
            pictures=self.pictures[frames],
            sizes=self.sizes[frames],
            pts_seconds=self.pts_seconds[frames],
            first_frame=self.first_frame + start,
        )

    def chunks(self) -> Iterator[Self]:
        """Yield slices of ``frames_per_chunk`` frames, the last one perhaps of fewer."""
        for start in range(0, len(self), self.frames_per_chunk):
            yield self[start : start + self.frames_per_chunk]

    def __repr__(self) -> str:
        frames = f"frames {self.first_frame} to {self.first_frame + len(self) - 1}"
        return f"ImageSegment({self.clip_id}, {frames})"


def _identity(picture: str | UInt8Array) -> tuple[object, ...]:
    if isinstance(picture, str):
        status = os.stat(local_path(picture))
        return picture, status.st_size, status.st_mtime_ns
    return picture.shape, hashlib.blake2b(np.ascontiguousarray(picture).data).hexdigest()


def open_images(pictures: Sequence[str | UInt8Array]) -> ImageSource:
    """Take still pictures for a clip, of files reading no more than the headers.

    Args:
        pictures: paths or URIs of JPEG, PNG, WebP, BMP, TIFF, PPM, JPEG 2000 or AVIF files, or
            (height, width, 3) uint8 RGB arrays; at least one. They may differ in size. Files are
            set upright by their EXIF orientation, transparency is left out; of a file with several
            pages the first is taken.

    Raises:
        VideoOpenError: a file is missing, no picture, or animated.
        VideoLimitError: a picture of more than 64 million pixels.
        ValueError: an array that is no picture, or no picture at all.
    """
    if not pictures:
        raise ValueError("a clip of images has at least one")
    pictures = [find_file(each) if isinstance(each, str) else each for each in pictures]
    notes: list[str] = []
    sizes = [_size_of(picture, notes) for picture in pictures]
    return ImageSource(
        pictures=tuple(pictures), sizes=np.array(sizes, np.int64), warnings=tuple(notes)
    )


def read_images(segment: ImageSegment) -> Iterator[PictureChunk]:
    """Yield the segment's chunks; see ``workers.video.decode.read_pictures``."""
    for chunk in segment.chunks():
        yield PictureChunk(
            clip_id=chunk.clip_id,
            frame_indices=chunk.first_frame + np.arange(len(chunk)),
            pts_seconds=chunk.pts_seconds,
            pictures=tuple(map(_read, chunk.pictures, chunk.sizes)),
        )


def _size_of(picture: str | UInt8Array, notes: list[str]) -> tuple[int, int]:
    if isinstance(picture, str):
        return displayed_size(picture, notes)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"a picture is (height, width, 3) uint8: {picture.shape = } {picture.dtype = }"
        )
    height, width = picture.shape[:2]
    check_size("an image", width, height)
    return height, width


def _read(picture: str | UInt8Array, size: Int64Array) -> UInt8Array:
    if not isinstance(picture, str):
        return picture
    pixels = read_image(picture)
    if pixels.shape[:2] != tuple(size):
        raise VideoOpenError(f"{display_name(picture)}: has changed since it was opened")
    return pixels
