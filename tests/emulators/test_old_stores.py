"""Stores behind S3 that cannot do all that S3 does, or want to be asked as in old times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import Clock
from kit.kinds import S3Kind, VersionedKind
from kit.proxy import Proxy, proxied
from kit.trees import blob
from registry_wsgi import ModelCache

KEY = "registry.ollama.ai/library/smol/latest"


@pytest.fixture(params=[S3Kind, VersionedKind], ids=["plain", "versioned"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> S3Kind:
    """An empty store behind S3, in a bucket with and without versions."""
    kind = request.param(tmp_path, Clock())
    assert isinstance(kind, S3Kind)
    return kind


@pytest.fixture
def proxy(kind: S3Kind) -> Iterator[Proxy]:
    """What answers as such a store does."""
    with proxied(kind.endpoint.url) as proxy:
        yield proxy


def cache_through(proxy: Proxy, kind: S3Kind) -> ModelCache:
    """A cache over the store of *kind*, reached through *proxy*."""
    from registry_wsgi.stores.bucket import ObjectStore

    config: dict[str, Any] = kind.endpoint.config | {"endpoint": proxy.url}
    url = f"s3://{kind.endpoint.bucket}/{kind.client.prefix}"
    return ModelCache(ObjectStore.from_url(url, **config), clock=kind.clock)


@pytest.mark.parametrize("answer", ["md5", "501"])
def test_a_store_that_refuses_deletes_of_many_is_asked_one_by_one(
    kind: S3Kind, proxy: Proxy, answer: str
) -> None:
    """Some want Content-MD5, some have no such request: a delete, a restore, a prune go through."""
    proxy.plan = lambda method, path: answer if method == "POST" and "delete" in path else None
    kind.put(KEY, b"weights")
    for number in range(3):
        kind.put_blob(f"sha256-0{number}", b"nobody's")
    cache = cache_through(proxy, kind)
    assert cache.store.sets_aside == (answer == "md5" and isinstance(kind, VersionedKind))
    assert cache.unlink("smol")
    assert cache.restore("smol")
    kind.clock.move(days=8)
    assert cache.prune().held_blobs == 3
    kind.clock.move(days=2)
    assert cache.prune().blobs == 3
    assert cache.verify(deep=True).ok
    assert sorted(kind.another().blobs()) == sorted([blob(b"weights"), blob(b"{}")])
    assert [*kind.another().condemned()] == []
    refused = sum(method == "POST" for method, _ in proxy.requests)
    assert refused < 12, "asked again and again"
