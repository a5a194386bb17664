"""Which frames of a clip are looked at, and what the checkpoint makes of each of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pruner import METHODS
from streaming.option_groups import FrameOptions
from streaming.options import Options
from streaming.served import check_dtype, check_frames
from workers.arrays import Int64Array
from workers.checkpoint import locate, read_config
from workers.llm.chat_template import ChatTemplate
from workers.llm.context import check_layer
from workers.video.entry_source import EntrySource
from workers.video.images import ImageSource
from workers.video.sampling import at_keyframes, sample_frames
from workers.video.source import Source, open_source
from workers.video.video_index import VideoIndex
from workers.video.with_decord import import_decord
from workers.vision.geometry import TileGeometry
from workers.vision.tower import load_geometry

DEFAULT_NUM_FRAMES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the driver has to know of a model: where it cuts tiles, and how it is asked."""

    geometry: TileGeometry
    template: ChatTemplate
    num_layers: int | None


@lru_cache(maxsize=4)
def open_checkpoint(model: str) -> Checkpoint:
    """Read a checkpoint's configuration, tokenizer and chat template.

    Raises:
        ModelError: it cannot be found or used.
    """
    location = locate(model)
    config = read_config(location)
    return Checkpoint(
        geometry=load_geometry(location),
        template=ChatTemplate.load(location),
        num_layers=(config.get("text_config") or {}).get("num_hidden_layers"),
    )


def check_run(options: Options) -> None:
    """Refuse, before any of many clips is opened, what no clip could be asked with.

    Raises:
        ModelError: the model cannot be found or used.
        InputError: the model has not FastV's layer, or the decoder is not installed.
    """
    _checkpoint_for(options)
    if options.frames.decoder == "decord":
        import_decord()


def _checkpoint_for(options: Options) -> Checkpoint:
    checkpoint = open_checkpoint(options.model.model)
    in_model = METHODS[options.pruning.pruner].scope == "model" or options.budget.question_aware
    if in_model and checkpoint.num_layers is not None:
        check_layer(options.pruning.fastv_layer, checkpoint.num_layers)
    return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledClip:
    """A source, the frames sampled from it, and what the checkpoint makes of each of them.

    ``frame_indices`` are positions in the source, ``lengths`` the unpruned tokens of each.
    """

    source: Source
    frame_indices: Int64Array
    lengths: Int64Array
    checkpoint: Checkpoint
    tiles: TileGeometry


def sample_clip(
    path: str, options: Options, progress: Callable[[float], object] | None = None
) -> SampledClip:
    """Open a clip and sample its frames; see :func:`sample_source`.

    Args:
        path: a local file, or the URI of one: a video or a still picture.
        options: of the run.
        progress: told the share of the file read so far.

    Raises:
        VideoError: the clip cannot be read.
    """
    return sample_source(open_source(path, progress=progress), options)


def sample_source(source: Source, options: Options) -> SampledClip:
    """Sample a source's frames and read the checkpoint's geometry; an entry has its own frames.

    Raises:
        ModelError: the model cannot be found.
        InputError: the options do not fit the clip, or FastV's layer the model.
    """
    checkpoint = _checkpoint_for(options)
    tiles = checkpoint.geometry
    tiles = tiles.without_grid() if options.frames.high_resolution == "none" else tiles
    if isinstance(source, EntrySource):
        check_frames(source, options.frames, tiles)
        check_dtype(source, options.model.dtype)
        frame_indices = np.arange(source.num_frames)
    else:
        frame_indices = _sample(source, options.frames)
    sizes = {source.size_of(int(frame)) for frame in frame_indices}
    length_of = {size: tiles.frame(*size).layout.num_tokens for size in sizes}
    lengths = [length_of[source.size_of(int(frame))] for frame in frame_indices]
    return SampledClip(
        source=source,
        frame_indices=frame_indices,
        lengths=np.array(lengths, np.int64),
        checkpoint=checkpoint,
        tiles=tiles,
    )


def count_tiles(source: Source, frames: Int64Array, tiles: TileGeometry) -> int:
    """Return the tiles, base and grid, of frames at some positions of a source."""
    sizes = Counter(map(source.size_of, frames.tolist()))
    return sum(tiles.frame(*size).num_tiles * number for size, number in sizes.items())


def seconds_of(source: Source) -> float:
    """Return the time from a source's first picture to its last."""
    first, last = source.pts_seconds(np.array([0, source.num_frames - 1])).tolist()
    return float(last - first)


def _sample(source: VideoIndex | ImageSource, frames: FrameOptions) -> Int64Array:
    num_frames = frames.num_frames
    if num_frames is None and frames.fps is None:
        num_frames = DEFAULT_NUM_FRAMES
    frame_indices = sample_frames(
        source,
        num_frames=num_frames,
        fps=frames.fps,
        start_seconds=frames.start,
        end_seconds=frames.end,
    )
    if frames.precision == "keyframe" and isinstance(source, VideoIndex):
        return at_keyframes(source, frame_indices)
    return frame_indices
