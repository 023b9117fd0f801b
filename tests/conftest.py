"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("kit")  # before it is imported

from kit.effort import Effort  # noqa: E402 - see above
from kit.inside import pause_for, wait_little  # noqa: E402 - see above
from kit.trees import Tree  # noqa: E402 - see above

#: The mark of every test below a folder of `tests`.
MARKS = {
    "benchmarks": pytest.mark.bench,
    "browser": pytest.mark.browser,
    "emulators": pytest.mark.emulator,
    "live": pytest.mark.live,
    "soak": pytest.mark.soak,
    "worlds": pytest.mark.world,
}


@pytest.hookimpl(tryfirst=True)  # before the tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the folder that it is in."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            folder = item.path.relative_to(here).parts[0]
            if mark := MARKS.get(folder):
                item.add_marker(mark)


def pytest_sessionfinish() -> None:
    """Write down what a worker has covered: one that takes long to end is killed, and would not."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    with suppress(ImportError), warnings.catch_warnings():
        from coverage import Coverage

        warnings.simplefilter("ignore")  # of a worker that had no test of the package
        if (current := Coverage.current()) is not None:
            current.save()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what is no UTF-8, as in names of files: the report of a worker could not be sent."""
    return _sendable((yield))


def _sendable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_sendable(key): _sendable(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(_sendable, data))
    return data


#: The variables that are for the tests themselves, and are read while they run.
OF_THE_TESTS = ("REGISTRY_WSGI_REQUIRE_LIVE", "REGISTRY_WSGI_SCREENSHOTS")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home without models; not one that is absent, as servers that root runs would make it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """No setting of the person who runs the tests reaches them, and no test their models."""
    for variable in os.environ:
        settings = ("OLLAMA_", "REGISTRY_WSGI_", "AWS_", "GOOGLE_", "AZURE_")
        if variable.startswith(settings) and variable not in OF_THE_TESTS:
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no prune of this process wait for pulls to show, as none is under way unseen."""
    pause_for(monkeypatch, 0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no collection of this test wait long for a store to come to rest."""
    wait_little(monkeypatch)


@pytest.fixture
def switching(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let threads take turns as often as can be; those that wait for answers do so anyhow."""
    kind = request.getfixturevalue("kind")
    if not kind.threads:
        pytest.skip("this store is for one thread at a time")
    interval = sys.getswitchinterval()
    if not kind.remote:
        sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(
    params=[
        pytest.param(False, id="some"),
        pytest.param(True, id="every", marks=pytest.mark.exhaustive),
    ]
)
def effort(request: pytest.FixtureRequest) -> Effort:
    """How much to try: a few moments or examples; in the exhaustive tier all, or a part of all."""
    return Effort(everything=request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty models directory."""
    return Tree(tmp_path / "models")
