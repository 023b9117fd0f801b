"""The middleware: what it answers, what it logs, and that it is not there for other requests."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import Barrier
from typing import TYPE_CHECKING, Any, NoReturn
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests, Unauthorized
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from kit.asking import SMOL, Shelf, ask, bare, hello
from kit.effort import Effort
from kit.requirements import require
from kit.trees import HOST, Tree, contents, manifest
from kit.views import keys
from registry_wsgi import DiskStore, LocalRegistry, MemoryStore, ModelCache
from registry_wsgi.errors import InvalidNameError, StoreError
from registry_wsgi.http.body import read_model
from registry_wsgi.names import Name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FULL_NAME = "registry.ollama.ai/library/smol:latest"
JSON = "application/json"
NOT_FOUND = b'{"code": "not_found", "error": "model not found"}'
A_LONG_TIME = 86_400 * 10**9  # seconds, to a year that no date can have
FIELDS = (
    *("error", "status", "method", "path", "content_length", "remote", "proto", "query"),
    *("model", "action", "user"),
)


class Broken(Shelf):
    """A cache one of whose methods fails."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__("smol")
        self.method, self.error = method, error

    def unlink(self, name: str) -> bool:
        return super().unlink(name) if self.method != "unlink" else self.fail()

    def prune(self) -> None:
        return super().prune() if self.method != "prune" else self.fail()

    def fail(self) -> NoReturn:
        raise self.error


def ignore(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
    """A start_response."""


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No level hides a record."""
    caplog.set_level(logging.DEBUG)


# The contract


@pytest.mark.parametrize(
    ("body", "status", "code", "error"),
    [
        (b'{"model":"absent"}', 404, "not_found", "model not found"),
        (b'{"model":"smol:absent"}', 404, "not_found", "model not found"),
        (b"", 400, "bad_request", "empty request body"),
        (b" \n", 400, "bad_request", "empty request body"),
        (b"null", 400, "bad_request", "must be a JSON object"),
        (b"{", 400, "bad_request", "invalid JSON: Expecting property name"),
        (b'{"model":"sm', 400, "bad_request", "invalid JSON"),
        (b'\xef\xbb\xbf{"model":"smol"}', 400, "bad_request", "invalid JSON: Expecting value"),
        (b'{"model":5}', 400, "bad_request", "model must be a string"),
        (b'{"model":"smol","stream":1}', 400, "bad_request", "stream must be a boolean"),
        (b"{}", 400, "bad_request", 'invalid or missing name: ""'),
        (b'{"model":"smol:latest:x"}', 400, "bad_request", '"smol:latest:x"'),
        (b'{"model":"../smol"}', 400, "bad_request", 'invalid or missing name: "../smol"'),
        (b'{"model":"\\u0000"}', 400, "bad_request", r'invalid or missing name: "\x00"'),
        (SMOL + b" " * (65_536 - len(SMOL)), 200, "", ""),
        (SMOL + b" " * (65_537 - len(SMOL)), 413, "content_too_large", "larger than 65536 bytes"),
    ],
)
def test_each_body_has_its_answer(body: bytes, status: int, code: str, error: str) -> None:
    """Status and code are those of the contract, and the message says what is wrong."""
    cache = Shelf("smol")
    response = ask(LocalRegistry(hello, cache), body)
    assert response.status_int == status
    if code:
        assert response.content_type == JSON
        assert response.json["code"] == code
        assert set(response.json) == {"code", "error"}
        assert error in response.json["error"]
        assert cache.names == {"smol"}
        assert "prune" not in cache.calls


def test_a_delete_is_answered_200_and_nothing() -> None:
    """Success has an empty body, and the model is gone."""
    cache = Shelf("smol", "other")
    response = ask(LocalRegistry(hello, cache))
    assert (response.status_int, response.body) == (200, b"")
    assert response.headers["Content-Length"] == "0"
    assert cache.names == {"other"}
    assert ask(LocalRegistry(hello, cache)).status_int == 404


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "TRACE", "delete", "BREW", "options"]
)
def test_other_methods_are_told_which_one_is_allowed(method: str) -> None:
    """Only DELETE is taken, spelled so; the answer to HEAD has no body."""
    cache = Shelf("smol")
    response = ask(LocalRegistry(hello, cache), REQUEST_METHOD=method)
    assert response.status_int == 405
    assert response.headers["Allow"] == "DELETE"
    assert response.content_type == JSON
    if method == "HEAD":
        assert response.body == b""
    else:
        assert response.json == {"code": "method_not_allowed", "error": "method not allowed"}
    assert cache.calls == []


def test_a_legal_name_too_long_for_the_file_system_is_not_found(tree: Tree) -> None:
    """The longest legal host is no file name on most systems, and that is no error."""
    body = json.dumps({"model": f"{'h' * 350}/n/m"}).encode()
    assert ask(LocalRegistry(None, ModelCache(DiskStore(tree.root))), body).status_int == 404


def test_the_limit_of_the_body_can_be_set() -> None:
    """`max_content_length` bytes are read, and one more is too much."""
    app = LocalRegistry(hello, Shelf("smol"), max_content_length=len(SMOL))
    assert ask(app, SMOL + b" ").status_int == 413
    assert ask(app).status_int == 200


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/api", "/api/delete/", "/api/pull"])
def test_without_an_app_other_paths_are_not_found(method: str, path: str) -> None:
    """There is nothing else, and it says so in JSON, but for HEAD, which has no body."""
    response = ask(LocalRegistry(None, Shelf()), REQUEST_METHOD=method, PATH_INFO=path)
    assert (response.status_int, response.content_type) == (404, JSON)
    if method == "HEAD":
        assert response.body == b""
    else:
        assert response.json == {"code": "not_found", "error": "not found"}


def test_it_works_mounted_under_a_prefix() -> None:
    """SCRIPT_NAME is not part of the path; without the mount the longer path is another."""
    cache = Shelf("smol")
    app = DispatcherMiddleware(hello, {"/mount": LocalRegistry(hello, cache)})
    assert ask(app).text == "hello"
    assert ask(LocalRegistry(hello, cache), PATH_INFO="/mount/api/delete").text == "hello"
    assert cache.calls == []
    assert ask(app, PATH_INFO="/mount/api/delete").body == b""
    assert cache.names == set()


# The cache


@pytest.mark.parametrize("name", ["smol", "SMOL", "library/smol", "smol:", "/smol", FULL_NAME])
def test_the_cache_gets_the_name_as_the_client_sent_it(name: str) -> None:
    """Nothing is filled in or folded for the cache: what a name means is its own affair."""
    cache = Shelf()
    assert ask(LocalRegistry(hello, cache), json.dumps({"model": name}).encode()).status_int == 404
    assert cache.calls == [f"unlink {name}"]


@pytest.mark.parametrize(
    ("prune", "calls"), [(True, ["unlink smol", "prune"]), (False, ["unlink smol"])]
)
def test_a_prune_follows_a_delete_unless_it_is_switched_off(prune: bool, calls: list[str]) -> None:
    """The cache is pruned once, after the delete; with prune=False never."""
    cache = Shelf("smol")
    assert ask(LocalRegistry(hello, cache, prune=prune)).status_int == 200
    assert cache.calls == calls


def test_a_model_on_disk_is_deleted_and_can_be_restored(tree: Tree) -> None:
    """With the cache that ships, a delete moves the manifest away and a restore brings it back."""
    path = tree.add("smol", b"weights")
    before = contents(tree.root)
    cache = ModelCache(DiskStore(tree.root))
    assert ask(LocalRegistry(hello, cache), b'{"model":"SMOL"}').status_int == 200
    assert not path.exists()
    assert ask(LocalRegistry(hello, cache)).status_int == 404
    assert cache.restore("smol") == FULL_NAME
    assert contents(tree.root) == before


def test_a_cache_may_take_fewer_names() -> None:
    """A cache that raises InvalidNameError refuses a name that the grammar allows: 400."""
    response = ask(LocalRegistry(hello, Broken("unlink", InvalidNameError("smol"))))
    assert (response.status_int, response.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize("method", ["unlink", "prune"])
@pytest.mark.parametrize(
    "error",
    [
        *(OSError(28, "No space left on device", "/secret"), StoreError("/secret: read-only")),
        *(ValueError("/secret"), KeyError("/secret"), RuntimeError(), AssertionError("/secret")),
        *(NotImplementedError(), RecursionError("/secret"), UnicodeError("/secret")),
    ],
    ids=repr,
)
def test_a_failing_cache_is_an_error_whose_cause_only_the_log_has(
    method: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told of an internal error; the log has the message and the traceback."""
    cache = Broken(method, error)
    response = ask(LocalRegistry(hello, cache))
    assert response.status_int == 500
    assert response.json == {"code": "internal_error", "error": "internal server error"}
    assert not any("secret" in value for value in response.headers.values())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert vars(record)["error"] == str(error)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "in fail" in logging.Formatter().format(record)
    # After a prune that failed the model is deleted all the same.
    assert cache.names == ({"smol"} if method == "unlink" else set())


@pytest.mark.parametrize("method", ["unlink", "prune"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
def test_what_ends_a_process_is_not_answered(
    method: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is told to stop stops: such exceptions go through."""
    with pytest.raises(type(error)) as caught:
        bare(LocalRegistry(hello, Broken(method, error)))
    assert caught.value is error
    assert caplog.records == []


# Authorization


def test_authorize_is_asked_about_the_full_name_before_the_cache() -> None:
    """It gets the request, the action and the name with its defaults; True lets it happen."""
    cache = Shelf("smol")
    asked: list[tuple[str, str, list[str]]] = []

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        asked.append((action, name, [*cache.calls]))
        return bool(environ["REMOTE_USER"] == "me")

    app = LocalRegistry(hello, cache, authorize=authorize)
    response = ask(app, REMOTE_USER="you")
    assert (response.status_int, response.json["code"]) == (403, "forbidden")
    assert cache.calls == []
    assert ask(app, REMOTE_USER="me").status_int == 200
    assert cache.calls == ["unlink smol", "prune"]
    assert asked == [("delete", FULL_NAME, []), ("delete", FULL_NAME, [])]


@pytest.mark.parametrize(
    ("error", "answer", "header"),
    [
        (
            Unauthorized(
                "log in", www_authenticate=WWWAuthenticate("basic", {"realm": "the models"})
            ),
            (401, "unauthorized", "log in"),
            ("WWW-Authenticate", 'Basic realm="the models"'),
        ),
        (
            TooManyRequests("later", retry_after=3),
            (429, "too_many_requests", "later"),
            ("Retry-After", "3"),
        ),
        (ServiceUnavailable("no users"), (503, "service_unavailable", "no users"), None),
        (PermissionError("/secret"), (500, "internal_error", "internal server error"), None),
    ],
)
def test_what_authorize_raises_is_the_answer(
    error: Exception, answer: tuple[int, str, str], header: tuple[str, str] | None
) -> None:
    """An HTTP exception is answered with its headers, any other is a 500; nothing is deleted."""

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        raise error

    cache = Shelf("smol")
    response = ask(LocalRegistry(hello, cache, authorize=authorize))
    assert (response.status_int, response.json["code"], response.json["error"]) == answer
    assert response.content_type == JSON
    assert header is None or header in response.headers.items()
    assert cache.calls == []


@pytest.mark.parametrize(
    ("body", "environ", "status"),
    [
        (b'{"model":"../smol"}', {}, 400),
        (b"{}", {}, 400),
        (b"", {}, 400),
        (b" " * 70_000, {}, 413),
        (SMOL, {"REQUEST_METHOD": "GET"}, 405),
        (SMOL, {"PATH_INFO": "/"}, 200),
    ],
)
def test_authorize_is_asked_of_valid_deletes_alone(
    body: bytes, environ: dict[str, str], status: int
) -> None:
    """What is refused anyway, or not ours, does not reach it."""

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        raise AssertionError(name)

    app = LocalRegistry(hello, Shelf("smol"), authorize=authorize)
    assert ask(app, body, **environ).status_int == status


# The log


@pytest.mark.parametrize(
    ("body", "environ", "outcome"),
    [
        (SMOL, {}, (200, logging.INFO, None)),
        (b'{"model":"absent"}', {}, (404, logging.WARNING, "model not found")),
        (b"", {}, (400, logging.WARNING, "empty request body")),
        (SMOL, {"REQUEST_METHOD": "GET"}, (405, logging.WARNING, "method not allowed")),
        (SMOL, {"REQUEST_METHOD": "HEAD"}, (405, logging.WARNING, "method not allowed")),
        (b" " * 65_537, {}, (413, logging.WARNING, "the request body is larger than 65536 bytes")),
        (SMOL, {"PATH_INFO": "/other"}, (404, logging.WARNING, "not found")),
    ],
)
def test_each_request_handled_has_one_record(
    body: bytes,
    environ: dict[str, str],
    outcome: tuple[int, int, str | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its level follows the status, and its attributes and message tell who asked for what."""
    status, level, error = outcome
    client = {"REMOTE_ADDR": "192.0.2.7", "SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": "a=b"}
    client["REMOTE_USER"] = "somebody"
    assert ask(LocalRegistry(None, Shelf("smol")), body, **client, **environ).status_int == status
    (record,) = caplog.records
    method = environ.get("REQUEST_METHOD", "DELETE")
    path = environ.get("PATH_INFO", "/api/delete")
    names = {SMOL: FULL_NAME, b'{"model":"absent"}': FULL_NAME.replace("smol", "absent")}
    assert (record.name, record.levelno, record.exc_info) == ("registry_wsgi", level, None)
    assert record.getMessage() == f"{method} {path} {status}" + (f" {error}" if error else "")
    assert {key: vars(record)[key] for key in FIELDS} == {
        "error": error,
        "status": status,
        "method": method,
        "path": path,
        "content_length": len(body),
        "remote": "192.0.2.7",
        "proto": "HTTP/1.1",
        "query": "a=b",
        "model": None if environ else names.get(body),
        "action": None if environ else "delete",
        "user": "somebody",
    }


@pytest.mark.parametrize("retention", [60, 0, A_LONG_TIME])
@pytest.mark.parametrize("maintenance", [False, True])
def test_a_delete_says_how_to_undo_it(tree: Tree, *, retention: float, maintenance: bool) -> None:
    """Until when, and by which path if that is answered here; or nothing, if nothing can be."""
    tree.add("smol", b"weights")
    cache = ModelCache(DiskStore(tree.root), retention=retention)
    app = LocalRegistry(hello, cache, maintenance=maintenance)
    before = datetime.now(UTC).replace(microsecond=0)
    headers = ask(app, SCRIPT_NAME="/mo dels").headers
    after = datetime.now(UTC)
    if 0 < retention < A_LONG_TIME:
        until = parsedate_to_datetime(headers["Restorable-Until"])
        assert before <= until - timedelta(seconds=retention) <= after
    else:
        assert "Restorable-Until" not in headers
    link = '</mo%20dels/api/restore>; rel="restore"' if maintenance and retention else None
    assert headers.get("Link") == link


def test_the_record_of_a_refusal_names_the_model_and_the_action(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So that it can be told who wanted to do what; what has no valid name has none."""
    app = LocalRegistry(hello, Shelf("smol"), authorize=lambda *_: False)
    assert ask(app).status_int == 403
    assert ask(app, b'{"model":"../x"}').status_int == 400
    assert ask(app, REQUEST_METHOD="PUT").status_int == 405
    found = [(vars(record)["model"], vars(record)["action"]) for record in caplog.records]
    assert found == [(FULL_NAME, "delete"), (None, "delete"), (None, None)]


def test_what_a_server_does_not_tell_is_none_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A record has all its attributes, even if the environ has next to nothing."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/delete"}
    LocalRegistry(None, Shelf())(environ, ignore)
    (record,) = caplog.records
    found = {key: vars(record)[key] for key in FIELDS}
    empty = {"content_length": None, "remote": None, "proto": None, "query": ""}
    empty |= {"model": None, "action": None, "user": None}
    assert found == found | empty


def test_the_logger_can_be_chosen(caplog: pytest.LogCaptureFixture) -> None:
    """With `logger`, the records go to that one."""
    ask(LocalRegistry(hello, Shelf("smol"), logger=logging.getLogger("somewhere.else")))
    assert [record.name for record in caplog.records] == ["somewhere.else"]


def test_requests_passed_through_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Of what the app answers, good or bad, there is no record."""
    app = LocalRegistry(hello, Shelf())
    for path in ("/", "/api/delete/"):
        assert ask(app, PATH_INFO=path).text == "hello"
    assert caplog.records == []


FORGERY = 'x\r\nERROR forged\x1b[2J\x00\x85\u2028\u202e"\\n'


@pytest.mark.parametrize(
    ("body", "environ"),
    [
        (SMOL, {"REQUEST_METHOD": FORGERY}),
        (SMOL, {"PATH_INFO": f"/{FORGERY}"}),
        *((body, {"QUERY_STRING": FORGERY}) for body in (SMOL, b"")),
        (SMOL, {"REMOTE_ADDR": FORGERY, "SERVER_PROTOCOL": FORGERY}),
        (SMOL, {"CONTENT_LENGTH": FORGERY}),
        (json.dumps({"model": FORGERY}).encode(), {}),
        (json.dumps({"model": f"smol:t:{FORGERY}"}).encode(), {}),
        (FORGERY.encode(), {}),
        (f'{{"model":{FORGERY}'.encode(), {}),
        (f'{{"model":"{FORGERY}"}}'.encode(), {}),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_nobody_can_forge_a_line_of_the_log(
    body: bytes, environ: dict[str, str], broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No line end and no terminal sequence gets into the message, an attribute or an answer."""
    cache = Broken("unlink", StoreError(FORGERY)) if broken else Shelf("smol")
    status, answer = bare(LocalRegistry(None, cache), body, **environ)
    (record,) = caplog.records
    texts = [record.getMessage(), *(vars(record)[key] for key in FIELDS), answer.decode()]
    assert all(text.isprintable() for text in texts if isinstance(text, str))
    if status < 500:
        assert logging.Formatter("%(levelname)s %(message)s").format(record).isprintable()


def test_a_long_request_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What a client sends is cut in the log and in the answer."""
    body = json.dumps({"model": "é\n" * 10_000}).encode()
    long = "\x00" * 50_000
    _, answer = bare(LocalRegistry(None, Shelf()), body, QUERY_STRING=long, REQUEST_METHOD="DELETE")
    bare(LocalRegistry(None, Shelf()), PATH_INFO=long, REQUEST_METHOD=long)
    assert len(answer) < 10_000
    for record in caplog.records:
        assert len(record.getMessage()) < 10_000
        assert all(len(str(vars(record)[key])) < 10_000 for key in FIELDS)


# Passing through


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/api", "/api/", "/api/delete/", "/api/deleted", "/api/delete ", "/API/DELETE"),
        *("//api/delete", "/./api/delete", "/api//delete", "api/delete", "/x/api/delete"),
        *("/api/delete;x", "/api/delete?x", "/api%2fdelete", "/api/delete\0", "/api/delete\n"),
        None,
    ],
)
def test_any_other_request_reaches_the_app_as_it_is(path: str | None) -> None:
    """The same environ, the same start_response and the same iterable: as if nothing was there."""
    seen: list[object] = []
    result = [b"hello"]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.extend([environ, start_response])
        return result

    environ = {"REQUEST_METHOD": "DELETE"} | ({} if path is None else {"PATH_INFO": path})
    copy = dict(environ)
    assert LocalRegistry(app, Shelf())(environ, ignore) is result
    assert seen[0] is environ
    assert seen[1] is ignore
    assert environ == copy


@pytest.mark.parametrize(
    "error", [ValueError("of the app"), KeyboardInterrupt(), NotImplementedError()]
)
def test_exceptions_of_the_app_are_its_own(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """What the app raises, at once or while it streams, goes to the server, and not to our log."""

    def at_once(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raise error

    def streaming(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield from hello(environ, start_response)
        raise error

    for app in (at_once, streaming):
        with pytest.raises(type(error)) as caught:
            bare(LocalRegistry(app, Shelf()), PATH_INFO="/")
        assert caught.value is error
    assert caplog.records == []


def test_a_stream_stays_a_stream() -> None:
    """The first chunk comes before the second is made; ``write()`` and ``close()`` work."""
    events: list[str] = []

    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            for number in range(2):
                events.append(f"made {number}")
                yield b"%d" % number

        def close(self) -> None:
            events.append("closed")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Stream:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"written")
        return Stream()

    def start_response(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
        return lambda data: events.append(data.decode())

    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    # Both sides are checked by the validator: as a server of ours, and as an app of the server.
    answer = validator(LocalRegistry(validator(app), Shelf()))(environ, start_response)
    chunks = iter(answer)
    assert (next(chunks), events) == (b"0", ["written", "made 0"])
    assert (next(chunks), events[2:]) == (b"1", ["made 1"])
    assert next(chunks, None) is None
    answer.close()  # type: ignore[attr-defined]
    assert events[3:] == ["closed"]


# Any number of threads, any request


def test_one_object_serves_many_threads() -> None:
    """No request sees another's: of 8 threads at once each gets the answers to its own requests."""
    app = LocalRegistry(hello, Shelf(*(f"m{n}" for n in range(0, 1_600, 2))))
    barrier = Barrier(8)
    answers: dict[str, Callable[[int], tuple[int, bytes]]] = {
        "delete": lambda n: bare(app, b'{"model":"m%d"}' % n),
        "invalid": lambda n: bare(app, b'{"model":"-%d"}' % n),
        "pass": lambda n: bare(app, PATH_INFO=f"/{n}"),
    }

    def work(thread: int) -> list[tuple[int, bytes]]:
        barrier.wait()
        numbers = range(thread, 1_600, 8)
        return [answers[kind](n) for n in numbers for kind in answers]

    def expected(n: int) -> list[tuple[int, bytes]]:
        gone = (200, b"") if n % 2 == 0 else (404, NOT_FOUND)
        invalid = json.dumps(
            {"code": "bad_request", "error": f'invalid or missing name: "-{n}"'}
        ).encode()
        return [gone, (400, invalid), (200, b"hello")]

    with ThreadPoolExecutor(8) as pool:
        for thread, found in enumerate(pool.map(work, range(8))):
            assert found == [answer for n in range(thread, 1_600, 8) for answer in expected(n)]


def test_no_request_is_our_fault(effort: Effort) -> None:
    """With a cache in order no request, however odd, is answered 5xx, and errors are JSON."""
    require("hypothesis")
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    # PEP 3333: native strings of latin-1; some servers let surrogates through, so they come too.
    latin = st.text(st.characters(max_codepoint=0xFF), max_size=20)
    odd = latin | st.text(st.characters(), max_size=5)
    names = st.sampled_from(["smol", "SMOL", "a/b/c:d", "", "..", "a" * 81]) | st.text(
        st.characters()
    )
    objects = st.fixed_dictionaries(
        {},
        optional={"model": names, "name": names | st.none(), "stream": st.none() | st.integers()},
    )
    bodies = st.binary() | objects.map(lambda found: json.dumps(found).encode())
    environs = st.fixed_dictionaries(
        {
            "REQUEST_METHOD": st.sampled_from(["DELETE", "DELETE", "DELETE", "HEAD", ""]) | odd,
            "PATH_INFO": st.sampled_from(["/api/delete", "/api/delete", "/"]) | odd,
        },
        optional={
            **dict.fromkeys(["QUERY_STRING", "SCRIPT_NAME", "REMOTE_ADDR", "SERVER_PROTOCOL"], odd),
            **dict.fromkeys(["HTTP_TRANSFER_ENCODING", "CONTENT_TYPE", "HTTP_HOST"], odd),
            "CONTENT_LENGTH": st.sampled_from(["", "0", "5", "-1", "99999999", "1e3"]) | odd,
            "wsgi.input_terminated": st.just(True),
        },
    )

    @settings(
        deadline=None,
        max_examples=effort.examples(150),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(bodies, environs)
    def check(body: bytes, environ: dict[str, Any]) -> None:
        cache = Shelf("smol", "SMOL")
        status, answer = bare(LocalRegistry(None, cache), body, **environ)
        assert 200 <= status < 500
        assert (status == 200) == (len(cache.names) == 1)
        if status == 200 or environ["REQUEST_METHOD"] == "HEAD":
            assert answer == b""
        else:
            assert json.loads(answer).keys() == {"code", "error"}

    check()


def state(store: MemoryStore) -> list[object]:
    """All that is in a store."""
    manifests = {key: store.read(key) for key in keys(store)}
    blobs = {name: store.get_blob(name) for name in store.blobs()}
    return [manifests, blobs, [*store.deleted()]]


@pytest.mark.parametrize("kind", ["documents", "fragments", "around", "noise"])
def test_no_body_changes_anything_but_what_it_deletes(kind: str, effort: Effort) -> None:
    """Never a 5xx, JSON in each error, and nothing in the store changes without a 200."""
    require("hypothesis")
    from hypothesis import HealthCheck, given, settings

    from kit.strategies import bodies

    def check(body: bytes) -> None:
        store = MemoryStore(clock=lambda: 0)
        for model in ("smol", "other"):
            store.put_manifest(f"{HOST}/library/{model}/latest", manifest(model.encode()))
        before = state(store)
        status, answer = bare(LocalRegistry(None, ModelCache(store)), body)
        if status == 200:
            assert answer == b""
            assert keys(store) == [f"{HOST}/library/other/latest"]
            assert store.find(Name.parse(read_model(body))) is None
        else:
            assert status in (400, 404)
            found = json.loads(answer)
            assert found.keys() == {"code", "error"}
            assert found["error"].isprintable()
            assert len(answer) < 10_000
            assert state(store) == before

    limits = settings(
        deadline=None,
        derandomize=True,
        max_examples=effort.examples(400) // 4,
        suppress_health_check=[HealthCheck.too_slow],
    )
    limits(given(bodies()[kind])(check))()
