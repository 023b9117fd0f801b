"""Which models there are, and the space that they take."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from ..durations import moment
from ..errors import StoreError, escape
from ..stores.base import Manifest, Store, WatchedStore
from .manifest import parse_manifest
from .patterns import matches
from .reading import name_of, read_models
from .results import Model, Usage

__all__ = ["list_models", "total", "usage"]

_log = logging.getLogger("registry_wsgi")


def list_models(store: Store, patterns: Collection[str]) -> list[Model]:
    """List the models, by name; those that *patterns* stand for as protected."""
    found = list(_readable(store))
    _warn_of_unseen(store)
    users = Counter(blob for _, _, blobs in found for blob in blobs)
    largest = [
        max(blobs, key=lambda blob: (blobs[blob] or 0, blob), default="") for _, _, blobs in found
    ]
    reads = dict(store.last_reads({*largest} - {""})) if isinstance(store, WatchedStore) else {}
    models = []
    for (key, manifest, blobs), weights in zip(found, largest, strict=True):
        name = name_of(key)
        size = total(blobs.values())
        shared = total(size for blob, size in blobs.items() if users[blob] > 1)
        models.append(
            Model(
                str(name or key),
                size,
                shared,
                moment(manifest.written),
                name is not None and any(matches(name, pattern) for pattern in patterns),
                name is not None,
                f"sha256:{hashlib.sha256(manifest.data).hexdigest()}",
                size - shared,
                moment(reads[weights]) if weights in reads else None,
            )
        )
    return sorted(models, key=lambda model: model.name)


def usage(store: Store, wanted: Collection[str | None]) -> Usage:
    """Add up the space that the models whose manifests are at the keys *wanted* take together."""
    _warn_of_unseen(store, {key.lower() for key in wanted if key})
    ours: dict[str, int | None] = {}
    theirs: set[str] = set()
    for key, _, blobs in _readable(store):
        if key in wanted:
            ours |= blobs
        else:
            theirs.update(blobs)  # not |=: of a dict's keys that makes a new set each time
    shared = total(size for blob, size in ours.items() if blob in theirs)
    return Usage(total(ours.values()), shared)


def total(sizes: Iterable[int | None]) -> int:
    """Add up *sizes*; one that is not known counts nothing."""
    return sum(size or 0 for size in sizes)


def _readable(store: Store) -> Iterator[tuple[str, Manifest, dict[str, int | None]]]:
    return read_models(store.read_all(), lambda _, found: parse_manifest(found.data), _warn)


def _warn_of_unseen(store: Store, keys: Collection[str] = ()) -> None:
    """Warn of models in a layout that is not understood; name those that *keys* stand for."""
    folder = None
    for path in store.unseen():
        folder, _, key = path.partition("/")
        if key.lower() in keys:
            _log.warning("%s: is of the same name, is not understood here and stays", escape(path))
    if folder is not None:
        _log.warning("%s: has models that are not understood here, and not listed", folder)


def _warn(key: str, error: StoreError | None) -> None:
    _log.warning("manifests/%s: not listed: %s", escape(key), error or "not a file, or gone")
