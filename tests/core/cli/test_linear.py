"""What the commands cost by how many models there are, in steps and not in seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kit.effort import Effort
from kit.requirements import require
from kit.trees import Tree
from registry_wsgi import open_cache

require("click", "rich")

from registry_wsgi.cli.commands import main  # noqa: E402 - see above

# Stands for the day of the test.
TODAY = "today"

SIZES = 150, 600

pytestmark = pytest.mark.moments


def furnish(root: Path, count: int, *, deleted: bool) -> Tree:
    """A store of *count* models, which have a blob each and one in common."""
    tree = Tree(root)
    for number in range(count):
        tree.add(f"m{number:04}", b"%d" % number)
    if deleted:
        cache = open_cache(root)
        for number in range(count):
            cache.unlink(f"m{number:04}")
    return tree


def steps(argv: Sequence[str]) -> int:
    """Run a command, and count the functions that it calls, those of C and of the system too."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        del frame, argument
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        code = main(argv)
    finally:
        sys.setprofile(None)
    assert code == 0
    return count


@pytest.mark.parametrize(
    ("command", "deleted"),
    [
        (["list"], False),
        (["df"], False),
        (["orphans"], True),
        (["rm", "-y", "*"], False),
        (["verify"], False),
        (["deleted"], True),
        (["restore", "*"], True),
        (["restore", "--at", TODAY, "*"], True),
        (["forget", "-y", "*"], True),
        (["prune", "--age", "0"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_four_times_the_models_are_four_times_the_steps(
    tmp_path: Path, effort: Effort, *, command: list[str], deleted: bool
) -> None:
    """Or a little more, as lists are sorted."""
    costs = []
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    command = [today if word == TODAY else word for word in command]
    for count in (1_000, 4_000) if effort.everything else SIZES:
        tree = furnish(tmp_path / str(count), count, deleted=deleted)
        costs.append(steps(["--models", str(tree.root), *command]))
    assert costs[1] <= 4.5 * costs[0]
