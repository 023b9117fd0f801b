"""
The unfinished multipart uploads of a bucket behind S3.

A large blob is put into S3 in parts. The parts of one that is never finished take room without
being an object: no listing of objects has them. obstore has no requests for them, but botocore has.
(Google Cloud Storage and Azure remove such parts by themselves after a week.)

To the store each is a blob of a name of its own, ``sha256-<hex>?uploadId=<id>``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from .requests import Meta
from .s3 import S3, GoneError, NotToldError, RefusedError

__all__ = ["Uploads", "is_upload"]

_log = logging.getLogger("registry_wsgi")

_MARK = "?uploadId="


def is_upload(name: str) -> bool:
    """Tell whether *name* is that of an unfinished upload."""
    return _MARK in name


class Uploads:
    """
    The unfinished uploads below ``blobs/``.

    Args:
        s3: The bucket. Only one behind S3 has any.
        shown: Whether those of a bucket that is not behind S3 would be seen.

    Attributes:
        shown: Whether an upload that is under way is seen. Of S3 that is found out by `ask_once`.
    """

    def __init__(self, s3: S3, *, shown: bool) -> None:
        self._s3 = s3
        self.shown = shown
        self._asked = s3.bucket is None

    def ask_once(self, key: str) -> None:
        """Find out whether unfinished uploads are listed, by beginning one at *key*."""
        if self._asked:
            return
        self.shown = False
        place = {"Bucket": self._s3.bucket, "Key": self._s3.full(key)}
        folder, _, _ = key.rpartition("/")
        try:
            with self._s3.reported(key):
                upload = self._s3.client.create_multipart_upload(**place)["UploadId"]
            try:
                prefix = self._s3.full(f"{folder}/")
                pages = self._s3.pages("list_multipart_uploads", key, Prefix=prefix)
                found = {each["UploadId"] for page in pages for each in page.get("Uploads", ())}
                self.shown = upload in found
            finally:
                with self._s3.reported(key):
                    self._s3.client.abort_multipart_upload(**place, UploadId=upload)
        except RefusedError as error:  # these credentials may not, or the store has no such request
            _log.debug("%s", error)
        self._asked = True
        if not self.shown:
            _log.warning(
                "%s: does not list unfinished uploads, so that a pull under way may not be seen:"
                " what is marked waits until nothing has changed for as long as the hold. With old"
                " versions, or a writer that calls keep, nothing has to wait",
                self._s3.name,
            )

    def names(self) -> Iterator[str]:
        """List them all; none if the store does not tell, with a warning in the log."""
        if self._s3.bucket is None:
            return
        prefix = self._s3.key("")
        try:
            for page in self._s3.pages("list_multipart_uploads", "blobs/", Prefix=prefix):
                for upload in page.get("Uploads", ()):
                    blob = upload["Key"].removeprefix(prefix)
                    if blob and "/" not in blob:
                        yield f"{blob}{_MARK}{percent_encode(upload['UploadId'], safe='')}"
        except NotToldError as error:
            _log.warning("unfinished uploads are not looked for: %s", error)

    def look(self, name: str) -> Meta | None:
        """Look at one: its size, and when its last part came; None if it is gone."""
        upload = self._named(name)
        try:
            pages = self._s3.pages("list_parts", f"blobs/{name}", **upload)
            parts = [part for page in pages for part in page.get("Parts", ())]
            size = sum(part["Size"] for part in parts)
            modified = max((part["LastModified"] for part in parts), default=None)
            if modified is None:
                modified = self._begun(name, upload)
        except GoneError:
            return None
        if modified is None:
            return None
        return Meta(f"blobs/{name}", size, int(modified.timestamp()), name, None)

    def abort(self, name: str) -> None:
        """End one, and remove its parts; if it is gone already, nothing happens."""
        try:
            with self._s3.reported(f"blobs/{name}"):
                self._s3.client.abort_multipart_upload(Bucket=self._s3.bucket, **self._named(name))
        except GoneError:
            pass

    def _begun(self, name: str, upload: dict[str, Any]) -> datetime | None:
        pages = self._s3.pages("list_multipart_uploads", f"blobs/{name}", Prefix=upload["Key"])
        for page in pages:
            for found in page.get("Uploads", ()):
                if found["UploadId"] == upload["UploadId"]:
                    begun: datetime = found["Initiated"]
                    return begun
        return None

    def _named(self, name: str) -> dict[str, Any]:
        blob, _, upload = name.partition(_MARK)
        return {"Key": self._s3.key(blob), "UploadId": percent_decode(upload)}
