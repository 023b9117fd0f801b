"""The deleted models: which there are, and how one comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime

from ..durations import moment
from ..errors import (
    InvalidManifestError,
    InvalidNameError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    RegistryError,
    StoreError,
    escape,
)
from ..names import Name
from ..stores.base import Blob, Deleted, Manifest, Read, Store
from .listing import total
from .manifest import parse_manifest
from .reading import is_whole, name_of
from .results import DeletedModel

__all__ = ["entries_of", "list_deleted", "restore"]

_log = logging.getLogger("registry_wsgi")

_Blobs = dict[str, int | None]


def list_deleted(store: Store, retention: float) -> list[DeletedModel]:
    """List the models in the trash, the latest delete first."""
    trash: list[tuple[Deleted, _Blobs | None]] = []
    found = dict(store.read_all_deleted())
    for entry in sorted(found, reverse=True):
        try:
            blobs = _parse(entry, found[entry])
        except StoreError as error:
            _log.warning("%s", error)
            # A file of another program that lies among the manifests is no model.
            if name_of(entry.key) is not None or not isinstance(error, InvalidManifestError):
                trash.append((entry, None))
        else:
            if blobs is not None:
                trash.append((entry, blobs))
    looks = dict(store.look({blob for _, blobs in trash for blob in blobs or ()}))
    models = []
    for entry, blobs in trash:
        _, missing = _missing(store, entry, blobs or {}, looks)
        models.append(
            DeletedModel(
                str(name_of(entry.key) or entry.key),
                total((blobs or {}).values()),
                moment(entry.when),
                moment(entry.expires(retention)),
                blobs is not None and not missing,
                missing,
                entry.id,
            )
        )
    return models


def restore(store: Store, name: str, at: datetime | str | None = None) -> str:
    """Bring back the deleted model *name*, the latest that is whole, and tell its full name."""
    failure: RegistryError | None = None
    for entry in _candidates(store, _key(name), at):
        try:
            manifest = store.read_deleted(entry)
            blobs = _parse(entry, manifest)
            if blobs is not None and _restore(store, entry, manifest, blobs):
                return str(name_of(entry.key) or entry.key)
        except (StoreError, ModelIncompleteError) as error:
            if entry.key and not isinstance(error, (InvalidManifestError, ModelIncompleteError)):
                raise
            failure = failure or error  # an older one may be whole
    raise failure or _not_deleted(name, at)


def entries_of(
    store: Store, names: Iterable[str], at: datetime | str | None, since: datetime | None
) -> list[Deleted]:
    """List the deletes of the models *names*: all, the one *at* a time or of an id, or *since*."""
    found: dict[Deleted, None] = {}
    for name in names:
        entries = [
            entry
            for entry in _candidates(store, _key(name), at)
            if entry.key and (since is None or moment(entry.when) >= since)
        ]
        if not entries:
            raise _not_deleted(name, at or since)
        found.update(dict.fromkeys(entries))
    return list(found)


def _not_deleted(name: str, at: datetime | str | None) -> ModelNotFoundError:
    when = at.isoformat() if isinstance(at, datetime) else at
    what = "no deleted model has this name"
    if when is not None:
        what = f"no model of this name was deleted at {escape(when)}"
    return ModelNotFoundError(f"{_shown(_key(name))}: {what}")


def _candidates(store: Store, key: str, at: datetime | str | None) -> list[Deleted]:
    """List the deletes of the model at *key*, the latest first."""
    return [
        entry
        for entry in reversed(store.deleted())
        # One whose directories cannot be read has no key: it may be of that model.
        if (not entry.key or entry.key.lower() == key.lower())
        and (at is None or at == (entry.id if isinstance(at, str) else moment(entry.when)))
    ]


def _key(name: str) -> str:
    try:
        return Name.parse(name).key
    except InvalidNameError:
        if name.count("/") != 3 or name_of(name) is not None:
            raise
        return name  # the path of a manifest that makes no valid name


def _shown(key: str) -> str:
    return str(name_of(key) or escape(key))


def _restore(store: Store, entry: Deleted, manifest: Manifest | None, blobs: _Blobs) -> bool:
    name = name_of(entry.key)
    place = None if name is None else store.find(name)
    if place is not None and place != entry.key and not _is_older(store.read(place), manifest):
        raise ModelExistsError(_shown(place))
    held, missing = _missing(store, entry, blobs, dict(store.look(blobs)))
    if missing:
        raise ModelIncompleteError(_shown(entry.key), missing)
    if place != entry.key and not all(store.recover_blob(entry, blob) for blob in held):
        return False  # it has just been restored, or removed for good, by another
    # The manifest comes last: whoever sees the model finds it whole.
    return store.recover(entry)


def _is_older(beside: Manifest | None, deleted: Manifest | None) -> bool:
    """
    Tell whether the model *beside*, of the same name in another case, was there before the delete.

    Then both can be there. The delete was the last change of the deleted manifest. (Both times are
    by the clock of the storage, which may differ from ours.)
    """
    return beside is None or (deleted is not None and beside.written < deleted.modified)


def _missing(
    store: Store, entry: Deleted, blobs: _Blobs, looks: Mapping[str, Blob]
) -> tuple[list[str], tuple[str, ...]]:
    """Tell which blobs only the trash still has, and the digests of those that are gone."""
    held, missing = [], []
    for name, size in blobs.items():
        if is_whole(looks.get(name), size):
            continue
        if is_whole(store.blob_in_trash(entry, name), size):
            held.append(name)
        else:
            missing.append(name.replace("-", ":"))
    return held, tuple(missing)


def _parse(entry: Deleted, found: Read) -> _Blobs | None:
    try:
        if isinstance(found, Manifest):
            return parse_manifest(found.data)
        if found is not None:
            raise found
    except InvalidManifestError as error:
        raise InvalidManifestError(f"{entry.id}/{escape(entry.key)}: {error}") from error
    return None
