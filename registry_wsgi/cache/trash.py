"""The deleted models: which there are, and how one comes back."""

from __future__ import annotations

import heapq
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property

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


def restore(
    store: Store, wanted: Iterable[tuple[str, datetime | str | None]]
) -> Iterator[str | RegistryError]:
    """Bring deleted models back; give the full name of each, or the error if it is not back."""
    wanted = list(wanted)
    deletes = _Deletes(store)
    places = _Places(store, many=len(wanted) > 1)
    for name, at in wanted:
        try:
            yield _restore_latest(store, name, at, deletes, places)
        except RegistryError as error:
            yield error


def _restore_latest(
    store: Store, name: str, at: datetime | str | None, deletes: _Deletes, places: _Places
) -> str:
    """Bring back the latest delete of *name* that is whole."""
    failure: RegistryError | None = None
    for entry in deletes.of(_key(name), at):
        try:
            manifest = store.read_deleted(entry)
            blobs = _parse(entry, manifest)
            if blobs is not None and _restore(store, entry, manifest, blobs, places):
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
    deletes = _Deletes(store)
    found: dict[Deleted, None] = {}
    for name in names:
        entries = [
            entry
            for entry in deletes.of(_key(name), at)
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


class _Deletes:
    """What was in the trash when it was listed, once for any number of models."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def _by_key(self) -> Mapping[str, list[Deleted]]:
        found = defaultdict(list)
        for entry in reversed(self._store.deleted()):
            found[entry.key.lower()].append(entry)
        return found

    def of(self, key: str, at: datetime | str | None) -> list[Deleted]:
        """List the deletes of the model at *key*, the latest first."""
        # An entry whose directories cannot be read has no key: it may be of that model.
        found = heapq.merge(self._by_key[key.lower()], self._by_key[""], reverse=True)
        return [
            entry
            for entry in found
            if at is None or at == (entry.id if isinstance(at, str) else moment(entry.when))
        ]


class _Places:
    """
    Where there are manifests; for *many* models they are listed once.

    It takes a listing to find out that a name is free in any case of its letters. The store sees to
    it that a model which comes after the listing is not overwritten.
    """

    def __init__(self, store: Store, *, many: bool) -> None:
        self._store = store
        self._many = many

    @cached_property
    def _taken(self) -> set[str]:
        return {key.lower() for key, _ in self._store.versions()}

    def find(self, name: Name) -> str | None:
        """Find the key of the model *name*, as the store does."""
        if self._many:
            try:
                if name.key.lower() not in self._taken:
                    return None
            except StoreError:  # a part is out of reach: then each is looked up
                self._many = False
        return self._store.find(name)

    def take(self, key: str) -> bool:
        """Note that there is a manifest at *key* now."""
        if self._many:
            self._taken.add(key.lower())
        return True


def _key(name: str) -> str:
    try:
        return Name.parse(name).key
    except InvalidNameError:
        if name.count("/") != 3 or name_of(name) is not None:
            raise
        return name  # the path of a manifest that makes no valid name


def _shown(key: str) -> str:
    return str(name_of(key) or escape(key))


def _restore(
    store: Store, entry: Deleted, manifest: Manifest | None, blobs: _Blobs, places: _Places
) -> bool:
    name = name_of(entry.key)
    place = None if name is None else places.find(name)
    if place is not None and place != entry.key and not _is_older(store.read(place), manifest):
        raise ModelExistsError(_shown(place))
    held, missing = _missing(store, entry, blobs, dict(store.look(blobs)))
    if missing:
        raise ModelIncompleteError(_shown(entry.key), missing)
    if place != entry.key and not all(store.recover_blob(entry, blob) for blob in held):
        return False  # it has just been restored, or removed for good, by another
    # The manifest comes last: whoever sees the model finds it whole.
    return store.recover(entry) and places.take(entry.key)


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
