import hashlib
import json

import pytest
from werkzeug.test import Client

from registry_wsgi import LocalRegistry, MemoryStore, ModelCache
from registry_wsgi.names import Name

DAY = 24 * 60 * 60


def put_model(store, name, weights):
    digest = hashlib.sha256(weights).hexdigest()
    store.put_blob(f"sha256-{digest}", weights)
    manifest = {"layers": [{"digest": f"sha256:{digest}", "size": len(weights)}]}
    store.put_manifest(Name.parse(name).key, json.dumps(manifest).encode())


class Clock:
    now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(clock):
    store = MemoryStore(clock=clock)
    put_model(store, "tinyllama", b"some weights")
    return ModelCache(store, clock=clock)


@pytest.fixture
def client(cache):
    app = None  # or yours
    return Client(LocalRegistry(app, cache))


def test_a_deleted_model_can_be_restored(client, cache):
    assert client.delete("/api/delete", json={"model": "tinyllama"}).status_code == 200
    assert cache.models() == []
    cache.restore("tinyllama")
    assert [model.size for model in cache.models()] == [12]


def test_it_is_gone_after_a_week(client, cache, clock):
    client.delete("/api/delete", json={"model": "tinyllama"})
    clock.now += 8 * DAY
    assert cache.prune().bytes == 12
    assert cache.deleted() == []


def test_it_cannot_be_deleted_twice(client):
    client.delete("/api/delete", json={"model": "tinyllama"})
    response = client.delete("/api/delete", json={"model": "tinyllama"})
    assert response.status_code == 404
    assert response.json == {"code": "not_found", "error": "model not found"}
