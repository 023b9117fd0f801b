"""What takes space in a models directory: every file, folder and link, as ``du`` counts them."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator

from ..base import Disk, File
from .places import Part
from .system import Reported, store_error

__all__ = ["Survey"]

_log = logging.getLogger("registry_wsgi")

# What stat(2) counts blocks in, whatever the blocks of the file system are.
_BLOCK = 512


class Survey(Part):
    """A `~registry_wsgi.stores.base.SurveyedStore` in a directory."""

    def survey(self) -> Iterator[File]:
        with Reported(self.places.root):
            yield _file("", os.stat(self.places.root))
        yield from _below(self.places.root, "")

    def disk(self) -> Disk | None:
        with Reported(self.places.root):
            path = self.places.blobs if os.path.isdir(self.places.blobs) else self.places.root
            status = os.statvfs(path)
        unit = status.f_frsize
        used = status.f_blocks - status.f_bfree
        return Disk(status.f_blocks * unit, status.f_bavail * unit, used * unit)


def _below(path: str, below: str) -> Iterator[File]:
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries]  # there may be a million
    except OSError as error:  # another user's folder, say: `du` goes on, too
        _log.warning("%s: not counted", store_error(error, path))
        return
    for name in names:
        here, place = f"{below}{name}", f"{path}/{name}"
        try:
            status = os.lstat(place)
            yield _file(here, status)
            # The blobs or the manifests may be on another disk, by a link.
            if here in ("blobs", "manifests") and stat.S_ISLNK(status.st_mode):
                status = os.stat(place)
                yield _file(here, status)
        except OSError as error:
            _log.debug("%s: not counted", store_error(error, place))
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _below(place, f"{here}/")


def _file(path: str, status: os.stat_result) -> File:
    folder = stat.S_ISDIR(status.st_mode)
    return File(
        path,
        (status.st_dev, status.st_ino),
        0 if folder else status.st_size,
        status.st_blocks * _BLOCK,
        1 if folder else status.st_nlink,
        max(status.st_mtime, status.st_ctime),
        folder,
    )
