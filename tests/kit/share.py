"""
A file system like a network share of another system, over a folder: ``share.py FOLDER PLACE``.

As vfat, exFAT and SMB servers do, it drops dots at the end of names, takes names in any case, and
has no links. A process of its own, as the tests use what it mounts.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any

from mfusepy import FUSE, FuseOSError, Operations


class Share(Operations):  # type: ignore[misc]
    """The file system."""

    use_ns = True

    def __init__(self, root: str) -> None:
        self._root = root

    def _find(self, path: str) -> str:
        found = self._root
        for part in filter(None, path.split("/")):
            name = part.rstrip(".") or part
            with_case = {entry.casefold(): entry for entry in _listdir(found)}
            found = f"{found}/{with_case.get(name.casefold(), name)}"
        return found

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._find(path))
        fields = ("mode", "uid", "gid", "size", "nlink", "ino")
        times = {f"st_{at}time": getattr(status, f"st_{at}time_ns") for at in "acm"}
        return {f"st_{field}": getattr(status, f"st_{field}") for field in fields} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._find(path))]

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._find(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._find(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._find(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._find(old), self._find(new))
        return 0

    def link(self, target: str, source: str) -> int:
        raise FuseOSError(errno.EPERM)

    def symlink(self, target: str, source: str) -> int:
        raise FuseOSError(errno.EPERM)

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        raise FuseOSError(errno.EPERM)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._find(path), ns=times or (time.time_ns(),) * 2)
        return 0

    def open(self, path: str, flags: int) -> int:
        return os.open(self._find(path), flags)

    def create(self, path: str, mode: int, fi: object = None) -> int:
        return os.open(self._find(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._find(path) if fh is None else fh, length)
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


if __name__ == "__main__":
    FUSE(Share(sys.argv[1]), sys.argv[2], foreground=True, nothreads=True, allow_other=True)
