"""Short ways to ask a store, by its protocol."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from registry_wsgi.stores.base import Condemned, ManifestStore, Store


def keys(store: ManifestStore) -> list[str]:
    """The keys of all manifests in *store*, in no order."""
    return [key for key, _ in store.versions()]


def version(store: ManifestStore, key: str) -> Hashable | None:
    """The version of the manifest at *key*; None if there is none, or if that cannot be told."""
    return dict(store.versions()).get(key)


def purge(store: Store, aside: Condemned) -> bool:
    """Remove *aside*, whenever it was written; whether there was something to remove."""
    return [gone for _, gone in store.purge([(aside, math.inf)])] == [True]


def content(store: Store, name: str) -> bytes | None:
    """The content of the blob *name*; None if there is none."""
    file = store.open_blob(name)
    if file is None:
        return None
    with file:
        return file.read()


def state(store: Store) -> dict[str, Any]:
    """All that the store has, as it can be seen through the protocol."""
    manifests = {key: store.read(key) for key in keys(store)}
    deleted = {entry: store.read_deleted(entry) for entry in store.deleted()}
    return {
        "manifests": {key: found.data for key, found in manifests.items() if found},
        "blobs": {name: content(store, name) for name in store.blobs()},
        "deleted": {entry: found.data for entry, found in deleted.items() if found},
        "condemned": list(store.condemned()),
    }
