"""``POST /api/evict``: within the limits of the server, and no further."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from werkzeug.test import Client

from kit.clocks import DAY
from kit.trees import HOST, Tree, blob
from registry_wsgi import DiskStore, LocalRegistry, MemoryStore, ModelCache, create_app
from registry_wsgi.errors import ConfigurationError

SERVER = {"max_used": "600kB", "unused": "30d", "recent": "2d", "room": "10kB"}


@pytest.fixture
def cache(tree: Tree) -> ModelCache:
    """Two models, one read 40 days ago and one 9 days ago, and a clock ahead."""
    now = time.time() + 100 * DAY
    for name, days in (("old", 40), ("new", 9)):
        data = name.encode().ljust(400 << 10)
        tree.add(name, data)
        os.utime(tree.blobs / blob(data), (now - days * DAY, now - 50 * DAY))
    return ModelCache(DiskStore(tree.root), clock=lambda: now)


def client(cache: Any, limits: Any = SERVER, **options: Any) -> Client:
    return Client(LocalRegistry(None, cache, maintenance=True, evict=limits, **options))


def test_it_keeps_the_limits_of_the_server(cache: ModelCache, tree: Tree) -> None:
    """After a dry run, which says the same and touches nothing."""
    api = client(cache)
    plan = api.post("/api/evict", json={"dry_run": True})
    assert plan.status_code == 200
    assert tree.path("old").exists()
    report = api.post("/api/evict")
    assert report.status_code == 200
    assert report.json is not None
    assert plan.json is not None
    assert not tree.path("old").exists()
    assert tree.path("new").exists()
    assert (report.json["ok"], report.json["short"], report.json["failed"]) == (True, 0, 0)
    assert [action["model"] for action in report.json["actions"]] == [f"{HOST}/library/old:latest"]
    assert [{**action, "entry": None} for action in report.json["actions"]] == plan.json["actions"]
    assert "failures" not in report.json


@pytest.mark.parametrize(
    "body",
    [
        *({"max_used": "599kB"}, {"unused": "29d"}, {"recent": "1d"}, {"room": "11kB"}),
        {"min_free": "1B"},
    ],
)
def test_what_would_let_go_more_is_refused(
    cache: ModelCache, tree: Tree, body: dict[str, str]
) -> None:
    """Also a limit that the server does not have at all."""
    answer = client(cache).post("/api/evict", json=body)
    assert answer.status_code == 403
    assert answer.json == {
        "code": "forbidden",
        "error": f"{next(iter(body))} would let go more than this server is set to",
    }
    assert tree.path("old").exists()


def test_a_client_may_loosen(cache: ModelCache, tree: Tree) -> None:
    """And null is what the server is set to."""
    body = {"max_used": "1GB", "unused": "60d", "recent": "3d", "room": "0", "dry_run": None}
    answer = client(cache).post("/api/evict", json=body)
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["actions"] == []
    answer = client(cache, {"max_used": "1GB"}).post("/api/evict", json={"min_free": "0"})
    assert (answer.status_code, answer.json and answer.json["actions"]) == (200, [])
    bucket = client(ModelCache(MemoryStore()), {"max_used": "1GB"})
    assert bucket.post("/api/evict", json={"min_free": "0"}).status_code == 200
    limits = {"min_free": 5, "unused": "30d"}
    answer = client(cache, limits).post("/api/evict", json={"min_free": "4", "unused": None})
    assert answer.json is not None
    assert len(answer.json["actions"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"max_used": "many"}', b'{"unused": "1y"}', b'{"max_used": 1}', b'{"all": true}', b"["),
        *(b'{"dry_run": "yes"}', b'{"dry_run": true, "dry_run": false}'),
    ],
)
def test_a_slip_is_refused(cache: ModelCache, tree: Tree, body: bytes) -> None:
    """It could let go too much."""
    assert client(cache).post("/api/evict", data=body).status_code == 400
    assert tree.path("old").exists()


def test_it_has_an_action_of_its_own(cache: ModelCache, tree: Tree) -> None:
    """Whoever may prune may not evict; who is not let in does not learn what the limits are."""
    asked = []

    def authorize(environ: object, action: str, name: str) -> bool:
        asked.append((action, name))
        return action.startswith("prune")

    api = client(cache, authorize=authorize)
    for body in ({}, {"max_used": "0"}, {"dry_run": True}):
        answer = api.post("/api/evict", json=body)
        assert answer.status_code == 403
        assert answer.json is not None
        assert answer.json["error"] == "not allowed to let models go"
    assert asked == [("evict", "*")] * 3
    assert tree.path("old").exists()


def test_one_at_a_time(cache: ModelCache) -> None:
    """As with a prune; a dry run waits for nobody."""
    api = client(cache)
    release = cache.claim()
    assert release is not None
    assert api.post("/api/evict").status_code == 409
    assert api.post("/api/evict", json={"dry_run": True}).status_code == 200
    release()
    assert api.post("/api/evict").status_code == 200
    again = cache.claim()
    assert again is not None
    again()


def test_without_limits_there_is_no_such_path(cache: ModelCache) -> None:
    """Nor without maintenance."""
    assert client(cache, None).post("/api/evict").status_code == 404
    alone = Client(LocalRegistry(None, cache, evict=SERVER))
    assert alone.post("/api/evict").status_code == 404
    assert client(cache).get("/api/evict").status_code == 405


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"recent": "1d"},
        {"max_used": "many"},
        {"unused": "1y"},
        {"maxused": "1GB"},
        {"unused": "1d", "room": 1},
    ],
)
def test_limits_that_cannot_be_used_are_refused_at_the_start(
    cache: ModelCache, limits: dict[str, str]
) -> None:
    """The message says that they are those of evictions."""
    with pytest.raises(ConfigurationError, match=r"^evict: "):
        client(cache, limits)


def test_a_cache_that_cannot_evict_is_refused_at_the_start() -> None:
    """It has all that the rest of the maintenance needs."""

    class Wrapping:
        def __init__(self) -> None:
            self._cache = ModelCache(MemoryStore())

        def __getattr__(self, name: str) -> Any:
            if name == "evict":
                raise AttributeError(name)
            return getattr(self._cache, name)

    with pytest.raises(ConfigurationError, match=r"^evict: .* has no method evict\(\)"):
        client(Wrapping())


def test_the_environment_has_the_limits(
    cache: ModelCache, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a value that cannot be used stops the start, with a message that names it."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.setenv("REGISTRY_WSGI_MAINTENANCE", "1")
    monkeypatch.setenv("REGISTRY_WSGI_EVICT_RECENT", "12h")
    assert Client(create_app()).post("/api/evict").status_code == 404
    monkeypatch.setenv("REGISTRY_WSGI_EVICT_MAX_USED", "1GB")
    api = Client(create_app())
    assert api.post("/api/evict", json={"max_used": "2GB", "recent": "13h"}).status_code == 200
    assert api.post("/api/evict", json={"max_used": "500MB"}).status_code == 403
    monkeypatch.setenv("REGISTRY_WSGI_EVICT_MAX_USED", "1G")
    with pytest.raises(ConfigurationError, match=r"^REGISTRY_WSGI_EVICT_MAX_USED: invalid"):
        create_app()
