"""
Rules 2 and 3: a download is one thing, and while one goes on nothing is set aside.

All times are in the future: there the clock of the cache is, and a file can be told to be of then,
but none to be older than it is.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import A_DAY, later
from kit.downloads import Download, age
from kit.os_seam import Call, watched
from kit.trees import Tree, blob
from registry_wsgi import DiskStore, ModelCache

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY
MINUTE = timedelta(minutes=1)


@pytest.fixture
def download(tree: Tree) -> Download:
    """A download that was stopped in the second of its four parts."""
    tree.add("keep", b"k")
    stopped = Download(tree.blobs, b"a blob in parts")
    stopped.start(1)
    assert len(stopped.files()) == 5
    return stopped


def aside(tree: Tree) -> list[Path]:
    """What is set aside, in whatever way."""
    return [path for path in tree.root.glob("condemned/**/*") if path.is_file()]


# Rule 2


@pytest.mark.parametrize("youngest", range(5))
@pytest.mark.parametrize("options", [{}, {"age": "1h"}, {"age": "1h", "all": True}])
def test_a_download_is_as_young_as_the_youngest_of_its_files(
    tree: Tree, download: Download, youngest: int, options: dict[str, Any]
) -> None:
    age(download.files()[youngest], -MONTH)
    for _ in range(2):
        later(tree.root, MONTH + 30 * MINUTE, in_flight="1m", hold="1m").prune(**options)
    assert len(download.files()) == 5
    assert download.resume()


@pytest.mark.parametrize("spelled", ["sha256:", "SHA256-", "sha256-"])
def test_it_is_one_thing_in_whatever_letters(tree: Tree, spelled: str) -> None:
    name = spelled + blob(b"x")[7:]
    content, part = (tree.blobs / f"{name}-partial{end}" for end in ("", "-0"))
    for path in (content, part):
        path.write_bytes(b"{}")
    tree.add("keep", b"k")
    age(content, -MONTH)
    later(tree.root, MONTH + 30 * MINUTE).prune(age="1h")
    assert part.exists()


def test_an_abandoned_download_goes_as_a_whole(tree: Tree, download: Download) -> None:
    report = later(tree.root, MONTH).prune()
    assert download.files() == []
    assert download.comes()
    assert report.blobs == 5


def test_an_abandoned_download_is_never_set_aside(tree: Tree, download: Download) -> None:
    other = Download(tree.blobs, b"another blob that comes")
    other.start(1)
    age(other.content, -MONTH)
    files = other.files()
    later(tree.root, MONTH + MINUTE).prune()
    assert aside(tree) == []
    assert other.files() == files


def test_one_that_is_resumed_during_a_prune_is_left(tree: Tree, download: Download) -> None:
    class Resumed(DiskStore):
        """A store whose download goes on while the manifests are read again."""

        def versions(self) -> Any:
            age(download.content, -MONTH)
            return super().versions()

    ModelCache(Resumed(tree.root), clock=lambda: time.time() + MONTH.total_seconds()).prune()
    assert len(download.files()) == 5


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("options", [{}, {"age": 0}])
def test_whenever_a_prune_is_killed_the_blob_can_be_downloaded(
    tree: Tree, options: dict[str, Any]
) -> None:
    tree.add("keep", b"k")
    for moment in count(1):
        calls = iter(range(moment))

        def hook(call: Call, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise Killed

        download = Download(tree.blobs, b"a blob in parts")
        download.start(2)
        try:
            with watched(hook):
                later(tree.root, MONTH).prune(**options)
        except Killed:
            assert download.comes(), f"killed before call {moment + 1}"
            download.place.unlink()
        else:
            break
        tidy(download)
    assert moment >= 5  # one removal for each of its files


def tidy(download: Download) -> None:
    for path in download.files():
        path.unlink()


TEMPORARY = [
    "COPY1234567",
    "projector-metadata1234567",
    "Q4_K_M1234567",
    "q8_01234567",
    "sha256-1234567",
    f"{blob(b'x')}.tmp",
    f"{blob(b'x')}-partial-3",
    "split-gguf-1234567/part.gguf",
    "../ollama-safetensors1234567/model.safetensors",
]


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_temporary_file_of_a_pull_or_create_is_a_pull_under_way(tree: Tree, name: str) -> None:
    tree.add("keep", b"k")
    left_over = tree.add_blob(b"left over")
    path = tree.blobs / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    age(path, -MONTH)
    for _ in range(2):
        later(tree.root, MONTH + MINUTE, hold="90d").prune(age="1d")
    assert path.exists()
    assert left_over.exists()
    assert aside(tree) == []


@pytest.mark.parametrize("name", TEMPORARY)
def test_it_is_nothing_foreign(tree: Tree, name: str) -> None:
    tree.add("keep", b"k")
    path = tree.blobs / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert later(tree.root).verify().problems == ()


# Rule 3


@pytest.mark.parametrize("retention", ["0", "90s", "7d"])
@pytest.mark.parametrize("options", [{}, {"age": "90s"}, {"age": "1d", "all": True}])
def test_nothing_is_set_aside_while_a_pull_shows(
    tree: Tree, download: Download, retention: str, options: dict[str, Any]
) -> None:
    left_over = tree.add_blob(b"left over")
    age(download.content, -7 * A_DAY - 30 * MINUTE)
    cache = later(tree.root, 7 * A_DAY + 31 * MINUTE, retention=retention, hold="9d")
    report = cache.prune(**options)
    assert left_over.exists()
    assert aside(tree) == []
    assert report.blobs == 0


def test_nothing_is_set_aside_after_a_delete_while_a_pull_shows(
    tree: Tree, download: Download
) -> None:
    """A retention of 0 says when a delete is final, and not that nobody pulls."""
    tree.add("gone", b"what the pull wants as well")
    age(download.content, -MONTH)
    cache = later(tree.root, MONTH + MINUTE, retention=0, hold="60d")
    cache.unlink("gone")
    cache.prune(deleted_only=True)
    assert later(tree.root).deleted() == []
    assert (tree.blobs / blob(b"what the pull wants as well")).exists()


def test_age_zero_says_that_the_store_is_quiet(tree: Tree, download: Download) -> None:
    left_over = tree.add_blob(b"left over")
    later(tree.root).prune(age=0)
    assert not left_over.exists()
    assert download.files() == []


def test_pulls_without_end_do_not_stop_collection(tree: Tree, download: Download) -> None:
    """What nothing has needed for the age and the hold goes all the same, in two phases."""
    left_over = tree.add_blob(b"left over")

    def prune(passed: timedelta) -> ModelCache:
        age(download.content, -passed)
        cache = later(tree.root, passed + MINUTE, hold="1d")
        cache.prune()
        return cache

    prune(7 * A_DAY + timedelta(hours=2))
    assert left_over.exists()
    prune(8 * A_DAY + timedelta(hours=2))
    prune(9 * A_DAY + timedelta(hours=3))
    prune(10 * A_DAY + timedelta(hours=4))
    assert not left_over.exists()
    assert aside(tree) == []
    assert len(download.files()) == 5


def test_a_dry_run_tells_the_same_while_a_pull_shows(tree: Tree, download: Download) -> None:
    tree.add_blob(b"left over")
    age(download.content, -7 * A_DAY)
    cache = later(tree.root, 7 * A_DAY + MINUTE, hold="1d")
    dry = cache.prune(dry_run=True)
    assert cache.prune() == dataclasses.replace(dry, dry_run=False)
