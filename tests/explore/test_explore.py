"""Every order of the calls of two programs on one store, with few preemptions."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kit.effort import shard
from kit.requirements import require

require("greenlet")

from explore.actors import read, write  # noqa: E402 - see above
from explore.combinations import LONGER, QUICK, Combination, full  # noqa: E402 - see above
from explore.scenes import World, world  # noqa: E402 - see above
from explore.schedule import Actor  # noqa: E402 - see above
from explore.seam import Disk  # noqa: E402 - see above
from explore.search import Exploration  # noqa: E402 - see above
from explore.story import expect_whole, tell  # noqa: E402 - see above


@pytest.fixture
def here() -> Iterator[World]:
    """A world."""
    with world() as made:
        yield made


@pytest.mark.parametrize("combination", QUICK, ids=str)
def test_every_order_leaves_all_whole(here: World, combination: Combination) -> None:
    """Whichever of two has its turn when, all that is promised holds in the end."""
    expect_whole(here, combination)


@pytest.mark.moments
@pytest.mark.parametrize("combination", LONGER, ids=str)
def test_every_order_of_more_leaves_all_whole(here: World, combination: Combination) -> None:
    """The same with more preemptions, or more steps."""
    expect_whole(here, combination)


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("combination", shard(full()), ids=str)
def test_every_order_of_any_two_leaves_all_whole(here: World, combination: Combination) -> None:
    """The same for all pairs, in all kinds of stores."""
    expect_whole(here, combination)


def add(letter: bytes) -> Actor:
    """An actor that adds *letter* to a file, and does not expect anybody else to."""

    def act(disk: Disk) -> None:
        path = f"{disk.root}/file"
        write(path, (read(path) or b"") + letter)

    return Actor(f"adds {letter.decode()}", act)


def adding(here: World) -> Exploration:
    """Two of them."""

    def check() -> list[str]:
        data = read(f"{here.disk.root}/file") or b""
        return [f"lost: {lost}" for lost in "ab" if lost.encode() not in data]

    mould = [(here.disk.root, None, "root", 0, 0)]
    return Exploration(here.disk, here.stage, mould, [add(b"a"), add(b"b")], check)


def test_a_broken_order_is_found_with_the_fewest_switches_and_told(here: World) -> None:
    """Two that change one file at once lose what one of them wrote, and the story says how."""
    exploration = adding(here)
    assert not exploration.run(0).faults
    found = exploration.run(2)
    assert sorted(found.faults) == ["lost: a", "lost: b"]
    fault = found.faults["lost: b"]
    assert fault.preemptions == 1
    assert tell(exploration, here.disk, here.stage, fault.schedule).splitlines() == [
        "  adds a: open file",
        "  adds b: create file; write file",
        "  adds a: create file; write file",
        "  adds a ended: None",
        "  adds b ended: None",
    ]


def test_no_order_that_could_matter_is_left_out(here: World) -> None:
    """To switch at every step, or to know no state again, leads to the same ends and no more."""
    ends = []
    for options in ({}, {"memory": False}, {"all_matter": True}):
        exploration = here.explore("prune", "copy", scene="few", **options)
        ends.append(exploration.run(1).finals)
    assert len(ends[0]) > 5
    assert ends[0] == ends[1] == ends[2]


def test_a_schedule_can_be_played_again(here: World) -> None:
    """It comes to the same end, in as many steps, though other schedules were played meanwhile."""
    exploration = here.explore("prune", "pull", scene="few")
    exploration.run(1)
    ends = []
    for _ in range(2):
        exploration.play(((0, 1), (3, 0)))
        ends.append((here.stage.state(0), here.disk.snapshot()))
        exploration.run(0)
    assert ends[0] == ends[1]


def test_nothing_stays_in_the_way(here: World) -> None:
    """Outside of the store the functions of `os` do what they always do."""
    with open(os.devnull, "rb") as file:
        assert os.fstat(file.fileno()).st_ino == os.stat(os.devnull).st_ino
