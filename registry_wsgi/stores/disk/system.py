"""What the system says, and what its answers mean here."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress

from ...errors import InvalidManifestError, NoRoomError, StoreError, UntouchableError
from ..base import Blob, Manifest
from ..layout import MANIFEST_SIZE, TOMBSTONE

__all__ = [
    "ABSENT",
    "NO_LINKS",
    "NO_ROOM",
    "TICK",
    "UNTOUCHABLE",
    "Reported",
    "blob_of",
    "is_fresh",
    "is_kept_open",
    "is_manifest",
    "last_change",
    "listed",
    "look_at",
    "open_regular",
    "read_manifest",
    "refuse_read_only",
    "status_of",
    "store_error",
    "tolerated",
    "try_lock",
    "unlock",
    "version",
]

#: What the system says where hard links are not to be had: another file system, none at all, a file
#: of another owner (fs.protected_hardlinks), too many links to one file.
NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}

# What the system says where files cannot be locked, as on some network file systems.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}

#: What the system says when there is no room for more.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

#: What the system says of a file that we cannot change now: it is immutable, another user's, a
#: mount point, or open elsewhere on a network file system.
UNTOUCHABLE = {errno.EPERM, errno.EACCES, errno.EBUSY, errno.ETXTBSY}

#: What the system says when nothing is at a path. A part of a legal name may be longer than the
#: file system allows: then there is no such file either. A link that leads to itself leads nowhere.
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}

#: Longer than a tick of the clock that stamps files, in seconds: a kernel's clock ticks every 1 to
#: 10 milliseconds.
TICK = 0.02
# The same for file systems that only keep every other second (FAT).
_LONG_TICK = 2.5


class Reported:
    """Raises an error of the system as one of ours. (A generator would take more time.)"""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise store_error(error, self._path) from error


def refuse_read_only(path: str) -> None:
    """
    Refuse to go on if what is at *path* may only be read.

    Raises:
        OSError: It is on a file system that is mounted so.
    """
    try:
        flags = os.statvfs(path).f_flag
    except OSError:
        return  # the change that follows fails, and tells why
    if flags & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def is_kept_open(name: str) -> bool:
    """
    Tell whether a network file system keeps a removed file under *name*, as somebody has it open.

    It goes when that is closed. Until then it cannot be removed, and comes again if it is moved.
    """
    return name.startswith(".nfs")


@contextmanager
def tolerated(*numbers: int) -> Iterator[None]:
    """Pass over the errors *numbers* of the system."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def store_error(error: OSError, path: str) -> StoreError:
    """Make an error of ours. It names the path that the system does, or else *path*."""
    kind = StoreError
    if error.errno in NO_ROOM:
        kind = NoRoomError
    elif error.errno in UNTOUCHABLE:
        kind = UntouchableError
    name = error.filename
    # In an open directory the system knows but the name of the file.
    named = name if isinstance(name, str) and os.path.isabs(name) else path
    return kind(f"{named}: {error.strerror or error}")


def status_of(path: str, *, follow: bool = True) -> os.stat_result | None:
    """Look at *path*, or at what a link there leads to; None if there is nothing."""
    try:
        return os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise


def last_change(path: str) -> float:
    """Tell when what is at *path* last changed in any way; 0 if there is nothing."""
    status = status_of(path)
    return 0.0 if status is None else max(status.st_mtime, status.st_ctime)


def try_lock(file: int, *, shared: bool = False) -> bool | None:
    """
    Lock the open *file* without waiting, so that no other process can until `unlock`.

    Args:
        shared: Whether others may have a shared lock at the same time.

    Returns:
        True: it is locked. False: another process has it locked. None: it cannot be locked here.

    Raises:
        OSError: The system failed.
    """
    try:
        import fcntl  # noqa: PLC0415 - not everywhere

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except ImportError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def unlock(file: int) -> None:
    """
    Give back the lock of the open *file*, if there is one.

    Closing the file is not enough: a process that was forked meanwhile has it open, too.
    """
    with suppress(OSError, ImportError):
        import fcntl  # noqa: PLC0415 - not everywhere

        fcntl.flock(file, fcntl.LOCK_UN)


def listed(path: str) -> list[str]:
    """List the names in the directory *path*; none if there is none."""
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise


def is_manifest(path: str) -> bool:
    """Tell whether something that is no directory is at *path*."""
    status = status_of(path, follow=False)
    if status is not None and stat.S_ISLNK(status.st_mode):
        # A link that leads nowhere counts, too: it can be deleted.
        status = status_of(path) or status
    return status is not None and not stat.S_ISDIR(status.st_mode)


def open_regular(path: str, flags: int = 0) -> tuple[int, os.stat_result] | None:
    """Open the regular file at *path* for reading, with more *flags*; None if there is none."""
    try:
        # Not blocking, as opening a named pipe would wait for a writer.
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
        except BlockingIOError:
            # Another process of ours asks whether this file is open (`is_open`), which takes it a
            # moment. No named pipe gives this error.
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno in ABSENT or error.errno == errno.ENXIO:  # a socket
            return None
        raise
    try:
        status = os.fstat(file)
    except OSError:
        os.close(file)
        raise
    if stat.S_ISREG(status.st_mode):
        return file, status
    os.close(file)
    return None


def read_manifest(path: str) -> Manifest | None:
    """
    Read the manifest at *path*; None if there is none, or only what a delete in a bucket has left.

    Raises:
        StoreError: It cannot be read, or is too large to be one.
    """
    try:
        opened = open_regular(path)
        if opened is None:
            return None
        file, status = opened
        try:
            size = status.st_size
            if size > MANIFEST_SIZE:
                raise InvalidManifestError(f"{path}: not a manifest: {size} bytes")
            # One byte more is asked for. If the file grows while it is read, the data then ends
            # with that byte, and is not taken for a whole manifest.
            data = os.read(file, size + 1)
            while len(data) != size and (chunk := os.read(file, size + 1 - len(data))):
                data += chunk
        finally:
            os.close(file)
    except OSError as error:
        raise store_error(error, path) from error
    if data.startswith(TOMBSTONE):  # copied from a bucket, where a killed delete had left it
        return None
    modified = max(status.st_mtime, status.st_ctime)
    return Manifest(data, modified, version(status), status.st_mtime)


def version(status: os.stat_result) -> Hashable | None:
    """Make the version of a manifest from what the system says of its file."""
    if is_fresh(status):
        return None
    # With the ctime, as some programs copy a file over another and set its mtime back.
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, *times, status.st_size


def is_fresh(status: os.stat_result) -> bool:
    """
    Tell whether something changed so recently that another change could keep the same times.

    (git calls such a file racily clean.)
    """
    now = time.time_ns()
    for stamp in (status.st_ctime_ns, status.st_mtime_ns):
        tick = TICK if stamp % 10_000_000 else _LONG_TICK
        if abs(now - stamp) < tick * 1_000_000_000:
            return True
    return False


def look_at(path: str, home: str | None = None, *, dangling: bool = False) -> Blob | None:
    """
    Look at the blob at *path*; None if there is none.

    Args:
        path: Where it is.
        home: From which directory a symbolic link leads on, if not from where it is.
        dangling: Whether a symbolic link that leads nowhere counts, too.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise store_error(error, path) from error
    return blob_of(status, path, home, dangling=dangling)


def blob_of(
    status: os.stat_result, path: str, home: str | None = None, *, dangling: bool = False
) -> Blob | None:
    """Make of *status*, which is that of *path* itself, what `look_at` gives."""
    if stat.S_ISLNK(status.st_mode):
        return _linked(path, home, status, dangling=dangling)
    if not stat.S_ISREG(status.st_mode):
        return None
    written = status.st_mtime
    content = status.st_dev, status.st_ino
    return Blob(status.st_size, max(written, status.st_ctime), written, content, status.st_nlink)


def _linked(path: str, home: str | None, place: os.stat_result, *, dangling: bool) -> Blob | None:
    with Reported(path):
        leads_to = path if home is None else os.path.join(home, os.readlink(path))
        status = status_of(leads_to)
    if status is None and dangling:
        times = place.st_mtime, place.st_ctime
        return Blob(0, max(times), place.st_mtime, (place.st_dev, place.st_ino), links=2)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return Blob(
        size=status.st_size,
        changed=max(status.st_mtime, status.st_ctime, place.st_ctime),
        written=max(status.st_mtime, place.st_mtime),
        content=(status.st_dev, status.st_ino),
        # A symbolic link takes no space itself, and its target stays when it goes.
        links=status.st_nlink + 1,
    )
