"""
Looking up blobs, and reading small objects only if they have changed.

Blobs are looked up by their names: one by one if they are few, else by the page of a listing.

Small objects that were read are kept in an *index*, which is one more object, with their key, ETag,
size and time. They are taken from there as long as the listing says the same of them. The index is
only a cache: if it is absent, out of date or damaged, the objects are read again.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ...errors import StoreError
from ..layout import checked, tried
from .requests import Bucket, Content, Meta
from .uploads import Uploads, is_upload

__all__ = ["Indices", "Lookup", "listed", "name_of"]

_log = logging.getLogger("registry_wsgi")

# Changes with the form of what is kept.
_FORMAT = "registry-wsgi index 1"

# A larger object is not kept in the index, in bytes.
_LARGEST = 64 << 10


class Lookup:
    """
    Finds blobs, and unfinished uploads of some.

    Args:
        bucket: Where they are.
        uploads: The unfinished uploads.
    """

    def __init__(self, bucket: Bucket, uploads: Uploads) -> None:
        self._bucket = bucket
        self._uploads = uploads

    def one(self, name: str) -> Meta | None:
        """Look at the blob *name*; None if there is none."""
        if is_upload(name):
            return self._uploads.look(name)
        return self._bucket.head(f"blobs/{checked(name)}")

    def many(self, names: Sequence[str]) -> dict[str, Meta]:
        """Look at the blobs *names*; those that are not there are left out."""
        bucket = self._bucket
        found = listed(bucket, "blobs", names) if len(names) > bucket.tuning.few else {}
        rest = [name for name in names if name not in found]
        metas = bucket.at_once(self.one, rest)
        return found | {name: meta for name, meta in zip(rest, metas, strict=True) if meta}

    def in_any_case(self, names: Sequence[str]) -> dict[str, Meta]:
        """Do as `many`, but take a blob with upper-case digits where only that is there."""
        found = self.many(names)
        others = {}
        for name in names:
            prefix, dash, digits = name.partition("-")
            if name not in found and digits != digits.upper() and not is_upload(name):
                others[f"{prefix}{dash}{digits.upper()}"] = name
        return found | {others[other]: meta for other, meta in self.many([*others]).items()}


def listed(bucket: Bucket, folder: str, names: Sequence[str]) -> dict[str, Meta]:
    """Look for *names* in the listing of *folder*; some of those that are there may be left out."""
    found = {}
    wanted = {*map(checked, names)}
    first, last = min(wanted), max(wanted)
    entries = bucket.objects(folder, after=f"{folder}/{first[:-1]}")
    for meta in itertools.islice(entries, len(wanted) * bucket.tuning.density):
        name = name_of(meta)
        if name in wanted:
            found[name] = meta
        elif name > last:
            break
    return found


def name_of(meta: Meta) -> str:
    """Tell the name of the blob that *meta* is, or is the mark of."""
    return meta.key.partition("/")[2]


class Indices:
    """
    The indices of a bucket: one for the objects below each folder.

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
            metas: The objects in it.
            read: Reads one that the index does not know, by its key.

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
        """Write the indices that are out of date; one that cannot be written is left as it is."""
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
        added: How many objects were read because this index did not know them.
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
        """Keep an object that was read."""
        if found.meta.e_tag is None or found.meta.size > _LARGEST:
            return
        try:
            self._new[found.meta.key] = [*found.meta.fingerprint, found.data.decode()]
        except UnicodeDecodeError:
            return
        self.added += 1

    def renewed(self) -> bytes | None:
        """Give the new text of the index: all that was found and added; None if nothing changed."""
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
