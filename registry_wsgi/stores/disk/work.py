"""
The work that is under way: a file with one line, which is there for as long as the work is.

Whoever works holds a lock on the file ``under-way.json``. So a process that is killed shows nothing
any more, and the next one that works takes the file over. Of several at work the first one shows.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .directory import Directory
from .places import Part, Places
from .system import Reported, open_regular, try_lock, unlock

__all__ = ["Work"]

_NAME = "under-way.json"

# A line that is older, or as far in the future, counts for nothing, in seconds. Where files cannot
# be locked, a killed process shows for as long; so it does while a child of it has the file open.
_STALE = 300.0

# No line of ours is longer, in bytes.
_LONGEST = 4_000


class Work(Part):
    """A `~registry_wsgi.stores.base.WorkStore` in a file of the models directory."""

    @contextmanager
    def show_work(self) -> Iterator[Callable[[str], None]]:
        note = _Note(self.places)
        try:
            yield note.write
        finally:
            note.close()

    def work(self) -> str | None:
        path = f"{self.places.root}/{_NAME}"
        with Reported(path):
            opened = open_regular(path, os.O_NOFOLLOW)
            if opened is None:
                return None
            file, status = opened
            with os.fdopen(file, "rb") as stream:
                # A lock that we get is gone again when the file is closed.
                if try_lock(file, shared=True) or abs(time.time() - status.st_mtime) > _STALE:
                    return None
                return stream.read(_LONGEST).decode("ascii", "replace")


class _Note:
    """The line of one who works."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._file: int | None = None

    def write(self, line: str) -> None:
        with Reported(f"{self._places.root}/{_NAME}"):
            if self._file is None:
                with self._places.open() as top:
                    self._file = _open(top)
            if self._file is not None:
                os.ftruncate(self._file, 0)
                os.write(self._file, line.encode())

    def close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        # What fails here leaves a file that nobody holds, which shows nothing.
        with suppress(Exception), self._places.open() as top:
            if os.path.samestat(top.stat(_NAME), os.fstat(file)):
                top.unlink(_NAME)
        unlock(file)
        with suppress(OSError):
            os.close(file)


def _open(top: Directory) -> int | None:
    """Open the file to write in it, and lock it; None if another has it, or it is none of ours."""
    file = top.append(_NAME)
    try:
        status = os.fstat(file)
        # With a second name it may be a file of somebody else. Another one may have removed it
        # before it was locked here: then there is a new one, or none.
        ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if ours and try_lock(file) is not False and os.path.samestat(top.stat(_NAME), status):
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None
