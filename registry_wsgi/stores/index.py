"""
The index of a bucket: what small objects were when they were read last.

A bucket tells in its listings which objects have changed, and reading an object is a request. So
what was read is kept in one more object, by key, ETag, size and time, and is read from there as
long as the listing says the same of it. It is only a cache: absent, out of date or damaged, all
that it costs is that the objects are read again.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from typing import Any

from ..errors import StoreError
from .bucket import Bucket, Content, Meta

__all__ = ["Index"]

_log = logging.getLogger("registry_wsgi")

# Changes with the form of what is kept.
_FORMAT = "registry-wsgi index 1"

# What is larger is read each time, in bytes.
_LARGEST = 64 << 10


class Index:
    """
    The index of the objects below one folder, for one reading of all of them.

    Args:
        bucket: Where it is kept.
        folder: Which folder.
    """

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self.key = f"index/{folder}"
        self._old: dict[str, Any] = self._load()
        self._new: dict[str, Any] = {}
        self._changed = False

    def find(self, meta: Meta) -> bytes | None:
        """Give the content of the object *meta* of a listing; None if it has to be read."""
        entry = self._old.get(meta.key, ())
        try:
            *known, text = entry
            data: bytes = text.encode()
        except (TypeError, ValueError, AttributeError):
            return None
        if known != _known(meta) or len(data) != meta.size:
            return None
        self._new[meta.key] = entry
        return data

    def add(self, found: Content) -> None:
        """Keep what was read."""
        if found.meta.e_tag is None or found.meta.size > _LARGEST:
            return
        try:
            self._new[found.meta.key] = [*_known(found.meta), found.data.decode()]
        except UnicodeDecodeError:
            return
        self._changed = True

    def renewed(self) -> bytes | None:
        """Give what is to be kept, of what was found and added; None if that is kept already."""
        if not self._changed and len(self._new) == len(self._old):
            return None
        document = {"format": _FORMAT, "objects": self._new}
        return gzip.compress(json.dumps(document).encode(), 1, mtime=0)

    def _load(self) -> dict[str, Any]:
        try:
            stream = self._bucket.open(self.key)
            if stream is None:
                return {}
            with stream:
                document = json.loads(gzip.decompress(stream.read()))
            if document["format"] == _FORMAT:
                return dict(document["objects"])
        except (StoreError, OSError, EOFError, zlib.error, ValueError, LookupError, TypeError) as e:
            _log.warning(
                "%s/%s: cannot be used, all is read anew: %s", self._bucket.name, self.key, e
            )
        return {}


def _known(meta: Meta) -> list[object]:
    return [meta.e_tag, meta.size, meta.modified]
