"""Opening whatever the user names as a clip: a video, a still picture, an entry of a store."""

from collections.abc import Callable

from workers.disk.entry import is_entry
from workers.errors import VideoOpenError, display_name
from workers.video.entry_source import EntrySource, open_entry_source
from workers.video.fetch import find_file, local_path
from workers.video.image_files import is_image
from workers.video.images import ImageSource, open_images
from workers.video.index import index_video
from workers.video.limits import check_file
from workers.video.video_index import VideoIndex

Source = VideoIndex | ImageSource | EntrySource
"""An opened clip; of any kind it tells ``name``, ``num_frames``, ``size_of`` and the like."""

_HEIF_BRANDS = (b"avif", b"heic", b"heix", b"mif1")


def open_source(
    path: str,
    *,
    timeout_seconds: float = 20.0,
    progress: Callable[[float], object] | None = None,
) -> Source:
    """Open a file as a clip; a still picture is a clip of one frame.

    Whether it is one is told by the content, not by the name. What a URI names is copied to this
    machine, and later to each machine that reads it, always in the version found now; see
    :mod:`workers.video.fetch`.

    Args:
        path: a local regular file, or the URI of a file (``s3://``, ``gs://``, ``file://`` and what
            else pyarrow's file systems read): a video, or a picture as ``open_images`` takes it,
            or an entry.
        timeout_seconds: see :func:`workers.video.index.index_video`, as for ``progress``.
        progress: told the share of the file read so far.

    Raises:
        VideoError: see ``index_video`` and ``open_images``.
        EntryError: an entry is damaged, or of another format.
    """
    path = find_file(path)
    check_file(path)
    if is_entry(local_path(path)):
        return open_entry_source(local_path(path))
    if _is_heif(path):
        if not is_image(path):
            raise VideoOpenError(
                f"{display_name(path)}: is a HEIF picture, which is not read here; "
                "convert it to JPEG or PNG"
            )
        return open_images([path])
    try:
        return index_video(path, timeout_seconds=timeout_seconds, progress=progress)
    except VideoOpenError as error:
        if not is_image(path):
            raise error from None
    return open_images([path])


def _is_heif(path: str) -> bool:
    """Tell a picture in the boxes of MP4, of which FFmpeg would show one tile as the whole."""
    try:
        with open(local_path(path), "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS
