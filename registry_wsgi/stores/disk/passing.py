"""Reading a large file once, so that the system and other programs notice as little as can be."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from typing import Any

from .system import open_regular

__all__ = ["open_passing"]

# After so many bytes what was read is given back.
_STEP = 8 << 20

# Python has these where the system does.
_NO_ATIME: int = getattr(os, "O_NOATIME", 0)


def open_passing(path: str) -> io.FileIO | None:
    """
    Open the regular file at *path* for reading from its start to its end; None if there is none.

    The time of the last access stays as it is, if the file is ours, and what was read does not stay
    in memory, where it would take the place of files that other programs need.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        opened = open_regular(path, _NO_ATIME)
    except OSError as error:
        if error.errno != errno.EPERM or not _NO_ATIME:
            raise
        opened = open_regular(path)  # another user's file
    return None if opened is None else _Passing(opened[0])


class _Passing(io.FileIO):
    """A file that gives back the memory of what was read."""

    def __init__(self, file: int) -> None:
        super().__init__(file, "rb")
        self._read = 0
        self._given_back = 0

    def readinto(self, buffer: Any, /) -> int | None:
        """Read some of it."""
        size = super().readinto(buffer)
        self._read += size or 0
        if self._read - self._given_back >= _STEP:
            self._give_back()
        return size

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            self._give_back()
        super().close()

    def _give_back(self) -> None:
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # it is advice
                os.posix_fadvise(self.fileno(), 0, self._read, os.POSIX_FADV_DONTNEED)
        self._given_back = self._read
