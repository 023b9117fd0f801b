"""How blobs are looked up by their names: one by one if they are few, else by the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..layout import checked
from .requests import Bucket, Meta
from .uploads import Uploads, is_upload

__all__ = ["Lookup", "listed", "name_of"]


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
        """Do as `many`, but take one whose digits are upper case where only that is there."""
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
