"""The blobs in place."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator
from typing import BinaryIO

from ..base import Blob
from ..layout import digits_of
from .directory import if_there
from .passing import open_passing
from .places import Part
from .system import (
    Reported,
    is_kept_open,
    last_change,
    listed,
    look_at,
    status_of,
    version,
)
from .workshops import preparing

__all__ = ["Blobs", "spelled"]


def _spellings(name: str) -> tuple[str, ...]:
    """
    Spell the name of a blob in all ways that are usual, *name* itself first.

    Ollama names a file as the manifest writes the digest, in any case; older ones with a colon.
    """
    digits = digits_of(name)
    if digits is None:
        return (name,)
    usual = (f"sha256-{digits}", f"sha256:{digits}", f"sha256-{digits.upper()}")
    return (name, *(other for other in usual if other != name))


def spelled(names: Iterable[str], name: str) -> str | None:
    """Find the first of *names* that is the name of the same blob as *name*, in any letters."""
    digits = digits_of(name)
    if digits is None:
        return None
    return next((other for other in names if digits_of(other) == digits), None)


class Blobs(Part):
    """A `~registry_wsgi.stores.base.BlobStore` in the directory ``blobs``."""

    # The blobs with a name that is spelled in an unusual way, by their digits, and the version of
    # the directory that they were seen in.
    _unusual: tuple[Hashable | None, dict[str, str]] = (None, {})

    def blobs(self) -> Iterator[str]:
        with Reported(self.places.blobs):
            self.places.check_layout()
            try:
                entries = os.scandir(self.places.blobs)
            except (FileNotFoundError, NotADirectoryError):
                return
            with entries:
                yield from [
                    entry.name
                    for entry in entries
                    if not (entry.is_dir(follow_symlinks=False) or is_kept_open(entry.name))
                ]

    def blobs_changed(self) -> float:
        with Reported(self.places.blobs):
            return last_change(self.places.blobs)

    def changed_unseen(self) -> float:
        return 0

    def preparing(self) -> float:
        with Reported(self.places.root):
            return preparing(self.places.root)

    def blob(self, name: str) -> Blob | None:
        return look_at(self.places.blob(name)) or look_at(self.places.blob(self._present(name)))

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return ((name, blob) for name in names if (blob := self.blob(name)))

    def open_blob(self, name: str) -> BinaryIO | None:
        path = self.places.blob(self._present(name))
        with Reported(path):
            return open_passing(path)

    def remove_blob(self, name: str) -> bool:
        path = self.places.blob(name)
        with Reported(path), self.places.open() as top:
            blobs = if_there(self.places.shared, top, "blobs")
            if blobs is None:
                return False
            with blobs:
                return blobs.unlink(name)

    def _present(self, name: str) -> str:
        """Tell under which name the blob is there; *name* if it is not."""
        for other in _spellings(name):
            if os.path.lexists(self.places.blob(other)):
                return other
        digits = digits_of(name)
        return name if digits is None else self._spelled_unusually().get(digits, name)

    def _spelled_unusually(self) -> dict[str, str]:
        with Reported(self.places.blobs):
            status = status_of(self.places.blobs)
            if status is None:
                return {}
            seen, before = version(status), self._unusual
            if seen is not None and seen == before[0]:
                return before[1]
            found = {}
            for name in listed(self.places.blobs):
                if not name.startswith("sha256-") or name != name.lower():
                    digits = digits_of(name)
                    if digits is not None:
                        found[digits] = name
        self._unusual = seen, found
        return found
