"""Real file systems, and other users, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.trees import Tree
from kit.worlds import Worlds, made_below


@pytest.fixture
def worlds() -> Iterator[Worlds]:
    """File systems that are gone after the test."""
    with made_below() as made:
        yield made


@pytest.fixture
def root(worlds: Worlds) -> Path:
    """Where a models directory can be that other users may enter."""
    return worlds.folder("plain") / "models"


@pytest.fixture
def shared_tree(root: Path) -> Tree:
    """An empty models directory that other users may enter."""
    return Tree(root)
