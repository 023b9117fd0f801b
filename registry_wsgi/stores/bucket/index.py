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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from ...errors import StoreError
from ..layout import tried
from .requests import Bucket, Content, Meta

__all__ = ["Indices"]

_log = logging.getLogger("registry_wsgi")

# Changes with the form of what is kept.
_FORMAT = "registry-wsgi index 1"

# What is larger is read each time, in bytes.
_LARGEST = 64 << 10


class Indices:
    """
    The indices of a bucket, each of the objects below one folder.

    Args:
        bucket: Which bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        # Those that are out of date, until they are written.
        self._renewed: dict[str, bytes] = {}

    def read(
        self, folder: str, metas: Iterable[Meta], read: Callable[[str], Content | None]
    ) -> Iterator[tuple[Meta, Content | StoreError | None]]:
        """
        Read the objects of a whole listing, from the index those that it knows.

        Args:
            folder: Which listing.
            metas: What it told.
            read: What reads one of the others, by its key.

        Returns:
            Each, with its content; None if it is gone by now, and the error if that failed.
        """
        index = _Index(self._bucket, folder)
        for some in self._bucket.batches(metas):
            known = {meta: data for meta in some if (data := index.find(meta)) is not None}
            rest = [meta for meta in some if meta not in known]
            contents = self._bucket.at_once(lambda meta: tried(read, meta.key), rest)
            found = dict(zip(rest, contents, strict=True))
            for meta in some:
                content = found.get(meta)
                if meta in known:
                    content = Content(meta, known[meta], None)
                elif isinstance(content, Content):
                    index.add(content)
                yield meta, content
        renewed = index.renewed()
        if renewed is not None:
            self._renewed[index.key] = renewed
        if index.added >= self._bucket.tuning.index_after:
            self.write()

    def write(self) -> None:
        """Write those that are out of date, if that can be had."""
        while self._renewed:
            key, data = self._renewed.popitem()
            with suppress(StoreError):
                self._bucket.overwrite(key, data)


class _Index:
    """
    The index of the objects below one folder, for one reading of all of them.

    Args:
        bucket: Where it is kept.
        folder: Which folder.

    Attributes:
        added: How many objects were read, as it did not know them.
    """

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self.key = f"index/{folder}"
        self._old: dict[str, Any] = self._load()
        self._new: dict[str, Any] = {}
        self.added = 0

    def find(self, meta: Meta) -> bytes | None:
        """Give the content of the object *meta* of a listing; None if it has to be read."""
        entry = self._old.get(meta.key, ())
        try:
            *known, text = entry
            data: bytes = text.encode()
        except (TypeError, ValueError, AttributeError):
            return None
        if tuple(known) != meta.fingerprint or len(data) != meta.size:
            return None
        self._new[meta.key] = entry
        return data

    def add(self, found: Content) -> None:
        """Keep what was read."""
        if found.meta.e_tag is None or found.meta.size > _LARGEST:
            return
        try:
            self._new[found.meta.key] = [*found.meta.fingerprint, found.data.decode()]
        except UnicodeDecodeError:
            return
        self.added += 1

    def renewed(self) -> bytes | None:
        """Give what is to be kept, of what was found and added; None if that is kept already."""
        if not self.added and len(self._new) == len(self._old):
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
