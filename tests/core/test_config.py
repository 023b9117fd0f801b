"""Settings: from the environment, from arguments, and refused with a message that names them."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from kit.trees import Tree
from kit.views import keys
from registry_wsgi import DiskStore, MemoryStore, create_app, open_cache
from registry_wsgi.app import build_app
from registry_wsgi.errors import ConfigurationError
from registry_wsgi.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DAY = 86_400
VARIABLES = ["REGISTRY_WSGI_RETENTION", "REGISTRY_WSGI_IN_FLIGHT", "REGISTRY_WSGI_HOLD"]


def root(location: Any = None) -> str:
    """The directory of the store that `open_cache` opens."""
    store = open_cache(location).store
    assert isinstance(store, DiskStore)
    return store.root


# Where the models are


def test_ollama_models_names_the_directory(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a location, the variable that Ollama has for it counts."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    assert root() == str(tree.root)


@pytest.mark.parametrize("value", [None, ""])
def test_the_default_is_the_directory_that_ollama_has(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the variable, or with an empty one, it is ~/.ollama/models."""
    models = tmp_path / ".ollama" / "models"
    models.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is not None:
        monkeypatch.setenv("OLLAMA_MODELS", value)
    assert root() == str(models)


def test_a_location_overrides_the_environment(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed counts, be it a text, a path, or a URL."""
    monkeypatch.setenv("OLLAMA_MODELS", "/nonexistent")
    monkeypatch.setenv("HOME", str(tree.root.parent))
    for location in (str(tree.root), tree.root, tree.root.as_uri(), f"~/{tree.root.name}"):
        assert root(location) == str(tree.root)
    monkeypatch.chdir(tree.root.parent)
    assert root(tree.root.name) == str(tree.root)
    assert isinstance(open_cache("memory:").store, MemoryStore)


def test_memory_and_urls_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable takes what the argument takes, a file URL with its escapes too."""
    odd = tmp_path / "a b%20c#d?é"
    odd.mkdir()
    monkeypatch.setenv("OLLAMA_MODELS", odd.as_uri())
    assert root() == str(odd)
    assert root(f"file://localhost{odd.as_uri().removeprefix('file://')}") == str(odd)
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    assert isinstance(open_cache().store, MemoryStore)


def test_each_memory_store_is_empty_and_its_own() -> None:
    """Two caches in memory share nothing."""
    one, other = open_cache("memory:").store, open_cache("memory:").store
    assert isinstance(one, MemoryStore)
    one.put_manifest("h/n/m/t", b"{}")
    assert keys(one) == ["h/n/m/t"]
    assert keys(other) == []


@pytest.mark.parametrize(
    "location",
    [
        *("/nonexistent/models", "nonexistent", "file:///nonexistent", "file://elsewhere/tmp"),
        *("file:", "memory:x", "memory://x/y", "http://example.com", "bogus://x", "sqlite:models"),
        __file__,
    ],
)
def test_a_location_that_cannot_be_used_is_named(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where the location came from and what it is, and it is no traceback."""
    where = location.removeprefix("file://")
    with pytest.raises(ConfigurationError, match=r"^location: ") as caught:
        open_cache(location)
    assert where in str(caught.value)
    monkeypatch.setenv("OLLAMA_MODELS", location)
    for opened in (open_cache, create_app):
        with pytest.raises(ConfigurationError, match=r"^OLLAMA_MODELS: ") as caught:
            opened()
        assert where in str(caught.value)


def test_a_default_that_is_not_there_is_named(home: Path) -> None:
    """Who has no models directory is told which one was looked for, and by which variable."""
    with pytest.raises(ConfigurationError, match=rf"OLLAMA_MODELS.*{home}/\.ollama/models"):
        open_cache()


# Options


def test_the_options_have_their_defaults() -> None:
    """Seven days of retention, an hour in flight, a day of hold."""
    cache = open_cache("memory:")
    assert (cache.retention, cache.in_flight, cache.hold) == (7 * DAY, 3_600, DAY)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("90s", 90), ("2w", 14 * DAY), ("", None)]
)
def test_options_come_from_the_environment(
    variable: str, value: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable sets its option, and an empty one is as good as none."""
    option = variable.removeprefix("REGISTRY_WSGI_").lower()
    default = getattr(open_cache("memory:"), option)
    monkeypatch.setenv(variable, value)
    assert getattr(open_cache("memory:"), option) == (default if seconds is None else seconds)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("value", ["7", "soon", "-1d", "7 d", " ", "1.5h", "7d\n", "inf"])
def test_a_variable_that_is_no_duration_stops_the_start(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable and shows how durations are written, on one line."""
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    for opened in (open_cache, create_app):
        with pytest.raises(ConfigurationError, match=rf"^{variable}: .* 7d ") as caught:
            opened()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("given", "seconds"), [("12h", DAY / 2), (timedelta(days=2), 2 * DAY), (5, 5), (0, 0)]
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_options_override_the_environment(
    variable: str, given: object, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is passed counts, 0 too, and the variable is not even looked at."""
    option = variable.removeprefix("REGISTRY_WSGI_").lower()
    monkeypatch.setenv(variable, "nonsense")
    assert getattr(open_cache("memory:", **{option: given}), option) == seconds


def test_the_clock_can_be_passed() -> None:
    """`clock` is an option like the others."""
    cache = open_cache("memory:", clock=lambda: 4e9)
    assert isinstance(cache.store, MemoryStore)
    cache.store.put_manifest("h/n/m/t", b'{"layers":[]}')
    assert cache.unlink("h/n/m:t")
    assert cache.deleted()[0].deleted.timestamp() == 4e9


@pytest.mark.parametrize(
    "options", [{"retention": "soon"}, {"hold": -1}, {"retention": None}, {"bogus": 1}]
)
def test_an_option_that_cannot_be_used_is_refused(options: dict[str, Any]) -> None:
    """It is an error of ours, as a wrong variable is."""
    with pytest.raises(ConfigurationError):
        open_cache("memory:", **options)


# The settings as one object


def test_the_settings_are_those_of_the_environment_that_is_passed() -> None:
    """Each from its variable; nothing is read from the process then, and nothing can be set."""
    found = Settings.read(
        {
            "OLLAMA_MODELS": "memory:",
            "REGISTRY_WSGI_RETENTION": "3d",
            "REGISTRY_WSGI_PRUNE": "off",
            "REGISTRY_WSGI_MAINTENANCE": "yes",
            "REGISTRY_WSGI_TOKEN": "one two",
            "REGISTRY_WSGI_TRUSTED_HOSTS": "localhost, example.com",
        }
    )
    assert (found.location, found.retention, found.in_flight) == ("memory:", 3 * DAY, None)
    assert (found.prune, found.maintenance) == (False, True)
    assert (found.tokens, found.trusted_hosts) == (("one", "two"), ("localhost", "example.com"))
    assert Settings.read({}) == Settings()
    with pytest.raises(AttributeError):
        found.prune = True  # type: ignore[misc]


def test_the_settings_do_not_show_the_tokens() -> None:
    """Whoever prints them, in a log say, gives nothing away."""
    assert "secret" not in repr(Settings.read({"REGISTRY_WSGI_TOKEN": "secret"}))


def test_what_is_given_goes_before_the_environment() -> None:
    """Its variable may hold anything, and a message names the field."""
    nonsense = {"REGISTRY_WSGI_PRUNE": "maybe", "REGISTRY_WSGI_TOKEN": "x"}
    found = Settings.read(nonsense, prune=False, token_file="/run/token", tokens=())
    assert (found.prune, found.tokens, found.token_file) == (False, (), "/run/token")
    assert (found.name_of("tokens"), found.name_of("hold")) == ("tokens", "REGISTRY_WSGI_HOLD")
    with pytest.raises(ConfigurationError, match=r"^prune: "):
        Settings.read({}, prune="maybe")
    with pytest.raises(ConfigurationError, match=r"^token_file: REGISTRY_WSGI_TOKEN is set"):
        Settings.read({"REGISTRY_WSGI_TOKEN": "x"}, token_file="y")


def test_to_open_a_store_takes_the_settings_of_a_store_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slip in those of the middleware keeps nobody from looking at the models."""
    monkeypatch.setenv("REGISTRY_WSGI_PRUNE", "maybe")
    assert open_cache("memory:").models() == []


def test_one_call_puts_the_middleware_together() -> None:
    """Around an app, over the cache that the settings name or another."""
    settings = Settings(location="memory:", prune=False, maintenance=True, tokens=("secret",))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the app's"]

    built = build_app(settings, app)
    assert (built.app, built.prune) == (app, False)
    assert TestApp(built).get("/").text == "the app's"
    assert TestApp(built).get("/api/deleted", status=401).json["code"] == "unauthorized"
    cache = open_cache("memory:")
    assert build_app(settings, cache=cache).cache is cache


# create_app


@pytest.mark.parametrize(
    ("value", "prune"),
    [
        *((value, True) for value in ("1", "true", "True", "YES", "on", "", None)),
        *((value, False) for value in ("0", "false", "FALSE", "no", "Off")),
    ],
)
def test_pruning_can_be_switched_off(
    value: str | None, prune: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REGISTRY_WSGI_PRUNE=0 leaves out the prune after a delete; it is on otherwise."""
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    if value is not None:
        monkeypatch.setenv("REGISTRY_WSGI_PRUNE", value)
    assert create_app().prune is prune


@pytest.mark.parametrize("value", ["2", "maybe", " ", "1 ", "-1", "\x1b[2J"])
def test_a_switch_that_is_neither_on_nor_off_stops_the_start(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable, on one line."""
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    monkeypatch.setenv("REGISTRY_WSGI_PRUNE", value)
    with pytest.raises(ConfigurationError, match=r"^REGISTRY_WSGI_PRUNE: ") as caught:
        create_app()
    assert str(caught.value).isprintable()


def test_an_app_from_the_environment_alone_deletes(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gunicorn gets from create_app() deletes from the directory that the variable names."""
    path = tree.add("smol", b"weights")
    kept = tree.add("other", b"weights")
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.setenv("REGISTRY_WSGI_RETENTION", "3d")
    app = TestApp(create_app())
    assert app.delete_json("/api/delete", {"model": "smol"}, status=200).body == b""
    assert app.delete_json("/api/delete", {"model": "smol"}, status=404).json["code"] == "not_found"
    assert app.get("/", status=404).json == {"code": "not_found", "error": "not found"}
    assert not path.exists()
    assert kept.exists()
    (deleted,) = open_cache().deleted()
    assert deleted.expires - deleted.deleted == timedelta(days=3)
    assert os.listdir(tree.trash)
