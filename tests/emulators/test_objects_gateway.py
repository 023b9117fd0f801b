"""A bucket of Ceph whose gateway is stopped and started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kit import s3
from kit.clocks import Clock
from kit.kinds import S3Kind
from kit.outages import Gateway
from kit.trees import blob
from kit.views import state
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

KEYS = [f"registry.ollama.ai/library/{name}/latest" for name in ("smol", "tiny")]


@pytest.fixture
def kind(tmp_path: Path) -> S3Kind:
    """A store with a model, a deleted one, and a blob that nothing needs."""
    kind = S3Kind(tmp_path, Clock())
    for key in KEYS:
        kind.put(key, key.encode())
    kind.put_blob("sha256-aa", b"nobody's")
    assert ModelCache(kind.store).unlink("tiny")
    return kind


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway of its own to the same buckets."""
    s3.endpoint()
    gateway = Gateway(s3.ceph_conf())
    yield gateway
    gateway.end()


@pytest.mark.parametrize("kill", [False, True])
def test_a_gateway_that_is_stopped_is_an_error_and_loses_nothing(
    kind: S3Kind, gateway: Gateway, kill: bool
) -> None:
    """All that is asked meanwhile fails and says why; the same client goes on afterwards."""
    from registry_wsgi.stores.bucket import ObjectStore

    endpoint = s3.endpoint()
    config: dict[str, Any] = endpoint.config | {"endpoint": gateway.url}
    url = f"s3://{endpoint.bucket}/{kind.client.prefix}"
    cache = ModelCache(ObjectStore.from_url(url, **config))
    assert [model.name for model in cache.models()] == [KEYS[0].replace("/latest", ":latest")]
    before = state(kind.store)

    gateway.stop(kill=kill)
    steps: list[Callable[[], object]] = [
        lambda: cache.unlink("smol"),
        lambda: cache.restore("tiny"),
        lambda: cache.prune(age=0),
        lambda: list(cache.models()),
    ]
    for step in steps:
        with pytest.raises(StoreError, match=f"{gateway.url} does not answer"):
            step()
    assert state(kind.store) == before

    gateway.clear()
    assert cache.unlink("smol")
    cache.restore("tiny")
    assert cache.prune(age=0).models == 1
    now = state(kind.store)
    assert [*now["manifests"]] == [KEYS[1]]
    assert {*now["blobs"]} == {blob(KEYS[1].encode()), blob(b"{}")}
