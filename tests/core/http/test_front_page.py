"""The front page of a server that has nothing else."""

from __future__ import annotations

from wsgiref.validate import validator

import pytest
from werkzeug.test import Client

from kit.asking import Shelf
from registry_wsgi import LocalRegistry
from registry_wsgi.http.front_page import FrontPage


@pytest.fixture
def client() -> Client:
    """A client of a server that has nothing but the middleware."""
    return Client(validator(FrontPage(validator(LocalRegistry(None, Shelf("smol"))))))


def test_it_says_in_a_line_what_this_is(client: Client) -> None:
    """In plain text."""
    answer = client.get("/", buffered=True)
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert "DELETE /api/delete" in answer.text
    assert answer.text.count("\n") == 1


def test_a_head_request_has_no_body(client: Client) -> None:
    """It is how Ollama's command asks whether a server is running."""
    answer = client.head("/", buffered=True)
    assert (answer.status_code, answer.data) == (200, b"")


def test_all_else_is_answered_as_before(client: Client) -> None:
    """Deletes, other methods and other paths."""
    assert client.post("/", buffered=True).status_code == 404
    assert client.get("/api/tags", buffered=True).status_code == 404
    body = {"model": "smol"}
    assert client.delete("/api/delete", json=body, buffered=True).status_code == 200
    assert client.delete("/api/delete", json=body, buffered=True).status_code == 404
