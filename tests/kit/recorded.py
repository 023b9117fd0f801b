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
LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


def body_of(case: dict[str, Any]) -> bytes:
    """The bytes that the client sent: in the record a text, or hexadecimal if it is none."""
    body = case["body"]
    return bytes.fromhex(body["hex"]) if isinstance(body, dict) else body.encode()


def expected(case: dict[str, Any]) -> dict[str, Any]:
    """What the case asks of us."""
    if case["case"] in BETTER_ON_PURPOSE:
        answer = {"code": "bad_request"}
        return case | {
            "status": 400,
            "answer": answer,
            "log_level": "WARN",
            "content_type": "application/json",
        }
    return case


def fill(tree: Tree) -> None:
    """The models that the handler had when it was recorded."""
    tree.add("smol", b"weights", b"template")
    tree.add("example.com/ns/foo/latest", b"weights", b"other")
