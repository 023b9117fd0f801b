"""What the lists of a `registry_wsgi.ModelCache` are made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..figures import format_time

__all__ = ["DeletedModel", "Model", "Usage", "plain", "restorable_until"]


@dataclass(frozen=True, slots=True)
class Model:
    """
    A model in the store.

    Attributes:
        name: Its full name, ``host/namespace/model:tag``; the path of its manifest,
            ``host/namespace/model/tag``, if that makes no valid name.
        size: The bytes of all its blobs, as its manifest has them.
        shared: How many of those bytes other models use too, so that deleting it does not free
            them.
        modified: When its manifest was last written (UTC): since when it is here, as a delete and a
            restore do not change that.
        protected: Whether it is not to be deleted.
        valid: Whether its name is valid. A model under another name can be deleted by the path of
            its manifest, and is of no other use.
        digest: That of its manifest, ``sha256:<hex>``. Ollama shows the first twelve digits as its
            ID.
        frees: How many bytes come free if this model alone is deleted and pruned.
        read: When its largest blob was last read (UTC), as the file system tells it: up to a day
            earlier than the last time that somebody read it. None if nobody can tell.
    """

    name: str
    size: int
    shared: int
    modified: datetime
    protected: bool = False
    valid: bool = True
    digest: str = ""
    frees: int = 0
    read: datetime | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class DeletedModel:
    """
    A model in the trash.

    Attributes:
        name: Its full name, ``host/namespace/model:tag``; the path of its manifest if that makes
            no valid name.
        size: The bytes of all its blobs, as its manifest has them.
        deleted: When it was deleted (UTC).
        expires: From when on a prune may remove it for good (UTC).
        restorable: Whether its manifest can be read and all its blobs are there.
        missing: The digests of blobs that are gone, ``sha256:<hex>``.
        id: It differs from that of any other delete of the same name.
        user: Who deleted it; None if the history does not know.
        source: From where, as `registry_wsgi.cache.history.Change` has it.
    """

    name: str
    size: int
    deleted: datetime
    expires: datetime
    restorable: bool
    missing: tuple[str, ...]
    id: str = ""
    user: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Usage:
    """
    The space that some models take together.

    Attributes:
        size: The bytes of all their blobs, each counted once.
        shared: How many of those bytes other models use too, so that deleting these does not free
            them.
    """

    size: int
    shared: int


def plain(value: Any) -> Any:
    """Turn a result, or a time, into something that JSON has: the ``default`` of `json.dumps`."""
    return value.isoformat() if isinstance(value, datetime) else asdict(value)


def restorable_until(model: DeletedModel) -> str:
    """Say until when *model* can be restored, or why it cannot."""
    if not model.restorable:
        return "not: blobs are gone" if model.missing else "not: damaged"
    return format_time(model.expires)
