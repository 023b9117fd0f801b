"""What a store has, as its protocol shows it."""

from __future__ import annotations

from collections.abc import Hashable

from registry_wsgi.stores.base import ManifestStore


def keys(store: ManifestStore) -> list[str]:
    """The keys of all manifests in *store*, in no order."""
    return [key for key, _ in store.versions()]


def version(store: ManifestStore, key: str) -> Hashable | None:
    """The version of the manifest at *key*; None if there is none, or if that cannot be told."""
    return dict(store.versions()).get(key)
