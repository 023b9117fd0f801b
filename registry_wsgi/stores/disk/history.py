"""
The history: the last changes, one a line, in a file to which any number of processes append.

``history.jsonl`` is renamed to ``history.old.jsonl`` when it has grown large. That takes the place
of the file of that name, so the two never take much space. A rename needs no room. Whoever appends
meanwhile still has the renamed file open, so the line is in that one.

No change waits for the disk to have a line. After a power cut the last ones may be broken. So each
line begins with the end of the line before: a broken one spoils no other.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress

from ...errors import StoreError, quote
from .directory import Directory
from .places import Part
from .system import Reported, open_regular, try_lock

__all__ = ["History"]

_log = logging.getLogger("registry_wsgi")

_NAME = "history.jsonl"
_OLD = "history.old.jsonl"

# From how many bytes on the file is renamed: several hundred changes.
_LIMIT = 128 << 10


class History(Part):
    """A `~registry_wsgi.stores.base.HistoryStore` in two files of the models directory."""

    def append_history(self, line: str) -> None:
        data = f"\n{line}".encode()
        with Reported(f"{self.places.root}/{_NAME}"), self.places.open() as top:
            if not _append(top, data, _LIMIT):
                # Renamed now; or another is about to, or it cannot be: then this one is used still.
                _append(top, data, 2 * _LIMIT)

    def history(self) -> list[str]:
        lines: list[str] = []
        known = None
        for name in (_NAME, _OLD):
            path = f"{self.places.root}/{name}"
            with Reported(path):
                opened = open_regular(path, os.O_NOFOLLOW)
                if opened is None:
                    if os.path.lexists(path):  # a link, say, which may lead to anything
                        _log.warning("%s: not a file, so no change in it is known", quote(path))
                    continue
                file, status = opened
                with os.fdopen(file, "rb") as stream:
                    if known is not None and os.path.samestat(status, known):
                        continue  # renamed since it was read
                    known = status
                    # A file of ours is never as large.
                    stream.seek(max(status.st_size - 4 * _LIMIT, 0))
                    data = stream.read(4 * _LIMIT)
            lines = data.decode("ascii", "replace").split("\n") + lines
        return [line for line in lines if line]


def _append(top: Directory, data: bytes, limit: int) -> bool:
    """
    Append *data*, unless the file has *limit* bytes: then try to rename it.

    Raises:
        OSError: That cannot be done.
        StoreError: Something else is there, which stays as it is.
    """
    file = top.append(_NAME)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{top.path}/{_NAME}: not a file")
        # With a second name it may be a file of somebody else, or a copy that is to stay.
        if status.st_nlink == 1 and status.st_size < limit:
            os.write(file, data)
            return True
        _rename(top, file, status)
        return False
    finally:
        os.close(file)


def _rename(top: Directory, file: int, status: os.stat_result) -> None:
    if try_lock(file) is False:  # another is about to rename it
        return
    with suppress(FileNotFoundError):
        if os.path.samestat(top.stat(_NAME), status):  # else another has renamed it
            top.rename(_NAME, top, _OLD)
