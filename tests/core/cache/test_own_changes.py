"""What the collector itself removes is no sign that a store is in use; what others do is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kit.clocks import HOUR
from kit.faults import full_disk
from kit.inside import pause_for
from kit.os_seam import Call, watched
from kit.trees import Tree, blob, broken
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.cache.collector import PAUSE

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def quiet(tree: Tree) -> Tree:
    """A store in which nothing has happened for two hours, with two deleted models."""
    tree.add("kept", b"kept")
    for name in ("one", "two"):
        tree.add(name, name.encode())
        assert ModelCache(DiskStore(tree.root)).unlink(name)
    tree.add_blob(b"unneeded")
    return tree


def ahead(tree: Tree, hours: float = 2) -> ModelCache:
    """A cache so many hours later: in the time of the files, nothing has happened since."""
    return ModelCache(DiskStore(tree.root), clock=lambda: time.time() + hours * HOUR)


def used(tree: Tree) -> float:
    """When somebody else last let a blob come or go, as the store has it."""
    store = DiskStore(tree.root)
    changed = store.blobs_changed()
    since, until = store.own_changes()
    return min(since, changed) if changed < until else changed


def test_after_its_own_removal_a_prune_frees_at_once(quiet: Tree) -> None:
    """The time since when nobody else was at work stays as it is, over any number of runs."""
    before = used(quiet)
    time.sleep(0.02)
    assert ahead(quiet).forget("one").blobs == 1
    assert DiskStore(quiet.root).blobs_changed() > before
    assert used(quiet) == pytest.approx(before, abs=1e-6)
    assert ahead(quiet).prune().blobs == 0
    assert ahead(quiet, 24 * 8).prune(age="1h").blobs == 2
    assert used(quiet) == pytest.approx(before, abs=1e-6)
    assert broken(quiet.root) == []


def test_so_it_is_on_a_full_disk(quiet: Tree) -> None:
    """Where the folder with the note could not be made before there was room."""
    before = used(quiet)
    refuse, full = full_disk(), True

    def act(call: Call) -> None:
        nonlocal full
        full = full and not (call.name == "unlink" and "/blobs/" in call.path)
        if full:
            refuse(call)

    time.sleep(0.02)
    with watched(act):
        assert ahead(quiet).forget("one").blobs == 1
    assert DiskStore(quiet.root).blobs_changed() > before
    assert used(quiet) == pytest.approx(before, abs=1e-6)
    assert ahead(quiet).forget("two").blobs == 1


def test_a_second_run_does_not_wait_for_the_first(quiet: Tree) -> None:
    """It sets aside and removes, though the first has changed the blobs an instant ago."""
    cache = ModelCache(DiskStore(quiet.root), in_flight=0.5)
    time.sleep(0.6)  # since what the test itself has done
    assert cache.forget("one").blobs == 1
    assert cache.forget("two").blobs == 1
    assert broken(quiet.root) == []


def test_in_a_store_in_use_it_stays_in_use(quiet: Tree) -> None:
    """What was changed just now, by another, counts after the run as before it."""
    before = used(quiet)
    cache = ModelCache(DiskStore(quiet.root))
    assert cache.forget("one").held_blobs == 1
    assert used(quiet) == pytest.approx(before, abs=1e-6)
    assert cache.forget("two").held_blobs == 1


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_what_another_does_after_a_run_counts(quiet: Tree, pause: float) -> None:
    """However soon it comes."""
    assert ahead(quiet).forget("one").blobs == 1
    time.sleep(pause)
    (quiet.blobs / "sha256-temporary").touch()
    (quiet.blobs / "sha256-temporary").unlink()
    assert used(quiet) == DiskStore(quiet.root).blobs_changed()


def test_what_another_does_as_it_is_noted_counts(quiet: Tree) -> None:
    """Between the look and the note."""

    def meddle(call: Call) -> None:
        if call.path.endswith("condemned/."):
            (quiet.blobs / "sha256-temporary").touch()
            (quiet.blobs / "sha256-temporary").unlink()
            time.sleep(0.02)  # so that the note is later

    time.sleep(0.05)  # since what the test itself has done
    began = time.time() - 0.02
    with watched(meddle, ["utime"]):
        assert ahead(quiet).forget("one").blobs == 1
    assert used(quiet) >= began


def test_what_comes_and_goes_during_a_run_counts_for_the_next(quiet: Tree) -> None:
    """And what this run has set aside waits."""

    def progress(what: str, *_: object) -> None:
        if what == "waiting for pulls to show":
            when = (time.time() + 2 * HOUR,) * 2
            (quiet.blobs / "sha256-temporary").touch()
            (quiet.blobs / "sha256-temporary").unlink()
            os.utime(quiet.blobs, when)

    cache = ahead(quiet)
    cache.pause = 1e-6
    report = cache.forget("one", progress=progress)
    assert (report.models, report.blobs, report.held_blobs) == (1, 0, 1)
    assert ahead(quiet).forget("two").held_blobs == 1


def test_a_folder_that_others_may_not_date_is_no_error(quiet: Tree) -> None:
    """Then the store counts as in use for a while, as it did."""

    def refuse(call: Call) -> None:
        if call.path.endswith("condemned/."):
            raise PermissionError(1, "not yours", call.path)

    with watched(refuse, ["utime"]):
        assert ahead(quiet).forget("one").blobs == 1
    assert used(quiet) == DiskStore(quiet.root).blobs_changed()
    assert not Path(quiet.blobs / blob(b"one")).exists()


def test_only_where_time_goes_on_does_a_prune_pause(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the system, and not by another one, as in tests."""
    pause_for(monkeypatch, PAUSE)
    store = DiskStore(tree.root)
    assert ModelCache(store).pause == 2
    assert ModelCache(store, clock=lambda: 0.0).pause == 0
