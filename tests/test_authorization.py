"""Who may delete: the callables that ship."""

from __future__ import annotations

import pytest
from werkzeug.test import Client

from registry_wsgi import LocalRegistry, MemoryStore, ModelCache
from registry_wsgi.authorization import bearer_token
from registry_wsgi.errors import ConfigurationError
from support import manifest

NAME = "registry.ollama.ai/library/smol:latest"


@pytest.fixture
def cache() -> ModelCache:
    """A store with one model."""
    store = MemoryStore()
    store.put_manifest(NAME.replace(":", "/"), manifest())
    return ModelCache(store)


@pytest.mark.parametrize(
    "given",
    [
        "Bearer secret",
        "bearer secret",
        "Bearer  secret ",
        "Bearer next",
        "Bearer é".encode().decode("latin-1"),
    ],
)
def test_one_of_the_tokens_lets_in(cache: ModelCache, given: str) -> None:
    """Whatever the case of the scheme, and to the byte."""
    app = LocalRegistry(None, cache, authorize=bearer_token("secret", "next", "é"))
    environ = {"HTTP_AUTHORIZATION": given}
    response = Client(app).delete("/api/delete", json={"model": "smol"}, environ_overrides=environ)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        *(None, "", "Bearer", "Bearer ", "secret", "Basic secret", "Bearer secre", "Bearer SECRET"),
        *("Bearer secret secret", "Bearer secret,next", "Bearer sécret", "Bearer \u20ac"),
    ],
)
def test_anything_else_is_answered_401(cache: ModelCache, given: str | None) -> None:
    """With the scheme that is asked for, and nothing is deleted."""
    app = LocalRegistry(None, cache, authorize=bearer_token("secret", "next"))
    environ = {} if given is None else {"HTTP_AUTHORIZATION": given}
    response = Client(app).delete("/api/delete", json={"model": "smol"}, environ_overrides=environ)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].strip() == "Bearer"
    assert response.json == {"code": "unauthorized", "error": "a token is needed"}
    assert [model.name for model in cache.models()] == [NAME]


@pytest.mark.parametrize("tokens", [(), ("",), ("secret", "")])
def test_without_a_token_there_is_no_lock(tokens: tuple[str, ...]) -> None:
    """An empty one would let in anyone who sends none."""
    with pytest.raises(ConfigurationError, match="missing or empty"):
        bearer_token(*tokens)
