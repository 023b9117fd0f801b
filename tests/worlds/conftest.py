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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the tests that ``not_yet.txt`` names to fail: with the reason that stands above."""
    reason = ""
    reasons = {}
    for line in Path(__file__).with_name("not_yet.txt").read_text().splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            reasons[line] = reason
    for item in items:
        name = item.nodeid.rpartition("worlds/")[2]
        found = reasons.get(name) or reasons.get(name.partition("[")[0])
        if found and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xfail(strict=True, reason=found))
