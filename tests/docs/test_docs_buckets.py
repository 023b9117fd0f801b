"""What the page about buckets quotes is said, word for word."""

from __future__ import annotations

import os
import re
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kit import inside, s3
from kit.clocks import Clock
from kit.kinds import KINDS, BucketKind
from registry_wsgi import ModelCache, open_cache
from registry_wsgi.errors import RegistryError

pytestmark = pytest.mark.emulator

PAGE = Path(__file__).parents[2] / "docs" / "buckets.rst"
PROJECT = PAGE.parents[1] / "pyproject.toml"


def test_what_the_page_installs_is_all_that_it_uses() -> None:
    """The packages behind each command and each kind of store on the page."""
    text = PAGE.read_text()
    named = re.search(r"pip install 'registry-wsgi\[([\w,]+)\]'", text)
    assert named is not None
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    brought = {
        re.split(r"[^\w-]", requirement)[0]
        for extra in named[1].split(",")
        for requirement in extras[extra]
    }
    needs = {
        "gunicorn": {"gunicorn"},
        "registry-wsgi ": {"click", "rich"},
        "s3://": {"obstore", "botocore"},
    }
    for used, packages in needs.items():
        assert used in text
        assert packages <= brought


def test_each_promise_of_the_page_is_shown_by_its_tests() -> None:
    """Where the table says yes, one of the tests in that row is run over that kind of store."""
    table = PAGE.read_text().partition("   * - promise\n")[2].partition("\nOf other services")[0]
    rows = [
        [cell.strip() for cell in re.split(r"\n     - ", row)] for row in table.split("   * - ")[1:]
    ]
    assert len(rows) > 9
    for promise, *cells, tests in rows:
        shown = {kind for name in re.findall(r"``(\w+)``", tests) for kind in kinds_of(name)}
        for cell, kind in zip(cells, ("s3", "versioned", "azure", "gcs"), strict=True):
            assert cell in ("yes", "no", "some"), promise
            assert kind in shown or cell == "no", (promise, kind)


def kinds_of(test: str) -> set[str]:
    """The kinds of store over which *test* is run, as its source says."""
    pattern = re.compile(rf"((?:^@.*\n)*)^def {test}\(([^)]*)\)", re.MULTILINE)
    [(path, found)] = [
        (path, found)
        for path in (PAGE.parents[1] / "tests").rglob("test_*.py")
        if (found := pattern.search(path.read_text()))
    ]
    before, parameters = found.groups()
    named = {*re.findall(r'"(s3|versioned|azure|gcs)"', before)}
    if "@either" in before:
        named |= {"s3", "azure"}
    if "core" not in path.parts:
        return named or {"versioned" if path.stem == "test_versions" else "s3"}
    assert "kind:" in parameters
    params = re.search(r"params=kinds\((.*)\)\)", (path.parent / "conftest.py").read_text())
    assert params is not None
    return {*re.findall(r'"(\w+)"', params[1])} or {*KINDS}


def test_the_page_quotes_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message on the page is provoked, and no other."""
    endpoint = s3.endpoint()
    messages: list[str] = []

    def said(call: Any) -> None:
        with pytest.raises(RegistryError) as caught:
            call()
        messages.append(str(caught.value))

    def opened(location: str, **environment: str) -> None:
        with monkeypatch.context() as patch:
            for name, value in (endpoint.environment | environment).items():
                patch.setenv(name, value)
            patch.setenv("OLLAMA_MODELS", location)
            said(open_cache)

    opened("s3://no-such-bucket-here/team-a")
    messages[-1] = messages[-1].replace("no-such-bucket-here", "models")
    opened("s3://models/team-a", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    opened("s3://key:secret@models/team-a")

    kind = BucketKind(tmp_path, Clock())
    kind.put("registry.ollama.ai/library/tinyllama/latest", b"weights")
    kind.store_clock = lambda: time.time() - 360
    said(lambda: ModelCache(kind.another()).unlink("tinyllama"))
    kind.store_clock = time.time
    times = iter(("2026-01-31 12:00:00", "2026-01-31 12:06:00"))
    messages[-1] = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lambda _: next(times), messages[-1])
    store = kind.another()
    store.discard("h/n/m/t", (), 1.0)  # looks at what the store can do
    with monkeypatch.context() as patch:
        inside.replace_method(patch, "requests", "replace", lambda *_: None)
        said(lambda: ModelCache(store).unlink("tinyllama"))
        inside.replace_method(patch, "requests", "replace", lambda *_: "token")
        said(lambda: ModelCache(kind.another()).unlink("tinyllama"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        said(lambda: list(kind.store.versions()))
    with monkeypatch.context() as patch:
        for module in [
            name for name in sys.modules if name.startswith("registry_wsgi.stores.bucket")
        ]:
            patch.delitem(sys.modules, module)
        patch.setitem(sys.modules, "obstore", None)
        opened("s3://models/team-a")

    blocks = re.findall(
        r"^\.\. code-block:: text\n\n((?:    .*\n)+)", PAGE.read_text(), re.MULTILINE
    )
    quoted = [line.strip() for block in blocks for line in block.splitlines()]
    assert sorted(quoted) == sorted(messages)
