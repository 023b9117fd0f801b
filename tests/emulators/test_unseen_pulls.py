"""Stores that do not show that a pull is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import Clock
from kit.kinds import KINDS, BucketKind, S3Kind
from kit.proxy import Proxy, proxied
from kit.trees import blob
from registry_wsgi import ModelCache

NAME = blob(b"nobody's")


@pytest.fixture
def kind(tmp_path: Path) -> S3Kind:
    """An empty store behind S3."""
    return S3Kind(tmp_path, Clock())


@pytest.fixture
def proxy(kind: S3Kind) -> Iterator[Proxy]:
    """What stands before it."""
    with proxied(kind.endpoint.url) as proxy:
        yield proxy


def removed(kind: BucketKind, cache: ModelCache) -> list[int]:
    """
    How many blobs go when the hold of a mark is over, and when a hold has passed since a change.

    The mark is of second 1, and something else is written in second 2; the hold is three seconds.
    """
    kind.put("h/n/m/t", b"weights")
    kind.put_blob(NAME, b"nobody's")
    look = kind.store.blob(NAME)
    assert look is not None
    kind.clock.now = look.written + 1
    assert cache.prune().held_blobs == 1
    time.sleep(2.1)  # the times of the store are in whole seconds
    kind.put("h/n/new/t", b"pulled")
    new = kind.store.blob(blob(b"pulled"))
    assert new is not None
    found = []
    for now in (look.written + 4.5, new.written + 9):
        kind.clock.now = now
        found.append(cache.prune().blobs)
    return found


TIMES: dict[str, Any] = {"retention": 0.5, "in_flight": 0.2, "hold": 3}


@pytest.mark.parametrize("answer", ["501", None])
def test_where_uploads_are_not_listed_a_mark_waits_for_a_quiet_store(
    kind: S3Kind, proxy: Proxy, answer: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Where they are, what is marked goes after its hold; else a hold after any change."""
    from registry_wsgi.stores.bucket import ObjectStore

    proxy.plan = lambda method, path: answer if method == "GET" and "uploads" in path else None
    config: dict[str, Any] = kind.endpoint.config | {"endpoint": proxy.url}
    store = ObjectStore.from_url(f"s3://{kind.endpoint.bucket}/{kind.client.prefix}", **config)
    assert removed(kind, ModelCache(store, clock=kind.clock, **TIMES)) == (
        [0, 1] if answer else [1, 0]
    )
    assert ("does not list unfinished uploads" in caplog.text) is bool(answer)


@pytest.mark.parametrize("where", ["azure", "gcs"])
def test_in_other_clouds_a_mark_waits_for_a_quiet_store(tmp_path: Path, where: str) -> None:
    """Nobody here asks them for the parts of an upload that is under way."""
    kind = KINDS[where](tmp_path, Clock())
    assert isinstance(kind, BucketKind)
    assert removed(kind, ModelCache(kind.another(), clock=kind.clock, **TIMES)) == [0, 1]
