"""What once went wrong, or nearly."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from webtest import TestApp
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge

from kit.trees import Tree, blob, digest
from registry_wsgi import (
    DiskStore,
    LocalRegistry,
    MemoryStore,
    ModelCache,
    RegistryError,
    open_cache,
)
from registry_wsgi.cache.manifest import mentioned_blobs, parse_manifest
from registry_wsgi.errors import ConfigurationError, InvalidNameError, StoreError
from registry_wsgi.http.body import read_body
from registry_wsgi.names import Name


class Shelf:
    """A cache whose methods fail as they are told to."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.deleted = False

    def unlink(self, name: str) -> bool:
        """Delete, or fail."""
        if "unlink" in self.errors:
            raise self.errors["unlink"]
        self.deleted = True
        return True

    def prune(self) -> None:
        """Do nothing, or fail."""
        if "prune" in self.errors:
            raise self.errors["prune"]


def delete(app: LocalRegistry) -> Any:
    """Ask *app* to delete a model."""
    return TestApp(app).request(
        "/api/delete", method="DELETE", body=b'{"model": "m"}', expect_errors=True
    )


class UnprintableError(Exception):
    """An exception that fails once more when it is printed."""

    def __str__(self) -> str:
        raise ValueError


class OddError(HTTPException):
    """An exception of an application's own, without a text."""

    code = 499


@pytest.mark.parametrize(
    "errors",
    [
        {"prune": NotFound("/secret")},
        {"prune": InvalidNameError("/secret")},
        {"unlink": NotFound("/secret")},
        {"unlink": UnprintableError()},
    ],
)
def test_no_exception_of_a_cache_is_an_answer(errors: dict[str, Exception]) -> None:
    """Whatever class it has, its cause stays here, and the client is told of a failure."""
    response = delete(LocalRegistry(None, Shelf(**errors)))
    assert response.status_int == 500
    assert response.json == {"code": "internal_error", "error": "internal server error"}


@pytest.mark.parametrize("error", [InvalidNameError("x"), HTTPException("no")])
def test_what_refuses_nothing_is_a_failure(error: Exception) -> None:
    """Of what `authorize` raises only an HTTP error is an answer; nothing else lets in."""

    def authorize(*_: object) -> bool:
        raise error

    shelf = Shelf()
    assert delete(LocalRegistry(None, shelf, authorize=authorize)).status_int == 500
    assert not shelf.deleted


def test_an_error_of_an_applications_own_has_a_code_and_a_text() -> None:
    """Where the class has no text, the answer has one all the same."""

    def authorize(*_: object) -> bool:
        raise OddError

    answer = delete(LocalRegistry(None, Shelf(), authorize=authorize)).json
    assert answer["code"].replace("_", "").isalpha()
    assert isinstance(answer["error"], str)


def test_only_true_lets_in() -> None:
    """What `authorize` returns by mistake, as a coroutine is true, lets nobody in."""

    def authorize(*_: object) -> Any:
        return "yes"

    shelf = Shelf()
    assert delete(LocalRegistry(None, shelf, authorize=authorize)).status_int == 403
    assert not shelf.deleted


def test_records_with_attributes_of_their_own_keep_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an application's log records have a `path` already, that stays, and ours are added."""

    class WithPath(logging.LogRecord):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.path = f"{self.name} {self.getMessage()}"

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging, "_logRecordFactory", WithPath)
    assert delete(LocalRegistry(None, Shelf())).status_int == 200
    (record,) = map(vars, caplog.records)
    assert record["path"] == "registry_wsgi DELETE /api/delete 200"
    assert (record["method"], record["status"], record["error"]) == ("DELETE", 200, None)


class Failing(logging.Handler):
    """A handler that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.calls = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        self.calls += 1
        raise self.error


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of the test's own."""
    logger = logging.getLogger("registry_wsgi.test")
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()
    logger.filters.clear()


@pytest.mark.parametrize("error", [KeyError("of a handler"), OSError("disk full"), ValueError()])
@pytest.mark.parametrize("use", ["handler", "filter"])
@pytest.mark.parametrize("errors", [{}, {"unlink": StoreError("the cause")}])
def test_a_log_that_fails_does_not_change_the_answer(
    error: Exception,
    use: str,
    errors: dict[str, Exception],
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The record is tried once; stderr has what went wrong, and what the record would have said."""
    shelf = Shelf(**errors)
    failing = Failing(error)
    if use == "handler":
        logger.addHandler(failing)
    else:
        failing.filter = failing.emit  # type: ignore[method-assign, assignment]
        logger.addFilter(failing)
    answer = delete(LocalRegistry(None, shelf, logger=logger))
    assert answer.status_int == (500 if errors else 200)
    assert shelf.deleted != bool(errors)
    assert failing.calls == 1
    noted = capsys.readouterr().err
    assert f"\n{type(error).__name__}" in noted
    assert f"'status': {answer.status_int}" in noted
    assert ("the cause" in noted) == bool(errors)


def test_a_log_that_fails_is_noted_as_logging_is_told_to(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at all with `raiseExceptions` off; and not even a closed stderr changes the answer."""
    logger.addHandler(Failing(OSError("disk full")))
    with monkeypatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        assert delete(LocalRegistry(None, Shelf(), logger=logger)).status_int == 200
    assert capsys.readouterr().err == ""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    assert delete(LocalRegistry(None, Shelf(), logger=logger)).status_int == 200


class Untouched(io.RawIOBase):
    """A stream that must not be read."""

    def read(self, size: int = -1) -> bytes:
        """Fail."""
        raise SystemExit(size)


def test_a_stream_that_is_not_terminated_is_not_read() -> None:
    """A key `wsgi.input_terminated` that says no is no yes."""
    environ = {"wsgi.input": Untouched(), "wsgi.input_terminated": False}
    assert read_body(environ, 100) == b""


def test_a_body_that_is_said_to_be_too_large_is_not_read() -> None:
    """One byte too many is refused as a thousand are."""
    with pytest.raises(RequestEntityTooLarge):
        read_body({"wsgi.input": Untouched(), "CONTENT_LENGTH": "101"}, 100)


@pytest.mark.parametrize("location", ["", "memory://[", "s3://[bucket/x", "file:///tmp?x#y"])
def test_a_location_that_is_none_is_refused(location: str) -> None:
    """An empty or broken location opens nothing, least of all the current directory."""
    with pytest.raises(ConfigurationError):
        open_cache(location)


def test_a_bad_option_is_named() -> None:
    """The message says which option it is."""
    with pytest.raises(ConfigurationError, match="retention"):
        open_cache("memory:", retention="soon")
    with pytest.raises(RegistryError):
        open_cache("memory:", retention=10**400)


@pytest.mark.parametrize("retention", ["999999999w", timedelta.max, 1e300])
def test_a_retention_past_the_end_of_time_is_one(retention: Any) -> None:
    """What never expires can be listed."""
    cache = open_cache("memory:", retention=retention)
    assert isinstance(cache.store, MemoryStore)
    cache.store.put_manifest("h/n/m/t", b'{"layers": []}')
    cache.unlink("h/n/m:t")
    assert len(cache.deleted()) == 1


# A digest whose first letter is written as an escape, which is the same to JSON.
ESCAPED = json.dumps({"layers": [{"digest": digest(b"x"), "size": 1}]}).replace(
    "sha256", "\\u0073ha256"
)


def test_what_is_needed_is_mentioned() -> None:
    """However JSON writes a digest, a deleted model keeps that blob."""
    data = ESCAPED.encode()
    assert set(parse_manifest(data)) == mentioned_blobs(data) == {blob(b"x")}


def test_a_deleted_model_keeps_blobs_whose_digests_are_escaped() -> None:
    """Within the retention no prune takes them."""
    now = [1e9]
    store = MemoryStore(clock=lambda: now[0])
    cache = ModelCache(store, clock=lambda: now[0])
    store.put_blob(blob(b"x"), b"x")
    store.put_manifest("h/n/m/t", ESCAPED.encode())
    now[0] += timedelta(days=30).total_seconds()
    cache.unlink("h/n/m:t")
    for _ in range(3):
        now[0] += timedelta(days=2).total_seconds()
        cache.prune()
    assert cache.deleted()[0].restorable


@pytest.mark.parametrize(
    "text",
    [
        '{"layers": [], "Config": {"digest": "%s"}}',
        '{"Layers": [{"digest": "%s"}], "layers": null, "config": {"size": 1}}',
        '{"layers": [{"digest": "%s", "Digest": "sha256:other"}]}',
    ],
)
def test_keys_in_another_case_are_not_overlooked(text: str) -> None:
    """Ollama takes them; here such a manifest is none, so that nothing is swept."""
    with pytest.raises(RegistryError):
        parse_manifest((text % digest(b"x")).encode())


def test_names_are_shortened_in_any_case() -> None:
    """The default host and namespace are left out however they are written."""
    assert Name.parse("Registry.Ollama.AI/Library/m").short == "m:latest"


def test_a_key_that_is_no_name_is_named_as_it_is() -> None:
    """The error has the path, not what became of it."""
    with pytest.raises(InvalidNameError) as caught:
        Name.from_key("h/n/m/.DS_Store")
    assert caught.value.name == "h/n/m/.DS_Store"


def test_a_manifest_on_a_bad_sector_can_be_deleted_and_goes(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk does not give back is left out of the list, deleted, and gone in its time."""
    tree.add("bad", b"weights")
    tree.add("good", b"other")
    bad = tree.path("bad").stat().st_ino
    opened = os.open

    def open_or_fail(path: str, *arguments: Any, **options: Any) -> int:
        file = opened(path, *arguments, **options)
        if os.fstat(file).st_ino == bad:
            os.close(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return file

    monkeypatch.setattr(os, "open", open_or_fail)
    now = time.time()
    cache = ModelCache(DiskStore(tree.root), clock=lambda: now)
    assert [model.name for model in cache.models()] == [str(Name.parse("good"))]
    with pytest.raises(StoreError, match="bad"):
        cache.prune()
    assert cache.unlink("bad")
    with pytest.raises(StoreError, match="bad"):  # what it needs is not known
        cache.prune()
    now += timedelta(days=8).total_seconds()
    assert cache.prune().models == 1
    assert cache.verify(deep=True).ok


@pytest.mark.parametrize("folder", ["trash", "condemned"])
def test_a_link_that_is_named_like_an_entry_is_passed_over(tree: Tree, folder: str) -> None:
    """It is not followed, and nothing stops for it."""
    tree.add("smol", b"weights")
    other = tree.root.parent / "other"
    (other / "manifests").mkdir(parents=True)
    (tree.root / folder).mkdir()
    (tree.root / folder / "2026-01-01T00-00-00.000000Z-00000000").symlink_to(other)
    cache = ModelCache(DiskStore(tree.root))
    assert cache.unlink("smol")
    cache.prune(age=0)
    assert cache.deleted() == []
    assert [path.name for path in other.iterdir()] == ["manifests"]
