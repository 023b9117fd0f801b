"""Requests to the Go handler with what it answered, and what this library is to answer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from kit.trees import Tree

# Requests to the Go handler, each with what it answered.
CASES = json.loads((Path(__file__).parents[1] / "reference" / "delete.json").read_text())

# The rows of the HTTP contract where this library is better than the handler: these are 400 here.
BETTER_ON_PURPOSE = {"body truncstr", "body bareopen", "body null"}

# Here the answer depends on how deep the decoder of this Python goes: as the handler's, or 400.
EITHER = {"body deep"}
LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


def body_of(case: dict[str, Any]) -> bytes:
    """The bytes that the client sent: in the record a text, or hexadecimal if it is none."""
    body = case["body"]
    return bytes.fromhex(body["hex"]) if isinstance(body, dict) else body.encode()


def expected(case: dict[str, Any], status: int) -> dict[str, Any]:
    """What the case asks of us; *status* is that of our answer, for where there are two."""
    if case["case"] in BETTER_ON_PURPOSE or (case["case"] in EITHER and status == 400):
        return case | {
            "status": 400,
            "answer": {"code": "bad_request"},
            "removed": [],
            "log_level": "WARN",
            "content_type": "application/json",
        }
    if case["method"] == "OPTIONS":  # of the app, which knows who may ask from a browser
        return case | {
            "status": 200,
            "answer": "fallback",
            "log_level": None,
            "content_type": "text/plain; charset=utf-8",
        }
    return case


def fill(tree: Tree) -> None:
    """The models that the handler had when it was recorded."""
    tree.add("smol", b"weights", b"template")
    tree.add("example.com/ns/foo/latest", b"weights", b"other")
