"""The patterns of protected models: ``protected/<pattern>`` is there as long as it is protected."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from ..layout import checked
from .probe import Probe
from .requests import Bucket
from .retry import ChangedError, until_unchanged
from .tombstones import Tombstones

__all__ = ["Protection"]


class Protection:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is about protected models.

    What its methods do is said in `~registry_wsgi.stores.base.ProtectionStore`.

    Args:
        bucket: Where the patterns are.
        tombstones: What removes them.
        probe: What is asked before anything is changed.
    """

    def __init__(self, bucket: Bucket, tombstones: Tombstones, probe: Probe) -> None:
        self._bucket = bucket
        self._tombstones = tombstones
        self._probe = probe

    def protected(self) -> Iterator[str]:
        for meta in self._bucket.objects("protected"):
            if not self._tombstones.is_one(meta):
                yield percent_decode(meta.key.removeprefix("protected/"))

    def protect(self, pattern: str) -> None:
        key = _key(pattern)
        self._probe.ask_once()

        def put() -> None:
            if self._bucket.create(key, b"protected"):
                return
            there = self._tombstones.settled(key)
            if there is not None and not self._tombstones.is_one(there):
                return
            if there is None or not self._bucket.replace(there, b"protected"):
                raise ChangedError(f"{self._bucket.name}/{key}: is changed again and again")

        until_unchanged(put, self._bucket.tuning)

    def unprotect(self, pattern: str) -> bool:
        meta = self._tombstones.head(_key(pattern))
        return meta is not None and self._tombstones.remove(meta)


def _key(pattern: str) -> str:
    return f"protected/{checked(percent_encode(pattern, safe=''))}"
