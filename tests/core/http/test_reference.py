"""The recorded answers of the Go handler, replayed, with the differences that are on purpose."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
from webtest import TestApp

from kit.recorded import CASES, LEVELS, body_of, expected, fill
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache


def fallback(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """The app behind the handler when it was recorded."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    yield b"fallback"


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("case", CASES, ids=[case["case"][:60] for case in CASES])
def test_answers_as_the_go_handler_does(
    case: dict[str, Any], tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """Status, code, content type, what is removed and the log level are those of the record."""
    fill(tree)
    before = tree.files()
    app = LocalRegistry(
        validator(fallback) if case["fallback"] else None, ModelCache(DiskStore(tree.root))
    )

    path, _, query = case["target"].partition("?")
    environ = {"QUERY_STRING": query, "REQUEST_METHOD": case["method"], "HTTP_HOST": "localhost"}
    with caplog.at_level(logging.INFO, logger="registry_wsgi"):
        response = TestApp(validator(app), lint=False).request(
            path.removeprefix("http://h"), environ=environ, body=body_of(case), expect_errors=True
        )

    want = expected(case, response.status_int)
    assert response.status_int == want["status"]
    if response.status_int != 200 or want["answer"]:  # a 200 of ours has a type, for the validator
        assert response.headers["Content-Type"] == want["content_type"]
    if isinstance(want["answer"], dict):
        assert response.json["code"] == want["answer"]["code"]
        assert set(response.json) == {"code", "error"}
    elif want["answer"] is None:
        assert response.body == b""
    else:
        assert response.text == want["answer"]
    assert sorted(set(before) - set(tree.files())) == want["removed"]
    levels = [record.levelno for record in caplog.records if record.name == "registry_wsgi"]
    assert levels == ([LEVELS[want["log_level"]]] if want["log_level"] else [])
