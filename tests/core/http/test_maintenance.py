"""The maintenance API: what it answers, who may use it, and that a prune ends whoever listens."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from werkzeug.exceptions import Unauthorized
from werkzeug.test import Client, TestResponse

from kit.os_seam import Call, watched
from kit.trees import HOST, Tree, blob, broken
from registry_wsgi import DiskStore, LocalRegistry, ModelCache, create_app
from registry_wsgi.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LIMIT = 20.0
NAME = f"{HOST}/library/smol:latest"
PATHS = ["/api/deleted", "/api/restore", "/api/forget", "/api/prune"]


class Buffered(Client):
    """A client that reads each answer to its end, and closes it."""

    def open(self, *arguments: Any, **options: Any) -> TestResponse:
        return super().open(*arguments, buffered=True, **options)


@pytest.fixture
def cache(tree: Tree) -> ModelCache:
    """Two models that share a blob."""
    tree.add("smol", b"weights", b"own")
    tree.add("other", b"weights")
    return ModelCache(DiskStore(tree.root))


@pytest.fixture
def client(cache: ModelCache) -> Client:
    """A client of the API, with the validator of PEP 3333 between them."""
    return Buffered(validator(LocalRegistry(None, cache, maintenance=True)))


def post(client: Client, path: str, body: object = None, **headers: str) -> TestResponse:
    """Post *body*, as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return client.post(path, data=data, headers=headers)


def report(response: TestResponse) -> dict[str, Any]:
    """What a prune reports, without when it began."""
    assert response.json is not None
    assert datetime.fromisoformat(response.json["begun"]).tzinfo is not None
    return {key: value for key, value in response.json.items() if key != "begun"}


def names(cache: ModelCache) -> list[str]:
    """The short names of the models."""
    return [model.name.rpartition("/")[2] for model in cache.models()]


def error(response: TestResponse) -> tuple[int, str]:
    """The status and the code of an error."""
    assert response.json is not None
    assert set(response.json) == {"code", "error"}
    return response.status_code, response.json["code"]


def lines(response: TestResponse) -> list[dict[str, Any]]:
    """The objects of a stream."""
    return [json.loads(line) for line in response.text.splitlines()]


@contextmanager
def halted(function: str = "rename") -> Iterator[tuple[threading.Event, threading.Event]]:
    """Let the system wait at *function*: the first event tells that it does, the other frees it."""
    waits, go_on = threading.Event(), threading.Event()

    def hook(call: Call) -> None:
        waits.set()
        assert go_on.wait(LIMIT)

    with watched(hook, [function]):
        try:
            yield waits, go_on
        finally:
            go_on.set()


# Off unless asked for


@pytest.mark.parametrize("path", PATHS)
def test_without_being_asked_for_it_is_not_there(cache: ModelCache, path: str) -> None:
    """The app gets these requests; and without one they are answered 404, a POST to delete 405."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the app's"]

    for method in ("GET", "POST"):
        assert Client(LocalRegistry(app, cache)).open(path, method=method).text == "the app's"
        assert error(Client(LocalRegistry(None, cache)).open(path, method=method)) == (
            404,
            "not_found",
        )
    answer = post(Client(LocalRegistry(app, cache)), "/api/delete", {"model": "smol"})
    assert error(answer) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *[(method, "/api/delete", "DELETE, POST") for method in ("GET", "PUT", "PATCH")],
        *[(method, "/api/deleted", "GET, HEAD") for method in ("POST", "DELETE")],
        *[("GET", path, "POST") for path in ("/api/prune", "/api/restore")],
        ("DELETE", "/api/prune", "POST"),
    ],
)
def test_other_methods_are_told_which_are_allowed(
    client: Client, method: str, path: str, allowed: str
) -> None:
    """And do nothing."""
    answer = client.open(path, method=method, json={"model": "smol"})
    assert (*error(answer), answer.headers["Allow"]) == (405, "method_not_allowed", allowed)


def test_a_cache_without_the_methods_is_refused_at_the_start() -> None:
    """A cache of two methods has no trash to speak of; the message names what lacks."""

    class TwoMethods:
        unlink: Any = staticmethod(lambda *_: False)
        prune: Any = staticmethod(lambda: None)

    class NoOptions(TwoMethods):
        deleted = restore = claim = TwoMethods.unlink

    cache: Any = TwoMethods()
    with pytest.raises(ConfigurationError, match=r"maintenance: .* has no method deleted\(\)"):
        LocalRegistry(None, cache, maintenance=True)
    cache = NoOptions()
    with pytest.raises(ConfigurationError, match=r"maintenance: prune\(\) of .* takes no age"):
        LocalRegistry(None, cache, maintenance=True)


def test_a_cache_that_wraps_ours_serves(cache: ModelCache) -> None:
    """What counts is what it can do, and not of which class it is."""

    class Wrapping:
        def __getattr__(self, name: str) -> Any:
            return getattr(cache, name)

    wrapping: Any = Wrapping()
    client = Buffered(LocalRegistry(None, wrapping, maintenance=True))
    assert post(client, "/api/delete", {"model": "smol"}).status_code == 200
    assert NAME in client.get("/api/deleted").text
    assert '"models": 1' in post(client, "/api/prune", {"age": "0"}).text


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_the_environment_can_ask_for_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """For an app that is made from it."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.setenv("REGISTRY_WSGI_MAINTENANCE", value)
    status = Client(create_app()).get("/api/deleted").status_code
    assert status == (200 if value == "1" else 404)


# Delete, list, restore


def test_what_is_deleted_by_post_is_listed_and_restored(
    tree: Tree, cache: ModelCache, client: Client
) -> None:
    """All that can be known of it is told."""
    before = tree.files()
    assert post(client, "/api/delete", {"model": "Smol"}).data == b""
    assert names(cache) == ["other:latest"]
    (known,) = cache.deleted()
    answer = client.get("/api/deleted")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json is not None
    (told,) = answer.json["models"]
    assert {**told, "deleted": None, "expires": None} == {
        "name": NAME,
        "size": known.size,
        "restorable": True,
        "missing": [],
        "deleted": None,
        "expires": None,
        "id": known.id,
        "user": None,
        "source": "HTTP",
    }
    assert datetime.fromisoformat(told["deleted"]) == known.deleted
    assert datetime.fromisoformat(told["expires"]) == known.expires
    assert client.head("/api/deleted").data == b""
    answer = post(client, "/api/restore", {"model": "SMOL"})
    assert (answer.status_code, answer.json) == (200, {"model": NAME})
    assert tree.files() == before
    assert client.get("/api/deleted").json == {"models": []}


@pytest.mark.parametrize("path", ["/api/delete", "/api/restore"])
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", (400, "bad_request")),
        (b"{", (400, "bad_request")),
        (b'{"model":"../x"}', (400, "bad_request")),
        (b'{"model":"absent"}', (404, "not_found")),
        (b" " * 70_000, (413, "content_too_large")),
    ],
    ids=repr,
)
def test_a_body_is_read_as_that_of_a_delete(
    client: Client, path: str, body: bytes, answer: tuple[int, str]
) -> None:
    """With the same errors."""
    assert error(post(client, path, body)) == answer


def test_what_cannot_be_restored_says_why(tree: Tree, cache: ModelCache, client: Client) -> None:
    """A model in place is 409, one whose blobs are gone 410, a damaged manifest our own fault."""
    cache.unlink("smol")
    tree.add("smol", b"another")
    answer = post(client, "/api/restore", {"model": "smol"})
    assert error(answer) == (409, "conflict")
    assert NAME in answer.text
    tree.path("smol").unlink()
    for path in tree.root.rglob(blob(b"own")):
        path.unlink()
    answer = post(client, "/api/restore", {"model": "smol"})
    assert error(answer) == (410, "gone")
    assert blob(b"own").replace("-", ":") in answer.text
    tree.write("bad", b"{")
    cache.unlink("bad")
    answer = post(client, "/api/restore", {"model": "bad"})
    assert answer.json == {"code": "internal_error", "error": "internal server error"}


def test_a_deleted_model_is_forgotten(tree: Tree, cache: ModelCache, client: Client) -> None:
    """Of several deletes one, if that is asked for; another model stays as it is."""
    cache.unlink("smol")
    tree.add("smol", b"newer")
    cache.unlink("smol")
    cache.unlink("other")
    newer, older = (model for model in cache.deleted() if model.name == NAME)
    assert error(post(client, "/api/forget", {"model": "smol", "at": "x"})) == (404, "not_found")
    answer = post(client, "/api/forget", {"model": "smol", "at": older.id, "dry_run": True})
    assert answer.json is not None
    assert (answer.json["models"], answer.json["dry_run"]) == (1, True)
    answer = post(client, "/api/forget", {"model": "SMOL", "at": older.id, "quiet_store": True})
    assert answer.json is not None
    assert (answer.json["models"], answer.json["blobs"]) == (1, 1)
    assert "failures" not in answer.json
    assert [model.id for model in cache.deleted() if model.name == NAME] == [newer.id]
    assert post(client, "/api/forget", {"model": "smol"}).status_code == 200
    assert [model.name.rpartition("/")[2] for model in cache.deleted()] == ["other:latest"]
    assert cache.restore("other")
    assert broken(tree.root) == []


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", (400, "bad_request")),
        (b'{"model":"../x"}', (400, "bad_request")),
        (b'{"model":"smol","at":1}', (400, "bad_request")),
        (b'{"model":"smol","all":true}', (400, "bad_request")),
        (b'{"model":"smol","model":"other"}', (400, "bad_request")),
        (b'{"name":"smol"}', (400, "bad_request")),
        (b'{"model":"absent"}', (404, "not_found")),
        (b'{"model":"other"}', (404, "not_found")),
        (b" " * 70_000, (413, "content_too_large")),
    ],
    ids=repr,
)
def test_what_is_to_be_forgotten_is_read_strictly(
    cache: ModelCache, client: Client, body: bytes, answer: tuple[int, str]
) -> None:
    """A slip could remove too much."""
    cache.unlink("smol")
    assert error(post(client, "/api/forget", body)) == answer
    assert cache.restore("smol")


def test_a_cache_that_cannot_forget_has_no_such_path(cache: ModelCache) -> None:
    """The other paths are there."""

    class Other:
        unlink, prune, deleted = cache.unlink, cache.prune, cache.deleted
        restore, claim = cache.restore, cache.claim

    client = Client(LocalRegistry(None, Other(), maintenance=True))
    assert error(post(client, "/api/forget", {"model": "smol"})) == (404, "not_found")
    assert client.get("/api/deleted").status_code == 200


def test_a_protected_model_is_not_deleted_by_post(cache: ModelCache, client: Client) -> None:
    """As by DELETE."""
    cache.protect("smol")
    assert error(post(client, "/api/delete", {"model": "smol"})) == (403, "protected")
    assert "smol:latest" in names(cache)


# Space


def test_the_space_is_told(tree: Tree, cache: ModelCache, client: Client) -> None:
    """And no path of the machine."""
    tree.add_blob(b"an orphan")
    answers = {path: client.get(f"/api/{path}") for path in ("models", "space", "orphans")}
    assert not any(str(tree.root) in answer.text for answer in answers.values())
    models, space, orphans = (lines(answer)[0] for answer in answers.values())
    assert [(model["name"], model["size"], model["frees"]) for model in models["models"]] == [
        ("registry.ollama.ai/library/other:latest", 9, 0),
        ("registry.ollama.ai/library/smol:latest", 12, 3),
    ]
    assert space["own"]["size"] == 3
    assert space["total"]["taken"] == cache.space().total.taken
    assert set(space["frees"]) == {"prune", "prune --age 0", "forget *"}
    (orphan,) = orphans["orphans"]
    assert (orphan["file"], orphan["size"]) == (blob(b"an orphan"), 9)
    assert orphan["goes"] is not None


def test_with_manifests_out_of_reach_nothing_is_an_orphan(
    tree: Tree, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The space says so, and no path of the machine; the log has that."""
    (tree.manifests / "hf.co").symlink_to(tree.root / "unmounted")
    assert error(client.get("/api/orphans")) == (409, "blocked")
    answer = client.get("/api/space")
    assert "the log says which" in lines(answer)[0]["out_of_reach"]
    assert str(tree.root) not in answer.text
    assert "nothing can be freed: manifests/hf.co: " in caplog.text


def test_the_use_of_a_selection_is_not_the_sum(client: Client) -> None:
    """What its models share is free when all of them go."""
    usages = [
        lines(post(client, "/api/usage", {"models": models}))[0]
        for models in (["smol"], ["other"], ["smol", "OTHER"])
    ]
    assert usages == [
        {"size": 12, "shared": 9},
        {"size": 9, "shared": 9},
        {"size": 12, "shared": 0},
    ]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"models": ["smol", "absent"]}, (404, "not_found")),
        ({"models": ["smol", "a b"]}, (400, "bad_request")),
        *(({"models": models}, (400, "bad_request")) for models in ("smol", [], [1], None)),
        ({}, (400, "bad_request")),
        (b"", (400, "bad_request")),
    ],
)
def test_a_selection_is_a_list_of_models(
    client: Client, body: object, answer: tuple[int, str]
) -> None:
    assert error(post(client, "/api/usage", body)) == answer


# Prune


def test_a_prune_reports_what_it_removed(tree: Tree, cache: ModelCache, client: Client) -> None:
    """After a dry run that says the same, and touches nothing."""
    cache.unlink("smol")
    assert report(post(client, "/api/prune")) == report(post(client, "/api/prune", {}))
    before = tree.files()
    planned = post(client, "/api/prune", {"age": "0", "dry_run": True})
    assert tree.files() == before
    answer = post(client, "/api/prune", {"age": "0", "all": False, "dry_run": None})
    assert report(answer) == {**report(planned), "dry_run": False}
    model, file = report(answer).pop("items")
    assert (model["model"], model["file"], model["bytes"], model["held"]) == (
        *("registry.ollama.ai/library/smol:latest", None, 12, False),
    )
    assert (file["model"], file["file"], file["bytes"]) == (None, blob(b"own"), 3)
    assert {key: value for key, value in report(answer).items() if key != "items"} == {
        "models": 1,
        "blobs": 1,
        "bytes": 3,
        "dry_run": False,
        "protected": 0,
        "reasons": {"expired": {"models": 1, "blobs": 1, "bytes": 3}},
        "held_blobs": 0,
        "held_bytes": 0,
        "held_until": None,
        "failed": 0,
        "unsettled": False,
        "left_out": 0,
    }
    assert cache.deleted() == []
    assert names(cache) == ["other:latest"]
    answer = post(client, "/api/prune", {"age": "0", "all": True})
    assert names(cache) == []


def test_a_prune_with_the_moment_of_its_preview_takes_what_that_has_shown(
    cache: ModelCache, client: Client
) -> None:
    cache.unlink("smol")
    begun = lines(post(client, "/api/prune", {"age": "0", "dry_run": True}))[0]["begun"]
    cache.unlink("other")
    items = report(post(client, "/api/prune", {"age": "0", "before": begun}))["items"]
    assert [item["model"] for item in items if item["model"]] == [
        "registry.ollama.ai/library/smol:latest"
    ]
    assert len(cache.deleted()) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"before": "2026-01-31T12:00:00"}', b'{"before": "now"}', b'{"before": 1}'),
        *(b"{", b"[]", b"null", b"1", b'"7d"', b"{} {}", b"\xff", b'{"dry_run": NaN}', b"{]"),
        *(b'{"dryrun": true}', b'{"Dry_Run": true}', b'{"dry_run": true, "dry_run": false}'),
        *(b'{"dry_run": 1}', b'{"dry_run": "true"}', b'{"all": []}', b'{"stream": {}}'),
        *(b'{"age": 7}', b'{"age": "7"}', b'{"age": ""}', b'{"age": "-1d"}', b'{"age": true}'),
        *(b'{"age": "\\ud800"}', b"[" * 60_000, b'{"age": 1' + b"0" * 5_000 + b"}"),
        *(b'{"model": "smol"}', b'{"all": true, "x": null}'),
    ],
    ids=lambda body: body[:30],
)
def test_a_slip_in_the_options_removes_nothing(
    tree: Tree, cache: ModelCache, client: Client, body: bytes
) -> None:
    """An unknown or repeated key is a slip, too, as it might have been ``dry_run``."""
    cache.unlink("smol")
    (tree.blobs / "sha256-partial").write_bytes(b"x")
    before = tree.files()
    assert error(post(client, "/api/prune", body)) == (400, "bad_request")
    assert tree.files() == before
    assert len(cache.deleted()) == 1


def test_a_stream_tells_how_far_it_is(cache: ModelCache, client: Client) -> None:
    """Line by line, the last one with the report."""
    cache.unlink("smol")
    answer = post(client, "/api/prune", {"age": "0", "stream": True})
    assert (answer.status_code, answer.content_type) == (200, "application/x-ndjson")
    *steps, last = lines(answer)
    assert steps[0] == {"status": "pruning", "completed": 0, "total": None}
    assert steps[1] == {"status": "listing blobs", "completed": 0, "total": None}
    assert all(set(step) == {"status", "completed", "total"} for step in steps)
    assert (last["status"], last["models"], last["bytes"]) == ("success", 1, 3)
    assert cache.deleted() == []


@pytest.mark.parametrize("world", ["half-written", "dangling", "folder"])
def test_what_cannot_be_read_stops_whatever_removes(
    tree: Tree, cache: ModelCache, caplog: pytest.LogCaptureFixture, world: str
) -> None:
    """With a 409 that names the model and no path, also of a dry run and in a stream."""
    cache.unlink("smol")
    if world == "half-written":
        tree.write("bad", b"{")
    elif world == "dangling":
        tree.path("bad").parent.mkdir(parents=True)
        tree.path("bad").symlink_to(tree.root / "nowhere")
    else:
        (tree.manifests / "a.host").symlink_to(tree.root / "nowhere")
    app = LocalRegistry(None, cache, maintenance=True, evict={"max_used": "1B"})
    client = Buffered(validator(app))
    prune, forget = "/api/prune", {"model": "smol", "dry_run": True}
    answers = [
        *(post(client, prune), post(client, prune, {"dry_run": True})),
        *(post(client, "/api/forget", forget), post(client, "/api/evict", {"dry_run": True})),
    ]
    last = lines(post(client, prune, {"stream": True}))[-1]
    for answer in answers[: 3 if world == "folder" else 4]:
        assert error(answer) == (409, "blocked")
        assert answer.json == last
    assert last["error"].startswith("bad:latest: " if world != "folder" else "a part of")
    assert str(tree.root) not in last["error"]
    assert str(tree.root) in caplog.text or world == "half-written"
    assert [model.name for model in cache.deleted()] == [NAME]


def test_a_prune_that_fails_is_an_error_whose_cause_only_the_log_has(
    cache: ModelCache, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """In a stream it is the last line; another can begin at once."""

    def fail(**_: object) -> None:
        raise StoreError("bad/latest: no luck")

    cache.prune = fail  # type: ignore[method-assign,assignment]
    failed = {"code": "internal_error", "error": "internal server error"}
    answer = post(client, "/api/prune", {"age": "0"})
    assert (answer.status_code, answer.json) == (500, failed)
    for _ in range(2):
        answer = post(client, "/api/prune", {"age": "0", "stream": True})
        assert (answer.status_code, lines(answer)[-1]) == (200, failed)
    records = [record for record in caplog.records if hasattr(record, "status")]
    assert [(record.levelname, vars(record)["status"]) for record in records] == [
        ("ERROR", 500),
        *[("ERROR", 200)] * 2,
    ]
    assert all("bad/latest" in vars(record)["error"] for record in records)
    assert all(record.exc_info for record in records)


@pytest.mark.parametrize("stream", [False, True])
def test_of_two_prunes_the_second_is_told_to_wait(
    cache: ModelCache, client: Client, stream: bool
) -> None:
    """With 409; other requests are answered meanwhile, and it can prune when the first is done."""
    cache.unlink("smol")
    first: list[TestResponse] = []

    def run() -> None:
        first.append(post(client, "/api/prune", {"age": "0", "stream": stream}))
        assert first[0].data

    thread = threading.Thread(target=run)
    with halted() as (waits, go_on):
        thread.start()
        assert waits.wait(LIMIT)
        for options in ({}, {"stream": True}, {"dry_run": False}):
            assert error(post(client, "/api/prune", options)) == (409, "conflict")
        assert client.get("/api/deleted").status_code == 200
        go_on.set()
        thread.join(LIMIT)
    assert first[0].status_code == 200
    assert cache.deleted() == []
    assert post(client, "/api/prune").status_code == 200


def test_a_client_that_goes_away_does_not_stop_a_prune(
    tree: Tree, cache: ModelCache, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on to its end, is logged then, and the next one can begin."""
    caplog.set_level(logging.INFO)
    cache.unlink("smol")
    client = Client(LocalRegistry(None, cache, maintenance=True))
    with halted() as (waits, go_on):
        answer = client.post("/api/prune", json={"age": "0", "stream": True}, buffered=False)
        next(answer.iter_encoded())
        answer.close()
        assert waits.wait(LIMIT)
        assert [record for record in caplog.records if hasattr(record, "status")] == []
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "registry_wsgi prune":
                thread.join(LIMIT)
    assert cache.deleted() == []
    assert not (tree.blobs / blob(b"own")).exists()
    assert broken(tree.root) == []
    assert [record.getMessage() for record in caplog.records] == ["POST /api/prune 200"]
    assert post(client, "/api/prune").status_code == 200


def test_without_a_thread_to_be_had_nothing_is_left_locked(
    cache: ModelCache, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is a 500, and the next prune can begin."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert error(post(client, "/api/prune", {"stream": True})) == (500, "internal_error")
    assert post(client, "/api/prune").status_code == 200


# Who may


def test_authorize_is_asked_for_each_action(cache: ModelCache) -> None:
    """With the full name of the model, or a star where it is about no single one."""
    asked: list[tuple[str, str]] = []
    allowed: set[str] = set()

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        asked.append((action, name))
        return action in allowed

    client = Buffered(LocalRegistry(None, cache, maintenance=True, authorize=authorize))
    requests: list[Callable[[], TestResponse]] = [
        lambda: post(client, "/api/delete", {"model": "smol"}),
        lambda: client.get("/api/deleted"),
        lambda: post(client, "/api/forget", {"model": "smol", "dry_run": True}),
        lambda: post(client, "/api/restore", {"model": "smol"}),
        lambda: post(client, "/api/prune", {"stream": True}),
        lambda: post(client, "/api/prune", {"dry_run": True, "all": False}),
        lambda: post(client, "/api/prune", {"dry_run": True, "all": True}),
        *(partial(client.get, f"/api/{path}") for path in ("models", "space", "orphans")),
        lambda: post(client, "/api/usage", {"models": ["other"]}),
        lambda: client.get("/api/history"),
    ]
    for request in requests:
        assert error(request()) == (403, "forbidden")
    assert names(cache) == ["other:latest", "smol:latest"]
    actions = [("delete", NAME), ("deleted", "*"), ("forget", NAME), ("restore", NAME)]
    actions += [("prune", "*")] * 2
    actions += [(action, "*") for action in ("prune_all", "models", "space", "space", "models")]
    actions += [("history", "*")]
    assert asked == actions
    allowed.update(action for action, _ in actions)
    assert [request().status_code for request in requests] == [200] * 12


def test_who_may_prune_may_not_remove_what_nobody_deleted(cache: ModelCache) -> None:
    """That is an action of its own."""
    client = Buffered(
        LocalRegistry(
            None, cache, maintenance=True, authorize=lambda _, action, name: action == "prune"
        )
    )
    for stream in (False, True):
        answer = post(client, "/api/prune", {"age": "0", "all": True, "stream": stream})
        assert error(answer) == (403, "forbidden")
        assert "not allowed to prune models that nobody deleted" in answer.text
    assert len(names(cache)) == 2
    assert post(client, "/api/prune", {"age": "0"}).status_code == 200
    assert len(names(cache)) == 2


def test_what_authorize_raises_is_the_answer(cache: ModelCache) -> None:
    """And who is not let in does not learn whether a prune is under way."""

    def authorize(*_: object) -> bool:
        raise Unauthorized("log in")

    client = Client(LocalRegistry(None, cache, maintenance=True, authorize=authorize))
    with halted("scandir") as (waits, go_on):
        thread = threading.Thread(target=lambda: cache.prune(age=0))
        thread.start()
        assert waits.wait(LIMIT)
        assert error(post(client, "/api/prune")) == (401, "unauthorized")
        go_on.set()
        thread.join(LIMIT)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://elsewhere"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[localhost"}, 403),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/api/delete", "/api/restore", "/api/prune"])
def test_a_page_of_another_site_changes_nothing(
    cache: ModelCache, client: Client, path: str, headers: dict[str, str], status: int
) -> None:
    """A browser sends a POST from any page, and says from which."""
    if path == "/api/restore":
        cache.unlink("smol")
    before = names(cache)
    body = {} if path == "/api/prune" else {"model": "smol"}
    answer = post(client, path, body, **headers)
    assert answer.status_code == status
    assert status == 200 or (error(answer)[1], names(cache)) == ("forbidden", before)


def test_each_request_has_one_record(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """With the fields of any."""
    caplog.set_level(logging.INFO)
    post(client, "/api/delete", {"model": "smol"})
    client.get("/api/deleted?x=y")
    post(client, "/api/restore", {"model": "absent"})
    assert post(client, "/api/prune", {"stream": True}).data
    records = [vars(record) for record in caplog.records]
    assert [(record["path"], record["status"], record["levelname"]) for record in records] == [
        ("/api/delete", 200, "INFO"),
        ("/api/deleted", 200, "INFO"),
        ("/api/restore", 404, "WARNING"),
        ("/api/prune", 200, "INFO"),
    ]
    assert records[1]["query"] == "x=y"
    absent = NAME.replace("smol", "absent")
    assert [(record["action"], record["model"]) for record in records] == [
        ("delete", NAME),
        ("deleted", None),
        ("restore", absent),
        ("prune", None),
    ]


# Who has


def test_the_history_says_who_and_from_where(cache: ModelCache) -> None:
    """As the server tells it, in the answer to a delete and in the thread of a prune, too."""
    alice = {"REMOTE_USER": "alice", "REMOTE_ADDR": "192.0.2.7"}
    client = Buffered(LocalRegistry(None, cache, maintenance=True))
    for environ in (alice, {"REMOTE_ADDR": ""}):
        client.delete("/api/delete", json={"model": "smol"}, environ_overrides=environ)
        post(client, "/api/restore", {"model": "smol"})
    client.delete("/api/delete", json={"model": "other"}, environ_overrides=alice)
    client.post("/api/prune", json={"stream": True}, environ_overrides=alice)
    answer = client.get("/api/history?last=4").json
    assert answer is not None
    assert [(one["action"], one["user"], one["source"]) for one in answer["changes"]] == [
        ("prune", "alice", "HTTP 192.0.2.7"),
        ("delete", "alice", "HTTP 192.0.2.7"),
        ("restore", None, "HTTP"),
        ("delete", None, "HTTP"),
    ]
    deleted = client.get("/api/deleted").json
    assert deleted is not None
    [model] = deleted["models"]
    assert (model["user"], model["source"]) == ("alice", "HTTP 192.0.2.7")
    assert client.get("/api/history").json == client.get("/api/history?last=1000").json
    cache.protect("a")
    assert cache.history()[0].source is None


@pytest.mark.parametrize("query", ["last=0", "last=1001", "last=-1", "last=x", "last=1&last=2"])
def test_another_number_of_changes_is_refused(client: Client, query: str) -> None:
    """One that is none, too large, or there twice."""
    assert error(client.get(f"/api/history?{query}")) == (400, "bad_request")


def test_a_cache_without_a_history_is_served(cache: ModelCache) -> None:
    """That path is not found then."""

    class Plain(ModelCache):
        history = None  # type: ignore[assignment]

    client = Buffered(LocalRegistry(None, Plain(cache.store), maintenance=True))
    assert client.get("/api/history").status_code == 404
