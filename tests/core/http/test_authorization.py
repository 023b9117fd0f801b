"""Who may delete: the callables that ship."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import pytest
from werkzeug.exceptions import Forbidden, ServiceUnavailable
from werkzeug.test import Client

from kit.trees import Tree, manifest
from registry_wsgi import LocalRegistry, MemoryStore, ModelCache, create_app
from registry_wsgi.errors import ConfigurationError
from registry_wsgi.http.authorization import Authorize, all_of, bearer_token, trusted_hosts

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


@pytest.mark.parametrize("given", ["first", "second", "secone", "x", "", "third"])
def test_the_time_it_takes_tells_nothing_of_a_token(
    cache: ModelCache, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Whatever is sent is compared with each token, by what takes the same time for all bytes."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return digest_equal(one, other)

    digest_equal = hmac.compare_digest
    monkeypatch.setattr("registry_wsgi.http.authorization.hmac.compare_digest", compare)
    app = LocalRegistry(None, cache, authorize=bearer_token("first", "second", "third"))
    environ = {"HTTP_AUTHORIZATION": f"Bearer {given}"}
    Client(app).delete("/api/delete", json={"model": "smol"}, environ_overrides=environ)
    assert compared == [(given.encode(), token) for token in (b"first", b"second", b"third")]


@pytest.mark.parametrize("tokens", [(), ("",), ("secret", "")])
def test_without_a_token_there_is_no_lock(tokens: tuple[str, ...]) -> None:
    """An empty one would let in anyone who sends none."""
    with pytest.raises(ConfigurationError, match="missing or empty"):
        bearer_token(*tokens)


def ask(cache: ModelCache, authorize: Authorize, **environ: Any) -> int:
    """What a delete of the model is answered."""
    app = LocalRegistry(None, cache, authorize=authorize)
    response = Client(app).delete("/api/delete", json={"model": "smol"}, environ_overrides=environ)
    return response.status_code


# From a file


def test_a_token_may_come_from_a_file(cache: ModelCache, tmp_path: Path) -> None:
    """One a line, as they stand there at the time of the request, beside those that are given."""
    file = tmp_path / "tokens"
    file.write_bytes(b"old\n\xff\n")
    authorize = bearer_token("given", file=file)
    assert ask(cache, authorize, HTTP_AUTHORIZATION="Bearer new") == 401
    file.write_bytes(b"  new\r\n")
    assert ask(cache, authorize, HTTP_AUTHORIZATION="Bearer old") == 401
    assert ask(cache, authorize, HTTP_AUTHORIZATION="Bearer given") == 200
    # Now the model is gone, and it is not the token that is refused.
    assert ask(cache, authorize, HTTP_AUTHORIZATION="Bearer new") == 404


@pytest.mark.parametrize("content", [None, b"", b" \n"])
def test_a_file_without_a_token_lets_no_one_in(
    cache: ModelCache, tmp_path: Path, content: bytes | None
) -> None:
    """At the start it is an error, and later a 500."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"missing or empty|No such file"):
        bearer_token(file=file)
    file.write_bytes(b"secret")
    authorize = bearer_token(file=file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for sent in ("Bearer secret", "Bearer ", ""):
        assert ask(cache, authorize, HTTP_AUTHORIZATION=sent) == 500
    assert [model.name for model in cache.models()] == [NAME]


# Hosts

HOSTS = ("localhost", "127.0.0.1", "[::1]", ".Example.com", "bücher.example")


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost", "localhost:8434", "127.0.0.1:8434", "[::1]", "[::1]:8434"),
        *("example.com", "a.example.com:80", "A.B.EXAMPLE.COM", "xn--bcher-kva.example"),
    ],
)
def test_a_trusted_host_is_let_in(cache: ModelCache, host: str) -> None:
    """Whatever the port and the case."""
    assert ask(cache, trusted_hosts(*HOSTS), HTTP_HOST=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "evillocalhost", "xexample.com", ":8434"),
        *(
            "[::2]",
            "[::1",
            "::1",
            "[",
            "[fe80::1]:80",
            "127.0.0.2",
            "127.1",
            "localhost.",
            "a..b",
        ),
        *("localhost@evil.example", "evil.example,localhost", "x" * 70),
        *("localhost\n", "localhost:80\n", "b\xfccher.example", "localhost evil", "localhost/x"),
    ],
)
@pytest.mark.parametrize("hosts", [HOSTS, ("[::1]",)], ids=["names", "no names"])
def test_any_other_host_is_refused(host: str, hosts: tuple[str, ...]) -> None:
    """Also a malformed one, which some clients would not send."""
    with pytest.raises(Forbidden):
        trusted_hosts(*hosts)({"HTTP_HOST": host}, "delete", NAME)


def test_a_request_without_a_host_is_answered_403(cache: ModelCache) -> None:
    """As one of HTTP/1.0: what the server is called says nothing about who asks."""
    app = LocalRegistry(None, cache, authorize=trusted_hosts("localhost"))

    def without(environ: Any, start_response: Any) -> Any:
        del environ["HTTP_HOST"]
        return app(environ, start_response)

    assert Client(without).delete("/api/delete", json={"model": "smol"}).status_code == 403


@pytest.mark.parametrize(
    "hosts",
    [(), *[(host,) for host in ("", ".", "*", "localhost:80", "http://x", "a b", "::1", "x" * 70)]],
)
def test_what_is_no_host_is_refused(hosts: tuple[str, ...]) -> None:
    """An empty list, which would trust any, too."""
    with pytest.raises(ConfigurationError):
        trusted_hosts(*hosts)


# Several


def test_each_of_several_has_to_let_in(cache: ModelCache) -> None:
    """They are asked in their order, until one refuses, and its answer counts."""
    authorize = all_of(trusted_hosts("localhost"), bearer_token("secret"))
    assert ask(cache, authorize, HTTP_HOST="evil.example") == 403
    assert ask(cache, authorize, HTTP_HOST="localhost") == 401
    right = {"HTTP_HOST": "localhost", "HTTP_AUTHORIZATION": "Bearer secret"}
    assert ask(cache, authorize, **right | {"HTTP_HOST": "evil.example"}) == 403
    for wrong in (1, "yes", None, object()):
        no: Any = lambda *_, wrong=wrong: wrong  # noqa: E731
        assert ask(cache, all_of(authorize, no), **right) == 403
    assert ask(cache, authorize, **right) == 200


def test_what_one_of_several_raises_is_the_answer(cache: ModelCache) -> None:
    """As if it were alone."""

    def later(*_: object) -> bool:
        raise ServiceUnavailable

    assert ask(cache, all_of(lambda *_: True, later)) == 503
    with pytest.raises(ConfigurationError):
        all_of()


# From the environment


def from_environment(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, variables: dict[str, str]
) -> Client:
    """A client of the app that the environment makes."""
    tree.add("smol", b"weights")
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    for name, value in variables.items():
        monkeypatch.setenv(f"REGISTRY_WSGI_{name}", value)
    return Client(create_app())


@pytest.mark.parametrize(
    ("variables", "statuses"),
    [
        ({}, [200, 200, 200]),
        ({"TOKEN": "", "TOKEN_FILE": "", "TRUSTED_HOSTS": ""}, [200, 200, 200]),
        ({"TOKEN": "secret"}, [401, 401, 200]),
        ({"TOKEN": "old secret\n"}, [401, 401, 200]),
        ({"TRUSTED_HOSTS": "localhost"}, [403, 200, 403]),
        ({"TRUSTED_HOSTS": "localhost, evil.example"}, [200, 200, 200]),
        ({"TRUSTED_HOSTS": "evil.example", "TOKEN": "secret"}, [401, 403, 200]),
    ],
    ids=str,
)
def test_the_environment_says_who_may_delete(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, variables: dict[str, str], statuses: list[int]
) -> None:
    """To somebody under another name, under our name, and with a token."""
    client = from_environment(monkeypatch, tree, variables)
    headers = {"Authorization": "Bearer secret"}
    found = []
    for url, sent in [("evil.example", {}), ("localhost", {}), ("evil.example", headers)]:
        tree.add("smol", b"weights")
        response = client.delete(
            "/api/delete", base_url=f"http://{url}:8434", headers=sent, json={"model": "smol"}
        )
        found.append(response.status_code)
        assert tree.path("smol").exists() == (response.status_code != 200)
    assert found == statuses


def test_a_token_file_can_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, tmp_path: Path
) -> None:
    """As containers do."""
    (tmp_path / "token").write_text("secret\n")
    client = from_environment(monkeypatch, tree, {"TOKEN_FILE": str(tmp_path / "token")})
    assert client.delete("/api/delete", json={"model": "smol"}).status_code == 401
    headers = {"Authorization": "Bearer secret"}
    response = client.delete("/api/delete", headers=headers, json={"model": "smol"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"TOKEN": " "}, "TOKEN"),
        ({"TOKEN_FILE": "/nonexistent"}, "TOKEN_FILE"),
        ({"TOKEN_FILE": "/dev/null"}, "TOKEN_FILE"),
        ({"TOKEN": "secret", "TOKEN_FILE": "/dev/null"}, "TOKEN_FILE"),
        ({"TRUSTED_HOSTS": "localhost:80"}, "TRUSTED_HOSTS"),
        ({"TRUSTED_HOSTS": "localhost,"}, "TRUSTED_HOSTS"),
    ],
    ids=str,
)
def test_a_variable_that_cannot_be_used_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, variables: dict[str, str], named: str
) -> None:
    """Rather than everyone let in."""
    with pytest.raises(ConfigurationError, match=f"^REGISTRY_WSGI_{named}: "):
        from_environment(monkeypatch, tree, variables)
