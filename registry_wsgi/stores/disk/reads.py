"""
When a blob was last read, and whether somebody has it open.

Reading a file moves its time of access, if the file system and the mount keep such times. Whether
they do is tried with a file without a name, which leaves no trace. These times lag behind: where
the mount is ``relatime``, as is usual, a time under a day old stays as it is. To open a file, to
look at it and to link it does not move the time; to read its header does, as Ollama's server does
with each model when it starts.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ...errors import UntouchableError
from .blobs import Blobs
from .mounts import layers_at
from .system import NO_ROOM, Reported, open_regular, status_of

__all__ = ["Reads"]

# Long ago, so that any mount moves the time: in seconds.
_LONG = 40 * 86_400

# Who else asks whether a blob is open has it open, but only for a moment, in seconds. This often it
# is looked at again.
_TRIES, _MOMENT = 3, 0.005

# Python has it where the system does.
_NAMELESS: int = getattr(os, "O_TMPFILE", 0)


class Reads(Blobs):
    """A `~registry_wsgi.stores.base.WatchedStore` in the directory ``blobs``."""

    def last_reads(self, names: Iterable[str]) -> Iterator[tuple[str, float]]:
        with Reported(self.places.blobs):
            device = _where_reads_show(self.places.blobs)
        if device is None:
            return
        layers = layers_at(device)
        for name in names:
            path = self.places.blob(self._present(name))
            with Reported(path):
                status = status_of(path, follow=False)
            # A link leads to another place, where reads may not show.
            if status is None or not stat.S_ISREG(status.st_mode) or status.st_dev != device:
                continue
            if layers is not None and layers.copies(path):
                continue  # no time ever moves in a lower layer
            if status.st_atime_ns >= status.st_mtime_ns:
                yield name, status.st_atime

    def is_open(self, name: str) -> bool | None:
        path = self.places.blob(self._present(name))
        is_open = _is_open(path)
        for _ in range(_TRIES):
            if not is_open:
                break
            time.sleep(_MOMENT)
            is_open = _is_open(path)
        return is_open


def _where_reads_show(folder: str) -> int | None:
    """Tell the ``st_dev`` of the files in *folder*, if to read one moves its time of access."""
    if not _NAMELESS:
        return None
    try:
        file = os.open(folder, _NAMELESS | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in NO_ROOM:
            return _where_reads_should_show(folder)
        return None  # the file system has no such files, or we may not make one
    try:
        before = time.time() - _LONG
        os.utime(file, (before, before))
        os.read(file, 1)  # of an empty file: that moves the time all the same, and needs no room
        status = os.fstat(file)
    except OSError:
        return None
    finally:
        os.close(file)
    return status.st_dev if status.st_atime - before > _LONG / 2 else None


def _where_reads_should_show(folder: str) -> int | None:
    """
    Tell the same, where there is no room to try it: by what the mount says.

    A file system that is only out of room for a file without a name is one of this machine's disks,
    or of layers on these. There the mount alone decides.
    """
    with suppress(OSError):
        if not os.statvfs(folder).f_flag & getattr(os, "ST_NOATIME", ~0):
            return os.stat(folder).st_dev
    return None


def _is_open(path: str) -> bool | None:
    try:
        with Reported(path):
            opened = open_regular(path)
            if opened is None:
                return False
            try:
                return _is_open_elsewhere(opened[0])
            finally:
                os.close(opened[0])
    except UntouchableError:  # another user's
        return None


def _is_open_elsewhere(file: int) -> bool | None:
    """
    Tell whether anybody else has the open *file* open or mapped, by any name and mount.

    The system gives a lease for writing only if nobody has. It is given back at once: whoever opens
    the file in between waits for that.
    """
    import fcntl  # noqa: PLC0415 - not everywhere

    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # Whoever opens it in between lets the system send us a signal. By default that would end
        # the process; nobody is ended by this one.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # Another's file, or a file system that gives none: nobody can tell.
        return True if error.errno == errno.EAGAIN else None
    return False
