"""
Rules 1 to 3 of the collector, in the smallest stores in which they count.

Only what was read while nothing moved is evidence; a download is one thing; while a pull shows,
nothing is set aside. (More of them, on real file systems, are in ``tests/worlds``.)
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import A_DAY, later
from kit.downloads import Download, age
from kit.os_seam import Call, watched
from kit.trees import Tree, blob, broken, manifest
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.cache.collector.limits import Activity, Limits
from registry_wsgi.cache.downloads import download_of, is_temporary, removal_order
from registry_wsgi.errors import OutOfReachError
from registry_wsgi.stores.base import Condemned, Folder, Read

MONTH = 30 * A_DAY
MINUTE = timedelta(minutes=1)


# 1. Only what was read while nothing moved


class Restless(DiskStore):
    """
    A store in which another program renames a model just when a walk cannot see it.

    As Ollama renames: the manifest is copied, then the old one is removed. As soon as the walk has
    listed the models, it is under the one of the two names that has not been listed.
    """

    def __init__(self, tree: Tree, moves: float) -> None:
        super().__init__(tree.root)
        self.tree, self.moves = tree, moves
        self.at, self.other = "zz", "aa"

    def rename(self) -> None:
        """Rename it, and back the next time."""
        if self.moves <= 0:
            return
        self.moves -= 1
        here, there = self.tree.path(self.at), self.tree.path(self.other)
        there.parent.mkdir(exist_ok=True)
        shutil.copyfile(here, there)
        here.unlink()
        here.parent.rmdir()
        self.at, self.other = self.other, self.at

    def _missed(self, found: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        moved = self.moves > 0
        self.rename()
        for key, what in found:
            if not moved or f"/{self.at}/" not in key:
                yield key, what

    def read_all(self) -> Iterator[tuple[str, Read]]:
        """List the models, and miss the one that is renamed."""
        return self._missed(super().read_all())

    def versions(self) -> Iterator[tuple[str, Any]]:
        """List the models, and miss the one that is renamed."""
        return self._missed(super().versions())


@pytest.mark.parametrize("moves", [1, 2, 3, float("inf")])
@pytest.mark.parametrize("options", [{}, {"age": 0}], ids=str)
def test_a_model_that_is_renamed_meanwhile_keeps_its_blobs(
    tree: Tree, moves: float, options: dict[str, Any]
) -> None:
    """However often that happens, and whatever the age; its blobs do not even go aside."""
    tree.add("zz", b"weights")
    tree.add("keep", b"k")
    cache = ModelCache(Restless(tree, moves), clock=lambda: time.time() + MONTH.total_seconds())
    report = cache.prune(**options)
    assert broken(tree.root) == []
    assert report.unsettled == (moves == float("inf"))


def test_a_store_that_never_rests_says_so(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """What nothing needs stays for another run, a dry run says the same, and so does the log."""
    tree.add("zz", b"weights")
    left_over = tree.add_blob(b"left over")
    cache = ModelCache(
        Restless(tree, float("inf")), clock=lambda: time.time() + MONTH.total_seconds()
    )
    assert cache.prune(dry_run=True).unsettled
    report = cache.prune()
    assert (report.unsettled, report.blobs, left_over.exists()) == (True, 0, True)
    assert "prune again" in caplog.text
    assert later(tree.root, MONTH).prune().blobs == 1


def test_where_there_is_no_model_a_disk_may_be_missing(tree: Tree) -> None:
    """Blobs that nothing in the trash accounts for stop the sweep; the way out is age 0."""
    tree.add_blob(b"left over")
    cache = later(tree.root, MONTH)
    for options in ({}, {"dry_run": True}, {"age": "1d"}):
        with pytest.raises(OutOfReachError, match="--age 0"):
            cache.prune(**options)
    assert cache.prune(age=0).blobs == 1


def test_where_there_is_no_model_of_a_host_a_disk_may_be_missing(tree: Tree) -> None:
    """An empty folder of a host may be the place of a mount; one of a deleted model is not."""
    tree.add("hf.co/team/big/v1", b"weights")
    tree.add("keep", b"k")
    shutil.rmtree(tree.manifests / "hf.co" / "team")
    with pytest.raises(OutOfReachError, match=r"manifests/hf\.co: "):
        later(tree.root, MONTH).prune()
    tree.add("hf.co/team/big/v1", b"weights")
    assert later(tree.root).unlink("hf.co/team/big:v1")
    (tree.manifests / "hf.co").mkdir(exist_ok=True)
    assert later(tree.root, MONTH).prune().models == 1


def test_with_nothing_to_remove_no_model_is_missed(tree: Tree) -> None:
    """A store without models in which all blobs are young is left alone."""
    tree.add_blob(b"left over")
    assert later(tree.root).prune().blobs == 0


# 2. A download is one thing


@pytest.fixture
def download(tree: Tree) -> Download:
    """A download that was stopped in the second of its four parts."""
    tree.add("keep", b"k")
    stopped = Download(tree.blobs, b"a blob in parts")
    stopped.start(1)
    return stopped


def test_a_download_is_as_young_as_the_youngest_of_its_files(
    tree: Tree, download: Download
) -> None:
    """However old the others are; once all are old, all go, without being set aside."""
    files = download.files()
    age(files[2], -MONTH)
    later(tree.root, MONTH + timedelta(hours=2)).prune()
    assert download.files() == files
    assert later(tree.root, 2 * MONTH).prune().blobs == len(files)
    assert download.files() == []
    assert not any((tree.root / "condemned").iterdir())


class Killed(BaseException):
    """The process ends here."""


def test_a_download_can_go_on_wherever_a_prune_was_killed(tree: Tree) -> None:
    """Before each removal of a file: at most one more try is needed."""
    tree.add("keep", b"k")
    for moment in count():
        left = iter(range(moment))

        def hook(call: Call, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Killed

        download = Download(tree.blobs, b"a blob in parts")
        download.start(2)
        try:
            with watched(hook):
                later(tree.root, MONTH).prune()
        except Killed:
            assert download.comes(), moment
            download.place.unlink()
        else:
            break
        for path in download.files():
            path.unlink()
    assert moment >= 5


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "download"),
    [
        (f"sha256-{HEX}-partial", f"sha256-{HEX}"),
        (f"sha256:{HEX.upper()}-partial-12", f"sha256-{HEX}"),
        (f"sha256-{HEX}.tmp", f"sha256-{HEX}.tmp"),
        ("COPY123", "COPY123"),
        ("Q4_K_M123", "Q4_K_M123"),
        ("bf16123", "bf16123"),
        ("projector-metadata123", "projector-metadata123"),
        ("sha256-123", "sha256-123"),
        (f"sha256-{HEX}", None),
        ("notes.txt", None),
        ("quantized", None),
    ],
)
def test_a_file_belongs_to_a_download_or_to_none(name: str, download: str | None) -> None:
    """By its name; a blob belongs to none."""
    assert download_of(name) == download
    assert is_temporary(name) == (download is not None)


def test_the_content_goes_after_the_parts_and_those_from_the_last() -> None:
    """What is left at any moment is the first parts, or the content alone."""
    names = ["x-partial", "x-partial-0", "x-partial-2", "x-partial-10"]
    assert sorted(names, key=removal_order) == names[:0:-1] + names[:1]


# 3. While a pull shows


def test_while_a_pull_shows_nothing_is_set_aside(tree: Tree, download: Download) -> None:
    """But what nothing has needed for the age and the hold."""
    left_over = tree.add_blob(b"left over")
    for passed, there in ((7 * A_DAY + MINUTE, True), (8 * A_DAY + 2 * MINUTE, False)):
        age(download.content, -passed)
        report = later(tree.root, passed + MINUTE).prune()
        assert (left_over.exists(), report.blobs, report.held_blobs) == (there, 0, 1)


class PulledMeanwhile(DiskStore):
    """A store into which a pull begins when the first blob has just been set aside."""

    tree: Tree
    now: float

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        """Set aside; the pull downloads what it does not find, and uses what it finds."""
        for number, aside in enumerate(super().condemn(names, when)):
            yield aside
            if number == 0:
                content = {blob(data): data for data in (b"one", b"two")}[aside.name]
                path = self.tree.add_blob(content)
                os.utime(path, (self.now, self.now))


def test_a_pull_that_begins_while_blobs_are_set_aside_is_seen(tree: Tree) -> None:
    """What comes back to its place in that moment shows it: nothing aside is removed."""
    tree.add("keep", b"k")
    for data in (b"one", b"two"):
        tree.add_blob(data)
    store = PulledMeanwhile(tree.root)
    store.tree, store.now = tree, time.time() + MONTH.total_seconds()
    report = ModelCache(store, clock=lambda: store.now).prune()
    assert (report.blobs, report.held_blobs) == (0, 2)
    tree.write("new", manifest(b"one", b"two"))
    later(tree.root, MONTH).prune()
    assert broken(tree.root) == []


@pytest.mark.parametrize("place", ["blobs/split-gguf-1", "ollama-safetensors1/deep"])
def test_a_folder_of_a_conversion_shows_that_a_pull_shows(tree: Tree, place: str) -> None:
    """What is prepared there will be a blob, and uses others."""
    tree.add("keep", b"k")
    left_over = tree.add_blob(b"left over")
    path = tree.root / place / "part"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    age(path, -7 * A_DAY - MINUTE)
    later(tree.root, 7 * A_DAY + 2 * MINUTE).prune()
    assert left_over.exists()


@pytest.mark.parametrize("place", ["blobs/split-gguf-1", "ollama-safetensors1"])
def test_a_folder_of_a_create_that_was_killed_goes_when_it_is_old(tree: Tree, place: str) -> None:
    """It is as young as the youngest file in it; a link in it goes, and what it leads to stays."""
    tree.add("keep", b"k")
    tree.add("gone", b"g")
    assert later(tree.root).unlink("gone")
    folder = tree.root / place
    (folder / "deep").mkdir(parents=True)
    for name in ("old", "deep/young"):
        (folder / name).write_bytes(b"x" * 1000)
    (folder / "link").symlink_to(tree.blobs / blob(b"k"))
    assert later(tree.root, 7 * A_DAY - MINUTE).prune().bytes == 0
    assert folder.exists()
    cache = later(tree.root, 7 * A_DAY + MINUTE)
    assert cache.prune_deleted().models == 1
    assert folder.exists()
    report = cache.prune(dry_run=True)
    assert folder.exists()
    assert cache.prune() == replace(report, dry_run=False)
    assert not folder.exists()
    assert report.bytes >= 2000
    assert broken(tree.root) == []


def test_what_of_such_a_folder_cannot_be_removed_is_named(tree: Tree) -> None:
    """The rest goes, and the run says that it has failed."""
    tree.add("keep", b"k")
    left_over = tree.add_blob(b"left over")
    folder = tree.root / "ollama-safetensors1"
    folder.mkdir()
    (folder / "busy").write_bytes(b"x")

    def act(call: Call) -> None:
        if call.name == "unlink" and call.path.endswith("/busy"):
            raise call.error(errno.EACCES)

    with watched(act, ["unlink"]):
        report = later(tree.root, 8 * A_DAY).prune()
    assert report.failed == 1
    assert str(folder) in report.failures[0]
    assert not left_over.exists()


def limits(*, quiet: bool) -> Limits:
    """At the moment 1,000: an age of 100, in flight 10, a hold of 50 seconds."""
    return Limits(1_000.0, 0 if quiet else 100, 10, 50, quiet=quiet)


@pytest.mark.parametrize(
    ("quiet", "pull", "due"),
    [
        (True, True, float("inf")),
        (True, False, float("inf")),
        (False, False, 900),
        (False, True, 850),
    ],
)
def test_the_table_of_what_is_due_holds(quiet: bool, pull: bool, due: float) -> None:
    """Row by row."""
    assert limits(quiet=quiet).due(pull=pull) == due


WAITS: list[tuple[bool, bool, bool, bool, Callable[[float], bool]]] = [
    *(
        (hidden, True, pull, True, lambda _: False)
        for hidden in (True, False)
        for pull in (True, False)
    ),
    (True, False, True, True, lambda since: since + 50 > 1_000),
    (True, False, False, True, lambda since: since > 990),
    (True, False, False, False, lambda _: False),
    (False, False, True, False, lambda _: True),
    (False, False, False, False, lambda since: since + 50 > 1_000),
]


@pytest.mark.parametrize(("hidden", "quiet", "pull", "in_use", "waits"), WAITS)
@pytest.mark.parametrize("since", [900.0, 945.0, 955.0, 985.0, 995.0])
def test_the_table_of_what_waits_holds(
    *,
    hidden: bool,
    quiet: bool,
    pull: bool,
    in_use: bool,
    waits: Callable[[float], bool],
    since: float,
) -> None:
    """Row by row, for moments before and after the hold and the time in flight."""
    activity = Activity(in_use=in_use, pull=pull)
    assert limits(quiet=quiet).must_wait(since, activity, hidden=hidden) == waits(since)


def test_what_is_marked_in_this_run_waits_whatever_the_hold() -> None:
    """Where it stays in its place, a later run removes it."""
    times = Limits(1_000.0, 100, 10, 0)
    assert times.must_wait(1_000.0, Activity(), hidden=False)
    assert not times.must_wait(999.0, Activity(), hidden=False)


def test_an_empty_host_is_told_by_the_store(tmp_path: Path) -> None:
    """As the collector relies on it."""
    tree = Tree(tmp_path / "models")
    (tree.manifests / "hf.co").mkdir(parents=True)
    os.utime(tree.manifests, (1, 1))
    assert Folder("hf.co", None, empty=True) in [
        folder._replace(mark=None) for folder in DiskStore(tree.root).folders()
    ]
