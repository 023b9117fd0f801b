"""
Listings of a bucket behind S3 in which a key is odd.

obstore fails a whole listing for one key with an empty part (``blobs//x``), ``.`` or ``..``. None
of these keys is ours, and anybody may have put one there: so such a listing is asked for through
botocore, and they are passed over. (Elsewhere the error names it.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .requests import Meta
from .s3 import S3

__all__ = ["S3Lister"]


class S3Lister:
    """
    A `~registry_wsgi.stores.bucket.requests.Lister` through botocore.

    Args:
        s3: The bucket.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    def pages_of(self, folder: str, after: str | None) -> Iterator[list[Meta]]:
        start = {} if after is None else {"StartAfter": self._s3.full(after)}
        prefix = self._s3.full(f"{folder}/")
        for page in self._s3.pages("list_objects_v2", f"{folder}/", Prefix=prefix, **start):
            if metas := self._metas(page):
                yield metas

    def folder(self, folder: str) -> tuple[Sequence[str], list[Meta]]:
        prefix = self._s3.full(f"{folder}/")
        folders: list[str] = []
        objects: list[Meta] = []
        for page in self._s3.pages("list_objects_v2", f"{folder}/", Prefix=prefix, Delimiter="/"):
            found = (each["Prefix"].removesuffix("/") for each in page.get("CommonPrefixes", ()))
            folders += [key for each in found if not is_odd(key := self._s3.below_prefix(each))]
            objects += self._metas(page)
        return folders, objects

    def _metas(self, page: dict[str, Any]) -> list[Meta]:
        found = ((self._s3.below_prefix(each["Key"]), each) for each in page.get("Contents", ()))
        return [
            Meta(
                key,
                each["Size"],
                int(each["LastModified"].timestamp()),
                each.get("ETag", "").strip('"') or None,
                None,
            )
            for key, each in found
            if not is_odd(key)
        ]


def is_odd(key: str) -> bool:
    """Tell whether obstore refuses *key*, or takes it for another."""
    return any(part in ("", ".", "..") for part in key.split("/"))
