"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import Tree


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them, and no test their models."""
    for variable in ("OLLAMA_MODELS", "RETENTION", "IN_FLIGHT", "HOLD", "PRUNE", "TOKEN"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(f"REGISTRY_WSGI_{variable}", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty models directory."""
    return Tree(tmp_path / "models")
