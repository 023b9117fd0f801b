"""
The versions of the blobs of a bucket behind S3 that keeps old ones.

In such a bucket a delete only puts a *delete marker* above the versions of an object: no pull finds
it any more, and it is back once the delete marker is removed. That is as good as a rename. A
version goes for good when it is removed by its id. obstore has no requests for this, so it is done
through botocore.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from .pacing import batches
from .requests import Meta
from .s3 import S3, GoneError, NotToldError, RefusedError, meta_of

__all__ = ["History", "Versions"]

# How many versions S3 removes by one request.
_PAGE = 1_000

# A blob that nobody has. To ask for it shows what these credentials may do.
_NOBODYS = "registry-wsgi-probe"


@dataclass(frozen=True, slots=True)
class History:
    """
    What there is of one blob.

    Attributes:
        current: What a pull finds; None if it finds nothing.
        older: The versions that are not found, newest first.
        markers: The ids of its delete markers.
    """

    current: Meta | None = None
    older: tuple[Meta, ...] = ()
    markers: tuple[str, ...] = ()

    @property
    def hidden(self) -> Meta | None:
        """What a pull would find, were there no delete markers."""
        return self.older[0] if self.older and self.current is None else None


class Versions:
    """
    The versions of what is below ``blobs/``.

    Args:
        s3: The bucket.

    Attributes:
        refused: Why the versions are not used although the bucket keeps some; empty if they are.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._status: str | None = None
        self._usable: bool | None = None
        self.refused = ""

    @property
    def on(self) -> bool:
        """Whether a delete keeps what it deletes."""
        return self._known() == "Enabled"

    @property
    def kept(self) -> bool:
        """Whether there may be old versions: new ones, or those of an earlier setting."""
        return self._known() != ""

    def ask(self) -> None:
        """Ask anew how the bucket is set."""
        self._status = self._ask()

    def find(self, name: str) -> History:
        """Look at all versions of the blob *name*."""
        return dict(itertools.islice(self._histories(name), 1)).get(name, History())

    def find_all(self, names: Collection[str], most: int = sys.maxsize - 1) -> dict[str, History]:
        """
        Look at all versions of the blobs *names* by the page; some may be left out.

        Args:
            names: Which blobs.
            most: Of how many blobs to read the versions at most.
        """
        first, last = min(names), max(names)
        # Not the first that is listed: moto forgets its newest version.
        listed = itertools.islice(self._histories("", first[:-1]), 1, most + 1)
        known = itertools.takewhile(lambda found: found[0] <= last, listed)
        return {name: history for name, history in known if name in names}

    def destroy(self, versions: Iterable[tuple[str, str]]) -> None:
        """
        Remove *versions* (the name of a blob, and the id) for good; gone ones are no error.

        If it fails for some of them, others may be gone.
        """
        for some in batches(versions, _PAGE):
            objects = [{"Key": self._s3.key(name), "VersionId": id_} for name, id_ in some]
            with self._s3.reported(f"blobs/{some[0][0]}"):
                answer = self._s3.client.delete_objects(
                    Bucket=self._s3.bucket, Delete={"Objects": objects, "Quiet": True}
                )
            for failed in answer.get("Errors", ()):
                name = str(failed.get("Key", "")).removeprefix(self._s3.key(""))
                error = self._s3.error(f"blobs/{name}", str(failed.get("Code", "no reason")))
                if not isinstance(error, GoneError):
                    raise error

    def _histories(self, prefix: str, after: str = "") -> Iterator[tuple[str, History]]:
        folder = self._s3.key("")
        parameters = {"KeyMarker": folder + after} if after else {}
        for key, group in itertools.groupby(
            self._listed(folder + prefix, parameters), itemgetter("Key")
        ):
            found = [*group]
            name = key.removeprefix(folder)
            versions = [
                (each["IsLatest"], meta_of(f"blobs/{name}", each))
                for each in found
                if "Size" in each
            ]
            yield (
                name,
                History(
                    next((meta for latest, meta in versions if latest), None),
                    tuple(meta for latest, meta in versions if not latest),
                    tuple(each["VersionId"] for each in found if "Size" not in each),
                ),
            )

    def _listed(self, prefix: str, parameters: dict[str, str]) -> Iterator[dict[str, Any]]:
        """List versions (newest first) and delete markers, by key."""
        pages = self._s3.pages("list_object_versions", "blobs/", Prefix=prefix, **parameters)
        for page in pages:
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            yield from sorted(found, key=itemgetter("Key"))

    def _known(self) -> str:
        if self._status is None:
            self.ask()
        return self._status or ""

    def _ask(self) -> str:
        """``Enabled``, ``Suspended``, or empty if it keeps none, or none that can be had."""
        if self._s3.bucket is None:
            return ""
        try:
            with self._s3.reported("blobs/"):
                answer = self._s3.client.get_bucket_versioning(Bucket=self._s3.bucket)
        except NotToldError as error:
            self.refused = str(error)
            return ""
        status: str = answer.get("Status", "")
        if status and self._usable is None:
            self._usable = self._try(answer)
        return status if self._usable else ""

    def _try(self, answer: dict[str, Any]) -> bool:
        """Find out whether versions can be listed and removed, without changing anything."""
        if answer.get("MFADelete") == "Enabled":
            self.refused = f"{self._s3.name}: no version can be removed without MFA"
            return False
        try:
            self.find(_NOBODYS)
            self.destroy([(_NOBODYS, "null")])
        except RefusedError as error:  # for any reason: versions cannot be used then
            self.refused = str(error)
            return False
        return True
