"""What the commands cost by how many models there are, in steps and not in seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kit.effort import shard
from kit.requirements import require
from kit.trees import Tree
from registry_wsgi import open_cache

require("click", "rich")

from registry_wsgi.cli.commands import main  # noqa: E402 - see above

# Stands for the day of the test.
TODAY = "today"


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


COMMANDS = [
    pytest.param(command, deleted, id=" ".join(command))
    for command, deleted in (
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
    )
]


@pytest.mark.moments
@pytest.mark.parametrize(("command", "deleted"), COMMANDS)
def test_four_times_the_models_are_four_times_the_steps(
    tmp_path: Path, *, command: list[str], deleted: bool
) -> None:
    """Or a little more, as lists are sorted."""
    check(tmp_path, (150, 600), command, deleted=deleted)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("command", "deleted"), shard(COMMANDS))
def test_4000_models_are_four_times_the_steps_of_1000(
    tmp_path: Path, *, command: list[str], deleted: bool
) -> None:
    """What is small at 600 may grow; this takes a minute for some commands."""
    check(tmp_path, (1_000, 4_000), command, deleted=deleted)


def check(folder: Path, sizes: tuple[int, int], command: list[str], *, deleted: bool) -> None:
    """Run *command* on stores of both *sizes*, of which the second has four times the models."""
    costs = []
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    command = [today if word == TODAY else word for word in command]
    for count in sizes:
        tree = furnish(folder / str(count), count, deleted=deleted)
        costs.append(steps(["--models", str(tree.root), *command]))
    assert costs[1] <= 4.5 * costs[0]
