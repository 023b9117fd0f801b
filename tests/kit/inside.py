"""
The inside of the package: the only place where tests reach for names that are not public.

A function here says what it does for a test. So a change of the package touches this file alone.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

_CLOCK_OF_FILES = getattr(time, "CLOCK_REALTIME_COARSE", 5)  # its number in Linux


def replace_obstore(monkeypatch: pytest.MonkeyPatch, substitute: object) -> None:
    """Have all stores in buckets use *substitute* for the module `obstore`."""
    from registry_wsgi.stores.bucket import requests

    monkeypatch.setattr(requests, "obstore", substitute)


def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no store in a bucket use threads for its requests."""

    def in_order(function: Any, items: Any, tuning: Any) -> Any:
        return iter([function(item) for item in items])

    monkeypatch.setattr("registry_wsgi.stores.bucket.requests.at_once", in_order)


def bucket_class() -> Any:
    """The class of what sends a store's requests."""
    from registry_wsgi.stores.bucket.requests import Bucket

    return Bucket


def object_meta(key: str) -> Any:
    """What a listing says of an object that is not there."""
    from registry_wsgi.stores.bucket.requests import Meta

    return Meta(key, 1, 1, "0", None)


def bucket_of(store: Any) -> Any:
    """What sends the requests of *store*."""
    return store._bucket


def client_of(store: Any) -> Any:
    """The client of obstore that *store* was given."""
    return store._bucket._storage


def let_credentials_end(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have each request ask for its credentials anew; they have ended once the list has an item."""
    from registry_wsgi.stores.bucket import identity

    ended: list[bool] = []

    def call(self: Any) -> Any:
        if ended:
            self._credentials._expiry_time = datetime.now(UTC)
        return real(self)

    real = identity.Identity.__call__
    monkeypatch.setattr(identity.Identity, "__call__", call)
    monkeypatch.setattr(identity, "_LASTING", timedelta())
    return ended


def move_monotonic(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so many seconds have passed for what remembers the manifest that was found last."""
    from registry_wsgi.stores.bucket import manifests

    later = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)
    monkeypatch.setattr(manifests, "time", later)


def uploads_of(store: Any) -> Any:
    """What tells *store* of unfinished uploads."""
    return store._blobs.uploads


def versions_of(store: Any) -> Any:
    """What tells *store* of old versions."""
    return store._blobs.versions


def botocore_of(store: Any) -> Any:
    """The client of botocore by which *store* asks what obstore cannot."""
    return store._blobs.versions._s3.client


def ask_through(store: Any, client: Any) -> None:
    """Have *store* ask what obstore cannot through *client*, and make no client of its own."""
    vars(store._blobs.versions._s3)["client"] = client


def all_ask_through(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    """The same for all stores."""
    from registry_wsgi.stores.bucket.s3 import S3

    monkeypatch.setattr(S3, "client", client)


def replace_method(monkeypatch: pytest.MonkeyPatch, of: str, method: str, function: Any) -> Any:
    """
    Replace a method for all stores in buckets.

    Args:
        of: Whose: ``requests`` (to the bucket), ``botocore``, ``tombstones``.
        method: Its name.
        function: What is called instead.

    Returns:
        The method.
    """
    from registry_wsgi.stores.bucket.requests import Bucket
    from registry_wsgi.stores.bucket.s3 import S3
    from registry_wsgi.stores.bucket.tombstones import Tombstones

    cls = {"requests": Bucket, "botocore": S3, "tombstones": Tombstones}[of]
    original = getattr(cls, method)
    monkeypatch.setattr(cls, method, function)
    return original


def hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a store in a bucket with versions mark blobs, and end before it hides them."""
    from registry_wsgi.stores.bucket.blobs import Blobs

    monkeypatch.setattr(Blobs, "_hide", lambda *_: None)


def not_told_error(message: str) -> Exception:
    """What the client of botocore raises where credentials do not suffice."""
    from registry_wsgi.stores.bucket.s3 import NotToldError

    return NotToldError(message)


def tick_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a store on disk take the clock that stamps files for one that ticks this seldom."""
    monkeypatch.setattr("registry_wsgi.stores.disk.system.TICK", seconds)
    monkeypatch.setattr("registry_wsgi.stores.disk.system._LONG_TICK", seconds)


def trust_young_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a store on disk trust the times of files that were changed just now, too."""
    tick_for(monkeypatch, 0.0)


def leave_tombstone(store: Any, key: str) -> None:
    """Have the object at *key* of a bucket replaced by what a killed delete leaves."""
    meta = store._tombstones.head(key)
    assert store._tombstones.take(meta) is not None


def pause_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a cache that goes by the clock of the system pause for so long, if it is not told."""
    monkeypatch.setattr("registry_wsgi.cache.model_cache.PAUSE", seconds)


def wait_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have a collector that meets movement read again sooner, and give up sooner.

    A change is fresh for two ticks of the clock that stamps files here, instead of for two of the
    slowest clock there is. So nothing is taken for read that is not. It is not for file systems
    whose times are coarser than that clock.
    """
    tick = 2 * time.clock_getres(_CLOCK_OF_FILES)
    monkeypatch.setattr("registry_wsgi.stores.disk.system.TICK", tick)
    monkeypatch.setattr("registry_wsgi.cache.collector.reader._PAUSES", (tick * 1.1,) * 4)


def after_delete_at_most(monkeypatch: pytest.MonkeyPatch, models: int) -> None:
    """Have the prune after a delete remove no more than so many models."""
    monkeypatch.setattr("registry_wsgi.cache.model_cache._MOST_AFTER_DELETE", models)


def name_items(monkeypatch: pytest.MonkeyPatch, items: int) -> None:
    """Have the report of a prune name so many models, and as many files."""
    monkeypatch.setattr("registry_wsgi.cache.collector.report._MOST_ITEMS", items)


def show_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Have the storage page show so many models at once."""
    monkeypatch.setattr("registry_wsgi.http.page.parts.ROWS", rows)


def show_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a removal show from its first step on, at each."""
    monkeypatch.setattr("registry_wsgi.cache.under_way._SOON", 0)
    monkeypatch.setattr("registry_wsgi.cache.under_way._OFTEN", 0)
