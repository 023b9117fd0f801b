"""
Deletes on a condition, for stores behind S3 that have them.

Between the last look at an object and its delete another program can write a new one in its place,
and a plain delete takes that one. S3, and newer MinIO and Ceph, delete only if the ETag still is
the one that was seen (``If-Match``). obstore has no such request, so it is made through botocore.
For Azure and Google Cloud, which have them too, there is no client here that makes them.
"""

from __future__ import annotations

from ...errors import StoreError
from .requests import Meta
from .s3 import S3, GoneError, RefusedError

__all__ = ["ConditionalDeletes"]

_PRECONDITION_FAILED = ("PreconditionFailed", "412")


class ConditionalDeletes:
    """
    A `~registry_wsgi.stores.bucket.requests.Remover` through botocore.

    Args:
        s3: The bucket.

    Attributes:
        usable: Whether the store keeps to the condition. False until it was asked.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._asked = False
        self.usable = False

    def ask_once(self, key: str) -> None:
        """Find out whether the store keeps to the condition; it may remove the object at *key*."""
        if self._asked:
            return
        try:
            self.usable = not self._remove(key, "0" * 32)
        except StoreError:  # it has no such request, or these credentials may not make it
            self.usable = False
        self._asked = True

    def remove(self, meta: Meta) -> bool:
        """Remove the object *meta*; False if there is another in its place, which stays."""
        try:
            return self._remove(meta.key, meta.e_tag or "")
        except GoneError:
            return True

    def _remove(self, key: str, e_tag: str) -> bool:
        try:
            with self._s3.reported(key):
                self._s3.client.delete_object(
                    Bucket=self._s3.bucket, Key=self._s3.full(key), IfMatch=f'"{e_tag}"'
                )
        except RefusedError as error:
            if error.code in _PRECONDITION_FAILED:
                return False
            raise
        return True
