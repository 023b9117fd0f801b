"""The recorded answers of the Go handler, replayed over a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kit.recorded import CASES, body_of, expected, fill
from kit.servers import THREADED, Registry, request

SMOL = "manifests/registry.ollama.ai/library/smol/latest"
DELETED = {
    "status": 200,
    "answer": None,
    "content_type": None,
    "removed": [SMOL],
    "log_level": "INFO",
}

# Where the server makes the difference, before the app sees the request.
SERVER_MADE: dict[str, dict[str, dict[str, Any]]] = {
    "gunicorn": {
        # A fragment is cut off from the target: the app sees /api/delete.
        "path /api/delete#f": DELETED,
    },
    "waitress": {
        "path /api/delete#f": DELETED,
        # Slashes at the beginning are made one.
        "path //api/delete": DELETED,
        # A method in lower case is refused (by gunicorn too, unless it is told to let them pass).
        "method Delete": {
            "status": 400,
            "answer": ...,  # the words are the server's
            "content_type": "text/plain; charset=utf-8",
            "log_level": None,
        },
    },
}


# The sync workers read a request by the same code as the threaded ones.
@pytest.mark.parametrize("kind", THREADED, indirect=True, scope="session")
@pytest.mark.parametrize("case", CASES, ids=[case["case"][:60] for case in CASES])
def test_answers_as_the_go_handler_does(registry: Registry, case: dict[str, Any]) -> None:
    """Status, code, content type, what is removed and the log level are those of the record."""
    fill(registry.tree)
    before = registry.tree.files()
    made = SERVER_MADE[registry.server.kind.partition("-")[0]]

    headers = {} if case["fallback"] else {"X-Alone": "1"}
    message = request(case["method"], case["target"], body_of(case), headers)
    answer = registry.server.send(message, method=case["method"])

    assert answer is not None
    want = expected(case, answer.status) | made.get(case["case"], {})
    assert answer.status == want["status"], answer
    if answer.status != 200 or want["answer"]:
        assert answer.header("Content-Type") == want["content_type"]
    if isinstance(want["answer"], dict):
        document = json.loads(answer.body)
        assert document["code"] == want["answer"]["code"]
        assert set(document) == {"code", "error"}
    elif want["answer"] is not ...:
        assert answer.body == (want["answer"] or "").encode()
    assert sorted(set(before) - set(registry.tree.files())) == want["removed"]
    levels = [record["level"][:4] for record in registry.logged()]
    assert levels == ([want["log_level"][:4]] if want["log_level"] else [])
