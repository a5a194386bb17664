"""The exception tree, drawn in one place.

::

    StreamError
    ├── InputError                 an option or a question the run cannot work with
    ├── VideoError                 a clip that cannot be read; names the file and the reason
    │   ├── VideoOpenError         missing, not a file, no video or picture, header unreadable
    │   ├── NoVideoStreamError     opens, but holds no moving pictures
    │   ├── VideoDecodeError       has a video stream of which not one wanted frame can be decoded
    │   ├── VideoLimitError        frames too large to be decoded safely
    │   └── VideoTimeoutError      reading made no progress for longer than its time limit
    ├── ModelError                 a checkpoint that cannot be found, read or used
    ├── ContextError               text plus visual budget exceed the model's context
    ├── ResourceError              the cluster cannot place the actors that were asked for
    ├── OutputError                what the run has made cannot be written
    ├── FailedRowsError            a job is done, but too many of its rows have no answer
    ├── ServerError                a server that cannot be reached, or does not answer a question
    ├── EntryError                 stored tokens that are damaged, or those of something else
    └── WorkerError                a worker failed or died more often than recovery allows
        └── TokensLostError        ranked tokens are gone that cannot be made again

Every exception carries one message string, so it survives pickling between actors unchanged.
"""

import re


def display_name(path: str) -> str:
    """Return ``path`` fit for a one-line message, without the keys that a URI may hold."""
    shown = re.sub(r"^([a-z][a-z0-9+.-]*://)[^/]*@", r"\1...@", path, flags=re.IGNORECASE)
    return shown if shown.isprintable() else repr(shown)


class StreamError(Exception):
    """Root of every error this project raises on purpose; its text is one line for the user."""


class InputError(StreamError):
    """An option or a question the run cannot work with."""


class VideoError(StreamError):
    """A clip that cannot be read."""


class VideoOpenError(VideoError):
    """The path is missing, is not a file, or is not a readable video or picture."""


class NoVideoStreamError(VideoError):
    """The container opens but holds no video stream."""


class VideoDecodeError(VideoError):
    """The clip has a video stream, but not one of the wanted frames can be decoded."""


class VideoLimitError(VideoError):
    """The clip's frames are larger than the stated limit."""


class VideoTimeoutError(VideoError):
    """Reading the clip made no progress for longer than its time limit."""


class ModelError(StreamError):
    """A checkpoint that cannot be found, read or used."""


class ContextError(StreamError):
    """Text plus visual budget do not fit the model's context."""


class ResourceError(StreamError):
    """The cluster cannot place the actors that were asked for."""


class OutputError(StreamError):
    """What the run has made cannot be written: stdout or a file is full, closed or gone."""


class FailedRowsError(StreamError):
    """A job is done, but more of its rows have no answer than it was allowed."""


class EntryError(StreamError):
    """A file of stored tokens that is damaged, or holds those of something else."""


class ServerError(StreamError):
    """A server that is asked over the network cannot be reached, or does not answer."""


class WorkerError(StreamError):
    """A worker failed or died more often than recovery allows."""


class TokensLostError(WorkerError):
    """Ranked tokens are gone, with the machine that held them, that cannot be made again."""
