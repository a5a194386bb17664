"""Where a page is written: what may be written there is settled before the run."""

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from workers.errors import InputError, OutputError

_OF_OTHERS = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFBLK: "is a disk",
    stat.S_IFSOCK: "is a socket",
}
_WRITTEN_IN_PLACE = (stat.S_IFCHR, stat.S_IFIFO)


def check_report_path(path: str, video: str) -> None:
    """Refuse what a page cannot be written to, or must not be.

    The clip itself is found under any name: a symbolic or a hard link. Nothing is changed; a device
    and a pipe are not opened, as that alone could have an effect.

    Raises:
        InputError: names the path and the reason.
    """
    reason = _objection(path, video)
    if reason:
        raise InputError(f"--report {path}: {reason}")


def _objection(path: str, video: str) -> str:
    try:
        found = _kind(path)
        if found is not None:
            with suppress(OSError, ValueError):
                if os.path.samefile(path, video):
                    return "is the clip itself"
            if _is_stdout(path):
                return "is stdout, which carries the answers"
            if not os.access(path, os.W_OK):
                return "must not be written"
        if found in _OF_OTHERS:
            return _OF_OTHERS[found]
        if found not in _WRITTEN_IN_PLACE:
            folder = os.path.dirname(os.path.realpath(path))
            if not os.path.isdir(folder):
                return "its folder does not exist"
            if path.endswith(os.sep):
                return "is a directory's name"
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # a name with a zero byte
        return str(error)
    return "" if path else "the name is empty"


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write a page: a file in one step, so that no half page is ever seen; a device directly.

    A link stays, and what it points to is replaced, with the permissions that it had.

    Args:
        path: what :func:`check_report_path` let pass.
        page: names of files in it may hold bytes that are not UTF-8: those are shown as "?".

    Raises:
        OutputError: ``path`` cannot be written, or nobody reads a pipe.
    """
    content = page.encode("utf-8", errors="replace")
    try:
        if not os.fspath(path):  # which would be resolved to the working directory
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if _kind(path) in _WRITTEN_IN_PLACE:
            _write_directly(path, content)
        else:
            _write_anew(Path(os.path.realpath(path)), content)
    except OSError as error:
        reason = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise OutputError(f"--report {os.fspath(path)}: cannot be written: {reason}") from error


def _write_directly(path: str | os.PathLike[str], content: bytes) -> None:
    # Without O_NONBLOCK, to open a pipe that nobody reads would wait for ever.
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as file:
        file.write(content)


def _write_anew(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".report-{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        with suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _kind(path: str | os.PathLike[str]) -> int | None:
    """Return the file type behind all links, None where there is nothing."""
    try:
        return stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return None


def _is_stdout(path: str) -> bool:
    """Whether this is the very file that stdout goes to, be it a terminal; not so for /dev/null."""
    try:
        found, stdout = os.stat(path), os.fstat(1)
    except OSError:
        return False
    return os.path.samestat(found, stdout) and not os.path.samestat(found, os.stat(os.devnull))
