"""The collector: what a prune removes, what it leaves, what it says, and what it costs."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import DAY, HOUR, OLD, Clock, dated
from kit.faults import full_disk, without_links
from kit.os_seam import Seam
from kit.scenes import DiskScene, MemoryScene, Scene, full
from kit.steps import watched_steps
from kit.trees import HOST, blob, digest, fingerprint, layer, manifest, upper
from registry_wsgi import ModelCache
from registry_wsgi.cache.collector import PruneReport, Removed
from registry_wsgi.cache.collector.progress import counted
from registry_wsgi.errors import (
    InvalidDurationError,
    InvalidManifestError,
    ModelNotFoundError,
    NoRoomError,
    StoreError,
)

QUIET = PruneReport()  # of a run that had nothing to do


@pytest.fixture
def disk(tmp_path: Path) -> DiskScene:
    """An empty store on disk."""
    return DiskScene(tmp_path / "models")


@pytest.fixture(params=["disk", "memory"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """An empty store of each kind."""
    return DiskScene(tmp_path / "models") if request.param == "disk" else MemoryScene()


# The table


def furnish(scene: Scene) -> None:
    """Models, deleted models, unreferenced blobs and unfinished downloads of several ages."""
    scene.blob(b"shared")  # by models of each kind
    scene.model("fresh", b"shared", b"fresh's", age=2 * HOUR)
    scene.model("week", b"shared", b"week's", age=8 * DAY)
    scene.model("month", b"shared", b"month's", b"both old", age=40 * DAY)
    scene.model("other.com/ns/month/tag", b"both old", b"another's", age=41 * DAY)
    scene.deleted("late", b"shared", b"late's", b"both deleted", ago=DAY)
    scene.deleted("lost", b"shared", b"lost's!", b"both deleted", ago=8 * DAY)
    scene.blob(b"nobody's, old", age=20 * DAY)
    scene.blob(b"nobody's, 3 days", age=3 * DAY)
    scene.blob(b"nobody's, new", age=2 * HOUR)
    scene.partial(b"half, old", age=20 * DAY)
    scene.partial(b"half, new", age=2 * HOUR)
    scene.put_blob("notes.txt", b"else, old", age=20 * DAY)


ALL_BLOBS = {
    *(b"shared", b"fresh's", b"week's", b"month's", b"both old", b"another's", b"late's", b"{}"),
    *(b"both deleted", b"lost's!", b"nobody's, old", b"nobody's, 3 days", b"nobody's, new"),
    *(b"half, old", b"half, new", b"else, old"),
}
OLD_REST = {b"lost's!", b"nobody's, old", b"half, old", b"else, old"}
OLD_MODELS = {b"week's", b"month's", b"both old", b"another's"}
NEW_REST = {b"late's", b"both deleted", b"nobody's, 3 days", b"nobody's, new", b"half, new"}
ROWS: list[tuple[dict[str, Any], set[bytes], dict[str, tuple[int, set[bytes]]]]] = [
    (
        {},
        OLD_REST,
        {
            "expired": (1, {b"lost's!"}),
            "partial": (0, {b"half, old", b"else, old"}),
            "unreferenced": (0, {b"nobody's, old"}),
        },
    ),
    (
        {"age": "2d"},
        OLD_REST | {b"nobody's, 3 days"},
        {
            "expired": (1, {b"lost's!"}),
            "partial": (0, {b"half, old", b"else, old"}),
            "unreferenced": (0, {b"nobody's, old", b"nobody's, 3 days"}),
        },
    ),
    (
        {"age": timedelta(days=30)},
        set(),
        {},
    ),
    (
        {"age": 0},
        OLD_REST | NEW_REST,
        {
            "expired": (2, {b"lost's!", b"late's", b"both deleted"}),
            "partial": (0, {b"half, old", b"else, old", b"half, new"}),
            "unreferenced": (0, {b"nobody's, old", b"nobody's, 3 days", b"nobody's, new"}),
        },
    ),
    (
        {"age": "7d", "all": True},
        OLD_REST | OLD_MODELS,
        {
            "all": (3, OLD_MODELS),
            "expired": (1, {b"lost's!"}),
            "partial": (0, {b"half, old", b"else, old"}),
            "unreferenced": (0, {b"nobody's, old"}),
        },
    ),
    (
        {"age": "30d", "all": True},
        {b"month's", b"both old", b"another's"},
        {"all": (2, {b"month's", b"both old", b"another's"})},
    ),
    (
        {"age": 0, "all": True},
        ALL_BLOBS,
        {
            "all": (4, OLD_MODELS | {b"fresh's"}),
            # What a deleted model needed too is counted there.
            "expired": (2, {b"lost's!", b"late's", b"both deleted", b"shared", b"{}"}),
            "partial": (0, {b"half, old", b"else, old", b"half, new"}),
            "unreferenced": (0, {b"nobody's, old", b"nobody's, 3 days", b"nobody's, new"}),
        },
    ),
]


@pytest.mark.parametrize(("options", "gone", "reasons"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_the_table_holds(
    scene: Scene,
    options: dict[str, Any],
    gone: set[bytes],
    reasons: dict[str, tuple[int, set[bytes]]],
) -> None:
    """Each call removes what the table says, nothing else, and reports it by reason."""
    furnish(scene)
    report = scene.prune(**options)
    assert scene.kept() == ALL_BLOBS - gone
    assert not scene.aside()
    assert report.reasons == {
        reason: Removed(models, len(blobs), sum(map(len, blobs)))
        for reason, (models, blobs) in reasons.items()
    }
    assert report.models == sum(models for models, _ in reasons.values())
    assert (report.blobs, report.bytes) == (len(gone), sum(map(len, gone)))
    assert (report.held_blobs, report.held_bytes, report.held_until) == (0, 0, None)
    assert scene.prune(**options) == QUIET


@pytest.mark.parametrize(
    ("options", "models", "trash"),
    [
        ({}, {"fresh", "week", "month", "other.com/ns/month/tag"}, {"late"}),
        ({"age": "30d"}, {"fresh", "week", "month", "other.com/ns/month/tag"}, {"late", "lost"}),
        ({"age": 0}, {"fresh", "week", "month", "other.com/ns/month/tag"}, set()),
        ({"age": "7d", "all": True}, {"fresh"}, {"late"}),
        ({"age": "30d", "all": True}, {"fresh", "week"}, {"late", "lost"}),
        ({"age": 0, "all": True}, set(), set()),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_the_models_of_the_table_stay_whole(
    scene: Scene, options: dict[str, Any], models: set[str], trash: set[str]
) -> None:
    """What the table leaves is listed or can be restored, with all its blobs."""
    furnish(scene)
    scene.prune(**options)
    assert scene.models() == models
    assert scene.trash() == trash
    for key in trash:
        scene.cache.restore(key)
    assert scene.models() == models | trash
    assert scene.broken() == []


def test_everything_is_everything(disk: DiskScene) -> None:
    """After `prune --age 0 --all` no file is left, but for the history."""
    furnish(disk)
    disk.prune(age=0, all=True)
    left = [path.name for path in disk.tree.root.rglob("*") if not path.is_dir()]
    assert left == ["history.jsonl"]


@pytest.mark.parametrize("age", [-1, "7", "x", float("nan"), timedelta(days=-1)])
def test_an_age_that_is_none_removes_nothing(scene: Scene, age: Any) -> None:
    """A negative or unreadable age is an error."""
    furnish(scene)
    with pytest.raises(InvalidDurationError):
        scene.cache.prune(age=age)
    assert scene.kept() == ALL_BLOBS


def test_an_empty_store_has_nothing_to_prune(scene: Scene) -> None:
    """A store without models and blobs is no error."""
    assert scene.prune() == scene.prune(age=0, all=True) == QUIET


def test_a_store_without_a_blobs_directory_has_nothing_to_prune(disk: DiskScene) -> None:
    """Where there is no `blobs` directory, there is none to remove."""
    disk.tree.blobs.rmdir()
    assert disk.prune(age=0) == QUIET
    assert not disk.tree.blobs.exists()


def test_what_two_deleted_models_need_goes_with_the_last(scene: Scene) -> None:
    """A blob of two deleted models stays until the younger delete has expired too."""
    scene.deleted("first", b"both", b"first's", ago=10 * DAY)
    scene.deleted("second", b"both", b"second's", ago=5 * DAY)
    assert scene.prune().bytes == len(b"first's")
    assert scene.kept() == {b"both", b"second's", b"{}"}
    scene.clock.now += 3 * DAY
    assert scene.prune().bytes == len(b"both" + b"second's" + b"{}")
    assert scene.kept() == set()


def test_what_was_downloaded_again_is_young(scene: Scene) -> None:
    """A blob of a deleted model that a pull has fetched again outlives the deleted model."""
    scene.inhabit()
    scene.deleted("gone", b"weights", ago=8 * DAY)
    scene.blob(b"weights", age=2 * HOUR)
    scene.prune()
    assert scene.trash() == set()
    assert scene.kept() == {b"weights"}
    scene.clock.now += 7 * DAY
    scene.prune()
    assert scene.kept() == set()


def test_a_model_pulled_again_keeps_the_blobs_of_the_deleted_one(scene: Scene) -> None:
    """What a deleted model needed stays for a listed one of the same name."""
    scene.deleted("smol", b"weights", b"template", ago=8 * DAY)
    scene.model("smol", b"weights")
    report = scene.prune()
    assert (report.models, report.blobs, report.bytes) == (1, 1, len(b"template"))
    assert scene.broken() == []


# Bytes


def test_a_blob_with_another_name_elsewhere_frees_nothing(disk: DiskScene, tmp_path: Path) -> None:
    """Content that has a hard link outside of the store goes, and no byte is free for it."""
    disk.inhabit()
    disk.blob(b"linked")
    disk.blob(b"single")
    os.link(disk.tree.blobs / blob(b"linked"), tmp_path / "outside")
    report = disk.prune()
    assert (report.blobs, report.bytes) == (2, len(b"single"))
    assert (tmp_path / "outside").read_bytes() == b"linked"


def test_two_names_of_one_content_count_once(disk: DiskScene) -> None:
    """Two blobs that are hard links to each other are two blobs, and their bytes count once."""
    disk.inhabit()
    disk.blob(b"weights")
    path = disk.tree.blobs / blob(b"weights")
    os.link(path, path.with_name(upper(b"weights").replace(":", "-")))
    report = disk.prune()
    assert report.reasons == {"unreferenced": Removed(0, 2, len(b"weights"))}


def test_one_of_two_names_frees_nothing(disk: DiskScene) -> None:
    """When one of two hard links goes, nothing is free."""
    disk.model("smol", b"weights")
    path = disk.tree.blobs / blob(b"weights")
    os.link(path, path.with_name(f"{path.name}-partial"))
    report = disk.prune()
    assert report.reasons == {"partial": Removed(0, 1, 0)}
    assert disk.broken() == []


def test_what_only_the_trash_had_counts(disk: DiskScene) -> None:
    """Blobs that another program has removed from `blobs/` are free when the trash lets go."""
    disk.deleted("one", b"both", b"one's", ago=9 * DAY)
    disk.deleted("two", b"both", ago=8 * DAY)
    for path in disk.tree.blobs.iterdir():
        path.unlink()
    report = disk.prune()
    assert report.reasons == {"expired": Removed(2, 3, len(b"both" + b"one's" + b"{}"))}
    assert disk.prune() == QUIET


def test_what_the_younger_trash_still_has_is_not_free(disk: DiskScene) -> None:
    """As long as one entry of the trash has the content, its bytes are not counted."""
    disk.deleted("one", b"both", b"one's", ago=9 * DAY)
    disk.deleted("two", b"both", ago=6 * DAY)
    for path in disk.tree.blobs.iterdir():
        path.unlink()
    assert disk.prune() == PruneReport(1, 1, 5, reasons={"expired": Removed(1, 1, 5)})
    disk.clock.now += 2 * DAY
    assert disk.prune().reasons == {"expired": Removed(1, 2, len(b"both" + b"{}"))}


def test_without_hard_links_the_same_goes(disk: DiskScene) -> None:
    """On a file system without hard links the table and the bytes are the same."""
    with Seam(disk.tree.root, without_links):
        furnish(disk)
        report = disk.prune()
    assert disk.kept() == ALL_BLOBS - OLD_REST
    assert report.bytes == sum(map(len, OLD_REST))
    disk.cache.restore("late")
    assert disk.broken() == []


def test_content_aside_under_several_names_counts_once(disk: DiskScene) -> None:
    """Content that killed runs have left aside twice, and that the trash has too, counts once."""
    disk.deleted("gone", b"weights", ago=8 * DAY)
    store, name = disk.store, blob(b"weights")
    (first,) = store.condemn([name], disk.clock() - 2 * HOUR)
    # Killed while it put the blob back, and another run set the second name aside again.
    os.link(disk.tree.root / "condemned" / first.id / name, disk.tree.blobs / name)
    list(store.condemn([name], disk.clock() - HOUR))
    report = disk.prune()
    assert report.bytes == len(b"weights" + b"{}")


# A manifest that cannot be read


UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "truncated": manifest(b"needed")[:-30],
    "zeros": b"\0" * 300,
    "no object": b"[]",
    "no layers": b"{}",
    "no digest": json.dumps({"layers": [{"size": 5}]}).encode(),
    "hostile digest": json.dumps({"layers": [layer("sha256:../../../secret", 6)]}).encode(),
    "hostile name": json.dumps({"layers": [layer("sha256-" + "../" * 21 + "x", 6)]}).encode(),
    "other algorithm": json.dumps({"layers": [layer("sha512:" + "0" * 128, 6)]}).encode(),
    "list of manifests": json.dumps({"layers": [], "manifests": [layer("", 5)]}).encode(),
}


@pytest.mark.parametrize("options", [{}, {"age": 0}, {"age": "1h", "all": True}], ids=str)
@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_manifest_stops_the_run(
    scene: Scene, case: str, options: dict[str, Any]
) -> None:
    """Nothing is touched, the error names the file, and deleting that model is the way out."""
    furnish(scene)
    scene.put_manifest(full("half"), UNREADABLE[case])
    before = scene.snapshot()
    for dry_run in (True, False):
        with pytest.raises(InvalidManifestError, match=f"manifests/{full('half')}: not a manifest"):
            scene.cache.prune(**options, dry_run=dry_run)
    assert scene.snapshot() == before
    assert scene.cache.unlink("half")
    scene.prune(**options)
    assert not scene.kept() & OLD_REST
    assert scene.broken() == []


def test_a_deleted_unreadable_manifest_keeps_what_it_mentions(scene: Scene) -> None:
    """In the trash, it keeps every blob whose digest stands in it until it has expired."""
    scene.blob(b"needed")
    scene.put_manifest(full("half"), manifest(b"needed")[:-2])
    scene.cache.unlink("half")
    assert scene.prune() == QUIET
    scene.clock.now += 8 * DAY
    scene.prune()
    assert scene.kept() == set()


def test_a_huge_manifest_stops_the_run(disk: DiskScene) -> None:
    """A file too large to be a manifest is not read, and stops the run."""
    disk.blob(b"weights")
    path = disk.tree.write("huge", b"")
    os.truncate(path, 1 << 40)
    before = disk.snapshot()
    with pytest.raises(InvalidManifestError, match="huge/latest"):
        disk.cache.prune(age=0)
    assert disk.snapshot() == before
    assert disk.cache.unlink("huge")
    assert disk.prune(age=0).blobs == 1


def test_an_unreadable_manifest_that_is_old_goes_with_all(scene: Scene) -> None:
    """`--all` removes it as it removes every model of that age."""
    scene.put_manifest(full("half"), manifest(b"half's")[:-30], age=8 * DAY)
    scene.blob(b"half's")
    scene.model("new", b"new's", age=HOUR)
    assert scene.prune(age="7d", all=True).models == 1
    assert scene.models() == {"new"}
    assert scene.kept() == {b"new's", b"{}"}


def test_a_manifest_that_turns_unreadable_puts_all_back(scene: Scene) -> None:
    """When one cannot be read the second time, what was set aside is back before the error."""
    furnish(scene)

    def event(step: str, _: object) -> None:
        if step == "condemn done":
            scene.put_manifest(full("half"), b"{")

    cache = ModelCache(watched_steps(scene.store, event), clock=scene.clock)
    with pytest.raises(InvalidManifestError, match="half/latest"):
        cache.prune(age=0)
    assert scene.kept() == ALL_BLOBS
    assert not scene.aside()


# What is no manifest


def clutter(disk: DiskScene) -> dict[str, str]:
    """Put what is no manifest among the manifests; names it as the warning does."""
    top = disk.tree.manifests
    model = top / HOST / "library" / "smol"
    for name in (".DS_Store", ".latest.swp", "latest~", "#latest#"):
        (model / name).write_bytes(b"\0\1Bud1")
        disk.date(model / name, OLD)
    for folder in (top, top / HOST, top / HOST / "library"):
        (folder / ".DS_Store").write_bytes(b"\0\1Bud1")
    (model / "folder").mkdir()
    (model / "folder" / "file").write_bytes(b"x")
    (model / ".dangling").symlink_to("nowhere")
    (model / "loop~").symlink_to("loop~")
    os.mkfifo(model / "fifo")
    (top / HOST / ".#dangling").symlink_to("nowhere")
    (top / HOST / ".#loop").symlink_to(".#loop")
    return {
        path.relative_to(disk.tree.root).as_posix(): path.name
        for path in (
            *(model / name for name in (".DS_Store", ".latest.swp", "latest~", "#latest#")),
            *(folder / ".DS_Store" for folder in (top, top / HOST, top / HOST / "library")),
            *(model / name for name in ("folder", ".dangling", "loop~", "fifo")),
            *(top / HOST / name for name in (".#dangling", ".#loop")),
        )
    }


@pytest.mark.parametrize("options", [{}, {"age": 0}], ids=str)
def test_what_is_no_manifest_is_skipped(
    disk: DiskScene, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Files that others leave among manifests are named in a warning, and hinder nothing."""
    disk.model("smol", b"weights")
    disk.blob(b"nobody's")
    paths = clutter(disk)
    before = {path: path.lstat() for path in disk.tree.manifests.rglob("*")}
    report = disk.cache.prune(**options)
    assert report.reasons == {"unreferenced": Removed(0, 1, len(b"nobody's"))}
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    for path in paths:
        assert any(path in message and "skipped" in message for message in messages), path
    after = {path: path.lstat() for path in disk.tree.manifests.rglob("*")}
    assert [s.st_mtime_ns for s in after.values()] == [s.st_mtime_ns for s in before.values()]
    assert disk.prune() == QUIET


@pytest.mark.parametrize("age", ["7d", 0])
def test_what_is_no_manifest_outlives_all(disk: DiskScene, age: Any) -> None:
    """`--all` removes models, and neither counts nor removes what is none."""
    disk.model("smol", b"weights")
    clutter(disk)
    report = disk.prune(age=age, all=True)
    assert report.models == 1
    left = {path.name for path in disk.tree.manifests.rglob("*") if not path.is_dir()}
    assert left >= {".DS_Store", ".latest.swp", "latest~", "#latest#"}


def test_what_is_no_manifest_keeps_the_blobs_it_names(disk: DiskScene) -> None:
    """A manifest under a name that is none keeps its blobs: who knows what reads it."""
    disk.model(f"{HOST}/library/smol/.hidden", b"weights")
    disk.tree.write(f"{HOST}/library/smol/.half", manifest(b"half's")[:-2])
    disk.blob(b"half's")
    assert disk.prune(age=0) == QUIET
    assert disk.kept() == {b"weights", b"half's", b"{}"}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_among_the_blobs_stays(disk: DiskScene, make: Callable[..., None]) -> None:
    """A directory or a pipe among the blobs is neither removed nor waited for."""
    make(disk.tree.blobs / blob(b"weights"))
    assert disk.prune(age=0) == QUIET
    assert (disk.tree.blobs / blob(b"weights")).exists()


@pytest.mark.parametrize("options", [{}, {"age": 0}, {"age": 0, "all": True}], ids=str)
def test_without_a_manifests_directory_nothing_goes(
    disk: DiskScene, options: dict[str, Any]
) -> None:
    """Where nobody knows which blobs are needed, the error says so and none is removed."""
    disk.blob(b"weights")
    disk.deleted("gone", b"gone's", ago=8 * DAY)
    disk.tree.manifests.rename(disk.tree.root / "elsewhere")
    before = disk.snapshot()
    for dry_run in (True, False):
        with pytest.raises(StoreError, match=r"manifests: no such directory"):
            disk.cache.prune(**options, dry_run=dry_run)
    assert disk.snapshot() == before


def test_a_newer_layout_is_not_pruned(disk: DiskScene) -> None:
    """With models in `manifests-v2` nothing is removed, and the error says why."""
    disk.blob(b"weights")
    disk.deleted("gone", b"gone's", ago=8 * DAY)
    newer = disk.tree.root / "manifests-v2"
    newer.mkdir()
    (newer / "model").touch()
    before = disk.snapshot()
    with pytest.raises(StoreError, match="manifests-v2"):
        disk.cache.prune(age=0)
    assert disk.snapshot() == before
    (newer / "model").unlink()
    assert disk.prune(age=0).models == 1


# Identity


def written(data: bytes, style: str) -> str:
    """The digest of *data* in one of the ways to write it."""
    text = upper(data) if "upper" in style else digest(data)
    return text.replace(":", "-") if "hyphen" in style else text


@pytest.mark.parametrize("file", ["lower", "upper"])
@pytest.mark.parametrize("style", ["colon", "hyphen", "colon, upper", "hyphen, upper"])
def test_a_digest_is_compared_in_one_form(scene: Scene, style: str, file: str) -> None:
    """However the manifest and the file name write it, the blob is needed."""
    name = written(b"weights", f"hyphen, {file}")
    scene.put_blob(name, b"weights", age=OLD)
    text = json.dumps({"layers": [layer(written(b"weights", style), 7)]})
    scene.put_manifest(full("smol"), text.encode(), age=OLD)
    assert scene.prune(age=0) == QUIET
    assert scene.kept() == {b"weights"}
    # So it is while the model is deleted, and when it has expired it goes.
    scene.cache.unlink("smol")
    assert scene.prune() == QUIET
    scene.clock.now += 8 * DAY
    assert scene.prune().reasons == {"expired": Removed(1, 1, 7)}
    assert scene.kept() == set()


@pytest.mark.parametrize("style", ["colon", "colon, upper"])
def test_a_blob_with_an_upper_case_name_can_be_restored(disk: DiskScene, style: str) -> None:
    """A model whose blob has an upper-case name comes back whole, even from the trash alone."""
    name = written(b"weights", "hyphen, upper")
    disk.put_blob(name, b"weights", age=OLD)
    text = json.dumps({"layers": [layer(written(b"weights", style), 7)]})
    disk.put_manifest(full("smol"), text.encode(), age=OLD)
    disk.cache.unlink("smol")
    (disk.tree.blobs / name).unlink()
    assert disk.prune() == QUIET
    disk.cache.restore("smol")
    assert disk.kept() == {b"weights"}
    assert disk.prune(age=0) == QUIET


def test_a_blob_aside_with_an_upper_case_name_is_put_back(scene: Scene) -> None:
    """What is aside under an upper-case name comes back for a manifest in lower case."""
    name = written(b"weights", "hyphen, upper")
    scene.put_blob(name, b"weights", age=OLD)
    list(scene.store.condemn([name], scene.clock() - HOUR))
    text = json.dumps({"layers": [layer(digest(b"weights"), 7)]})
    scene.put_manifest(full("smol"), text.encode(), age=OLD)
    scene.prune(age=0)
    assert (scene.kept(), scene.aside()) == ({b"weights"}, set())


def test_a_config_may_be_a_layer_too(scene: Scene) -> None:
    """A blob that is layer and config at once is one blob."""
    scene.model("smol", b"same", config=b"same")
    assert scene.prune(age=0) == QUIET
    scene.cache.unlink("smol")
    assert scene.prune(age=0).reasons == {"expired": Removed(1, 1, 4)}


def test_a_blob_is_shared_across_hosts_and_namespaces(scene: Scene) -> None:
    """A blob stays for as long as a model of any host and namespace needs it."""
    keys = ["smol", "other.com/library/smol/latest", f"{HOST}/ns/smol/latest", "a/b/c/d"]
    for key in keys:
        scene.model(key, b"weights")
    for key in keys[:-1]:
        scene.cache.unlink(key if "/" not in key else key.removesuffix("/latest"))
        assert scene.prune(age=0).blobs == 0
        assert scene.broken() == []
    scene.cache.unlink("a/b/c:d")
    assert scene.prune(age=0).blobs == 2


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_blob_that_is_a_link_goes_alone(disk: DiskScene, tmp_path: Path, relative: bool) -> None:
    """Of a blob that is a symbolic link the link goes, and its target outside is not touched."""
    outside = tmp_path / "outside"
    for data in (b"weights", b"nobody's"):
        outside.mkdir(exist_ok=True)
        target = outside / blob(data)
        target.write_bytes(data)
        disk.date(target, OLD)
        link = disk.tree.blobs / blob(data)
        link.symlink_to(os.path.relpath(target, link.parent) if relative else target)
        disk.date(link, OLD)
    disk.put_manifest(full("smol"), manifest(b"weights", config=b"weights"), age=OLD)
    before = fingerprint(outside)
    report = disk.prune()
    assert report.reasons == {"unreferenced": Removed(0, 1, 0)}
    assert disk.kept() == {b"weights"}
    assert disk.broken() == []
    assert not disk.aside()
    assert fingerprint(outside) == before


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_link_aside_is_put_back(disk: DiskScene, tmp_path: Path, relative: bool) -> None:
    """A blob that is a symbolic link leads to its content again when it is put back."""
    target = tmp_path / "weights"
    target.write_bytes(b"weights")
    link = disk.tree.blobs / blob(b"weights")
    link.symlink_to("../../weights" if relative else target)
    list(disk.store.condemn([link.name], disk.clock() - HOUR))
    disk.put_manifest(full("smol"), manifest(b"weights", config=b"weights"), age=OLD)
    disk.prune()
    assert disk.broken() == []
    assert link.is_symlink()


def test_a_blob_that_leads_nowhere_stays(disk: DiskScene) -> None:
    """A dangling link among the blobs has no age and no content, and is left."""
    (disk.tree.blobs / blob(b"weights")).symlink_to("/nonexistent/weights")
    assert disk.prune(age=0) == QUIET
    assert (disk.tree.blobs / blob(b"weights")).is_symlink()


def test_a_hostile_digest_reaches_nothing(disk: DiskScene, tmp_path: Path) -> None:
    """A digest that is a path touches no file, be its model listed, deleted or expired."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    for digest_ in ("sha256:../../secret", "../../secret", str(secret)):
        text = json.dumps({"layers": [layer(digest_, 6)], "config": layer(digest_, 6)})
        disk.put_manifest(full("evil"), text.encode())
        with pytest.raises(InvalidManifestError):
            disk.cache.prune(age=0)
        assert disk.cache.unlink("evil")
        with pytest.raises(InvalidManifestError):
            disk.cache.restore("evil")
        assert disk.prune(age=0).models == 1
    assert secret.read_bytes() == b"secret"
    assert secret.lstat().st_nlink == 1


# Time


def test_the_future_is_young(scene: Scene) -> None:
    """What another clock has dated in the future stays until that has passed, or at age 0 goes."""
    scene.inhabit()
    scene.blob(b"nobody's", age=-OLD)
    scene.blob(b"other's", age=-400 * DAY)
    scene.model("smol", b"weights", age=-OLD)
    assert scene.prune(age="1s", all=True) == QUIET
    scene.clock.now += OLD + 8 * DAY
    report = scene.prune(all=True)
    assert report.models == 1
    # The blob that is dated later still looks like a pull, so the rest waits for the hold at most.
    assert (report.blobs, report.held_blobs) == (0, 3)
    scene.clock.now += DAY
    assert scene.prune().blobs == 3
    assert scene.kept() == {b"other's"}
    assert scene.prune(age=0).blobs == 1


def test_all_at_age_0_removes_models_of_the_future(scene: Scene) -> None:
    """Everything is everything, whatever its date."""
    scene.model("smol", b"weights", age=-OLD)
    with scene.clock.ago(-OLD):
        scene.cache.unlink("smol")
    scene.model("other", b"other's", age=-OLD)
    report = scene.prune(age=0, all=True)
    assert (report.models, report.blobs) == (2, 3)
    assert scene.kept() == set()


def test_a_blob_copied_with_its_times_is_young(tmp_path: Path) -> None:
    """A file that was put here just now counts from now, even if its last write is years back."""
    disk = DiskScene(tmp_path / "models", Clock())
    disk.model("smol", b"weights", age=730 * DAY)
    disk.blob(b"nobody's", age=730 * DAY)
    disk.partial(b"half", age=730 * DAY)
    disk.clock.now += 2 * HOUR
    assert disk.prune(age="1d", all=True) == QUIET
    disk.clock.now += DAY
    report = disk.prune(age="1d", all=True)
    assert (report.models, report.blobs) == (1, 4)


def test_a_blob_just_linked_is_young(tmp_path: Path) -> None:
    """A blob that was put in place by a hard link counts from then."""
    disk = DiskScene(tmp_path / "models", Clock())
    disk.inhabit()
    other = tmp_path / "weights"
    other.write_bytes(b"weights")
    disk.date(other, 730 * DAY)
    os.link(other, disk.tree.blobs / blob(b"weights"))
    disk.clock.now += 2 * HOUR
    assert disk.prune(age="1d") == QUIET


def test_what_was_deleted_is_judged_by_its_writes(tmp_path: Path) -> None:
    """The links that a delete makes and a prune removes do not make an expired blob young."""
    disk = DiskScene(tmp_path / "models", Clock())
    disk.deleted("one", b"both", b"one's", ago=9 * DAY)
    disk.deleted("two", b"both", ago=8 * DAY)
    disk.clock.now += 2 * HOUR
    assert disk.prune().blobs == 3
    assert disk.kept() == set()


def test_a_link_becomes_young_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbolic link made just now counts from now, whatever the age of its target."""
    disk = DiskScene(tmp_path / "models", Clock(time.time() + 2 * HOUR))
    disk.inhabit()
    target = tmp_path / "weights"
    target.write_bytes(b"weights")
    (disk.tree.blobs / blob(b"weights")).symlink_to(target)
    stat = os.stat

    def old_target(path: Any, **options: Any) -> os.stat_result:
        return dated(stat(path, **options), 1_000_000)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", old_target)
        assert disk.cache.prune(age="3h") == QUIET
        assert disk.cache.prune(age="1h").blobs == 1


def test_a_clock_set_back_removes_nothing_early(scene: Scene) -> None:
    """With the clock back in the past, all that is dated later is young."""
    furnish(scene)
    with scene.clock.ago(60 * DAY):
        assert scene.prune() == QUIET
        assert scene.prune(age="1d", all=True) == QUIET
        with scene.clock.ago(-60 * DAY):
            assert scene.prune().models == 1


def test_what_is_aside_survives_a_clock_set_back(scene: Scene) -> None:
    """What waits for a pull waits on when the clock is set back, and comes back when needed."""
    scene.inhabit()
    scene.blob(b"weights")
    scene.partial(b"half", age=0)
    assert scene.prune().held_blobs == 1
    with scene.clock.ago(60 * DAY):
        assert scene.prune().held_blobs == 1
        scene.put_manifest(full("smol"), manifest(b"weights", config=b"weights"))
        scene.prune()
        assert scene.broken() == []


# Pulls under way


def test_a_growing_download_holds_back(scene: Scene) -> None:
    """While a partial file has just changed, what would go is set aside, and goes once it rests."""
    scene.inhabit()
    scene.blob(b"nobody's")
    scene.partial(b"half", age=HOUR - 1)
    report = scene.prune()
    assert report == PruneReport(
        held_blobs=1,
        held_bytes=len(b"nobody's"),
        held_until=datetime.fromtimestamp(scene.clock() + DAY, UTC),
    )
    assert (scene.kept(), scene.aside()) == ({b"half"}, {blob(b"nobody's")})
    assert scene.prune().held_blobs == 1
    scene.clock.now += HOUR
    assert scene.prune().reasons == {"unreferenced": Removed(0, 1, len(b"nobody's"))}
    assert (scene.kept(), scene.aside()) == ({b"half"}, set())


def test_a_blob_that_just_came_holds_back(scene: Scene) -> None:
    """An unreferenced blob that has just changed may be half of a pull."""
    scene.inhabit()
    scene.blob(b"nobody's")
    scene.blob(b"first half", age=10)
    assert scene.prune().held_blobs == 1
    # The pull has ended.
    scene.put_manifest(full("smol"), manifest(b"first half", config=b"first half"))
    scene.clock.now += HOUR
    assert scene.prune().blobs == 1
    assert scene.kept() == {b"first half"}


def test_a_store_in_use_holds_back(scene: Scene) -> None:
    """
    Where blobs came or went of late, a pull may be about to begin that nothing shows yet.

    So what is set aside stays there until such a pull would show. Then only a pull holds it back.
    """
    scene.inhabit()
    scene.blob(b"nobody's")
    scene.use(age=HOUR - 1)
    report = scene.prune()
    assert (report.blobs, report.held_blobs, scene.aside()) == (0, 1, {blob(b"nobody's")})
    scene.clock.now += HOUR - 1
    scene.use(age=0)
    assert scene.prune().held_blobs == 1
    scene.clock.now += 1
    scene.use(age=0)
    assert scene.prune().blobs == 1


def test_a_store_that_rests_holds_nothing_back(scene: Scene) -> None:
    """One run removes what has been needed by nothing for long enough."""
    scene.inhabit()
    scene.blob(b"nobody's")
    scene.use(age=HOUR)
    assert scene.prune().blobs == 1


def test_age_0_takes_no_notice_of_use(scene: Scene) -> None:
    """With age 0 the store is said to be quiet."""
    scene.blob(b"nobody's")
    scene.use(age=0)
    assert scene.prune(age=0).blobs == 1


def test_pulls_without_end_hold_back_only_so_long(scene: Scene) -> None:
    """After the hold what was set aside goes even though there is always a pull."""
    scene.inhabit()
    scene.blob(b"nobody's")
    for hours in range(0, 24, 6):
        scene.partial(b"half %d" % hours, age=0)
        report = scene.prune()
        assert (report.blobs, report.held_blobs) == (0, 1)
        assert report.held_until is not None
        assert report.held_until.timestamp() == scene.clock() + DAY - hours * HOUR
        scene.clock.now += 6 * HOUR
    scene.partial(b"half", age=0)
    report = scene.prune()
    assert (report.blobs, report.held_blobs) == (1, 0)
    assert scene.aside() == set()


def test_each_is_held_from_when_it_was_set_aside(scene: Scene) -> None:
    """The report tells when the first of what is held goes; the later ones stay longer."""
    scene.inhabit()
    scene.blob(b"first")
    scene.partial(b"half", age=0)
    scene.prune()
    first = scene.clock()
    scene.clock.now += 12 * HOUR
    scene.blob(b"second")
    scene.partial(b"half", age=0)
    report = scene.prune()
    assert (report.held_blobs, report.held_bytes) == (2, len(b"first" + b"second"))
    assert report.held_until == datetime.fromtimestamp(first + DAY, UTC)
    scene.clock.now += 12 * HOUR
    scene.partial(b"half", age=0)
    report = scene.prune()
    assert (report.blobs, report.held_blobs) == (1, 1)
    assert scene.aside() == {blob(b"second")}


def test_in_flight_and_hold_are_settings(scene: Scene) -> None:
    """How recent a change is, and how long it holds back, is up to the cache."""
    scene.inhabit()
    scene.blob(b"nobody's")
    scene.partial(b"half", age=2 * HOUR)
    scene.cache = ModelCache(scene.store, clock=scene.clock, in_flight="3h", hold="30m")
    assert scene.prune().held_blobs == 1
    scene.clock.now += 1_800
    assert scene.prune().blobs == 1


@pytest.mark.parametrize("age", ["1s", "7d", "4w"])
def test_what_is_held_comes_back_when_a_model_needs_it(scene: Scene, age: str) -> None:
    """A pull that saw a blob before it was set aside finds it again after the next run."""
    scene.inhabit()
    scene.blob(b"weights")
    scene.blob(b"nobody's")
    scene.partial(b"half", age=0)
    assert scene.prune().held_blobs == 2
    scene.model("smol", b"half", config=b"half")
    scene.put_manifest(full("smol"), manifest(b"weights", config=b"half"))
    before = time.time() - 1
    scene.prune(age=age)
    assert scene.broken() == []
    look = scene.store.blob(blob(b"weights"))
    assert look is not None
    assert look.written >= before, "as if just written"
    assert blob(b"weights") not in scene.aside()


def test_what_is_held_comes_back_for_a_deleted_model_too(scene: Scene) -> None:
    """What a model in the trash needs is put back, and the model can be restored whole."""
    scene.inhabit()
    scene.blob(b"weights")
    scene.partial(b"half", age=0)
    scene.prune()
    scene.put_manifest(full("smol"), manifest(b"weights", config=b"weights"))
    scene.cache.unlink("smol")
    scene.prune()
    scene.cache.restore("smol")
    assert scene.broken() == []


def test_age_0_waits_for_nothing(scene: Scene) -> None:
    """With age 0 the store is said to be quiet: what is held goes, and so does the download."""
    scene.inhabit()
    scene.blob(b"nobody's")
    scene.partial(b"half", age=0)
    assert scene.prune().held_blobs == 1
    scene.blob(b"also nobody's", age=0)
    report = scene.prune(age=0)
    assert (report.blobs, report.held_blobs) == (3, 0)
    assert (scene.kept(), scene.aside()) == (set(), set())


def test_expired_models_are_gone_while_their_blobs_are_held(scene: Scene) -> None:
    """A pull holds back blobs, not the end of what has expired."""
    scene.deleted("gone", b"weights", ago=8 * DAY)
    scene.partial(b"half", age=0)
    report = scene.prune()
    assert (report.models, report.blobs, report.held_blobs) == (1, 0, 2)
    with pytest.raises(ModelNotFoundError):
        scene.cache.restore("gone")
    scene.clock.now += DAY
    assert scene.prune().reasons == {"unreferenced": Removed(0, 2, len(b"weights" + b"{}"))}


def test_models_go_with_all_while_their_blobs_are_held(scene: Scene) -> None:
    """A pull that shares a blob with a model that `--all` removes is not hurt."""
    scene.model("old", b"weights")
    scene.partial(b"half", age=0)
    report = scene.prune(all=True)
    assert (report.models, report.blobs, report.held_blobs) == (1, 0, 2)
    scene.put_manifest(full("new"), manifest(b"weights"))
    scene.prune(all=True)
    assert scene.models() == {"new"}
    assert scene.broken() == []


def test_a_better_blob_in_place_is_kept(scene: Scene) -> None:
    """When a download has come in the place of what is aside, it stays and the other goes."""
    scene.put_blob(blob(b"weights"), b"wei", age=OLD)
    list(scene.store.condemn([blob(b"weights")], scene.clock() - HOUR))
    scene.model("smol", b"weights", age=2 * HOUR)
    scene.prune()
    assert (scene.broken(), scene.aside()) == ([], set())


def test_a_download_in_place_is_not_replaced(disk: DiskScene) -> None:
    """What is aside never takes the place of a blob that a pull has fetched again."""
    disk.blob(b"weights")
    list(disk.store.condemn([blob(b"weights")], disk.clock() - HOUR))
    disk.model("smol", b"weights", age=2 * HOUR)
    before = (disk.tree.blobs / blob(b"weights")).stat()
    disk.prune()
    after = (disk.tree.blobs / blob(b"weights")).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert disk.aside() == set()


def test_what_was_touched_aside_is_young(disk: DiskScene) -> None:
    """A blob that was touched just before a run set it aside is put back by the next one."""
    disk.blob(b"weights")
    disk.date(disk.tree.blobs / blob(b"weights"), 0)  # after the run has looked at it
    list(disk.store.condemn([blob(b"weights")], disk.clock()))  # and was killed
    disk.clock.now += 2 * HOUR
    disk.prune()
    assert (disk.kept(), disk.aside()) == ({b"weights"}, set())


# After a delete


@pytest.mark.parametrize("deleted", [0, 3], ids=["nothing deleted", "nothing expired"])
def test_the_prune_after_a_delete_only_lists_the_trash(tmp_path: Path, deleted: int) -> None:
    """When nothing has expired, its calls of the system do not depend on the number of models."""
    calls = []
    for models in (10, 500):
        disk = DiskScene(tmp_path / f"models {models}")
        for number in range(models):
            disk.put_manifest(full(f"m{number}"), manifest(b"weights"))
            disk.put_blob(f"sha256-{number:064x}", b"x", age=OLD)
        for number in range(deleted):
            disk.cache.unlink(f"m{number}")
        with Seam(disk.tree.root) as seam:
            assert disk.cache.prune(deleted_only=True) == QUIET
        calls.append(seam.names)
        assert len(disk.kept()) == 1
        assert not any("/blobs" in call.path for call in seam.calls)
        assert not any("/manifests/" in c.path for c in seam.calls if "/trash/" not in c.path)
    assert calls[0] == calls[1]
    assert calls[0].total() < 20 + 40 * deleted


def test_deleted_only_leaves_what_was_not_deleted(scene: Scene) -> None:
    """It removes what has expired, and no other blob however old."""
    furnish(scene)
    report = scene.prune(deleted_only=True)
    assert report.reasons == {"expired": Removed(1, 1, len(b"lost's!"))}
    assert scene.kept() == ALL_BLOBS - {b"lost's!"}
    assert scene.prune(deleted_only=True) == QUIET


def test_with_retention_0_a_delete_is_final(scene: Scene) -> None:
    """The prune after it removes the model's blobs; while a pull shows, the model alone."""
    scene.cache = ModelCache(scene.store, clock=scene.clock, retention=0)
    furnish(scene)
    scene.prune(deleted_only=True)
    assert not scene.trash()
    before = scene.kept()
    scene.use(age=2 * HOUR)
    assert scene.cache.unlink("month")
    assert scene.prune(deleted_only=True).reasons == {
        "expired": Removed(1, 1, len(b"month's")),
    }
    assert scene.kept() == before - {b"month's"}
    scene.blob(b"other's, arriving", age=0)
    scene.partial(b"other's, half", age=0)
    before = scene.kept()
    assert scene.cache.unlink("week")
    report = scene.prune(deleted_only=True)
    assert report.reasons == {"expired": Removed(1, 0, 0)}
    assert report.held_blobs == 1
    assert not scene.trash()
    assert scene.kept() == before
    assert scene.broken() == []


# A full disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("options", [{}, {"age": 0}], ids=str)
def test_a_full_disk_can_be_freed(disk: DiskScene, code: int, options: dict[str, Any]) -> None:
    """Where nothing can be set aside, what is to go is removed in its place."""
    furnish(disk)
    with Seam(disk.tree.root, full_disk(code)):
        report = disk.prune(**options)
    assert report.bytes > 0
    assert not disk.kept() & OLD_REST
    assert report.blobs == len(ALL_BLOBS - disk.kept())
    assert disk.aside() == set()
    assert not (disk.tree.root / "condemned").exists()
    assert disk.broken() == []
    assert disk.prune(**options) == QUIET


def test_a_full_disk_holds_back_for_pulls(disk: DiskScene) -> None:
    """While a pull is under way, what cannot be set aside stays in its place."""
    disk.inhabit()
    furnish(disk)
    disk.partial(b"half, now", age=0)
    with Seam(disk.tree.root, full_disk()):
        report = disk.prune()
    # A download is never set aside: one that is older than the age and the hold goes in any case.
    assert (report.blobs, report.held_blobs) == (1, len(OLD_REST) - 1)
    assert disk.kept() == {*ALL_BLOBS, b"half, now"} - {b"half, old"}


@pytest.mark.parametrize("touch", [False, True], ids=["not touched", "touched"])
def test_a_full_disk_keeps_what_is_needed_since(disk: DiskScene, touch: bool) -> None:
    """What was referenced or touched meanwhile is not removed in its place either."""
    disk.inhabit()
    disk.blob(b"weights")
    disk.blob(b"nobody's")

    def event(step: str, _: object) -> None:
        if step == "condemn":
            if touch:
                disk.date(disk.tree.blobs / blob(b"weights"), 0)
            else:
                disk.put_manifest(full("smol"), manifest(b"weights", config=b"weights"))

    cache = ModelCache(watched_steps(disk.store, event), clock=disk.clock)
    refuse = full_disk()
    with Seam(disk.tree.root, lambda call: refuse(call) if call.name == "rename" else None):
        cache.prune()
    assert disk.kept() == {b"weights"}


def test_a_disk_that_fills_up_is_freed(disk: DiskScene) -> None:
    """When there is room for some only, those and the others go in one run."""
    disk.inhabit()
    for number in range(5):
        disk.blob(b"nobody's %d" % number)
    renames = 0

    def act(call: Any) -> None:
        nonlocal renames
        renames += call.name == "rename"
        if renames > 3:
            full_disk()(call)

    with Seam(disk.tree.root, act):
        report = disk.cache.prune()
    assert (report.blobs, report.bytes) == (5, 5 * len(b"nobody's 0"))
    assert (disk.kept(), disk.aside()) == (set(), set())


def test_all_on_a_full_disk_keeps_models_whole(disk: DiskScene) -> None:
    """A model that cannot be moved out of the way stays listed, with its blobs."""
    disk.model("old", b"weights")
    disk.blob(b"nobody's")
    with Seam(disk.tree.root, full_disk()):
        report = disk.cache.prune(all=True)
    assert (report.models, report.blobs) == (0, 1)
    assert disk.models() == {"old"}
    assert disk.broken() == []
    assert disk.prune(all=True).models == 1


def test_a_delete_on_a_full_disk_says_so(disk: DiskScene) -> None:
    """A delete that finds no room raises an error, and the model is in its place."""
    disk.model("smol", b"weights")
    with Seam(disk.tree.root, full_disk()), pytest.raises(NoRoomError, match="No space left"):
        disk.cache.unlink("smol")
    assert disk.models() == {"smol"}
    assert disk.broken() == []


# Progress and cost


def test_progress_is_told(scene: Scene) -> None:
    """The hook hears what is done, from 0, each hundredth part, and how it ended."""
    scene.model("smol", b"weights")
    for number in range(2_500):
        scene.put_blob(f"sha256-{number:064x}", b"x", age=OLD)
    calls: list[tuple[str, int, int | None]] = []
    scene.cache.prune(age=0, progress=lambda *call: calls.append(call))
    steps: dict[str, list[tuple[int, int | None]]] = {}
    for what, done, total in calls:
        steps.setdefault(what, []).append((done, total))
    parts = [(0, 2_500), *((done, 2_500) for done in range(25, 2_501, 25))]
    for what, told in steps.items():
        if what in ("looking at blobs", "setting blobs aside", "removing blobs"):
            assert (told[0], told[-1], len(told) < 400) == (parts[0], parts[-1], True)
            assert len(told) >= 80  # the time may have come in between
        else:
            assert told[0] == (0, None)
    assert (steps["listing blobs"][-1], steps["reading manifests"][-1]) == ((2502, 2502), (1, 1))
    assert [what for what in steps if what.startswith("removing")] == ["removing blobs"]


def test_the_removal_of_large_blobs_is_told_one_by_one(scene: Scene) -> None:
    """In bytes: of twenty that are equal, each is a step."""
    for number in range(20):
        scene.put_blob(f"sha256-{number:064x}", b"x" * 1_000, age=OLD)
    scene.put_blob(f"sha256-{99:064x}-partial", b"x" * 500, age=OLD)
    calls: list[tuple[str, int, int | None]] = []
    scene.cache.prune(age=0, progress=lambda *call: calls.append(call))
    removed = [call[1:] for call in calls if call[0] == "removing blobs"]
    assert removed == [(done, 20_000) for done in range(0, 20_001, 1_000)]
    assert [call[1:] for call in calls if call[0] == "removing downloads"] == [(0, 500), (500, 500)]


def test_progress_is_told_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known how much there is, five times a second."""
    seconds = iter(range(1_000))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds) / 64)
    calls: list[int] = []
    deque(counted(lambda _, done, __: calls.append(done), "listing", range(100)), maxlen=0)
    assert calls == [*range(0, 100, 13), 100]


# What a report names


def test_a_report_names_what_goes(scene: Scene) -> None:
    """Models, then files, the largest first; the same in a dry run, and as much as the numbers."""
    scene.model("smol", b"weights", b"shared")
    scene.model("stays", b"shared")
    scene.cache.unlink("smol")
    scene.put_blob(f"sha256-{1:064x}", b"x" * 50, age=OLD)
    scene.put_blob(f"sha256-{2:064x}-partial", b"x" * 40, age=OLD)
    planned = scene.cache.prune(age=0, dry_run=True)
    report = scene.cache.prune(age=0)
    assert planned.items == report.items
    assert planned.begun is not None
    assert [
        (item.reason, item.model, item.file, item.bytes, item.held) for item in report.items
    ] == [
        ("expired", "registry.ollama.ai/library/smol:latest", None, 15, False),
        ("unreferenced", None, f"sha256-{1:064x}", 50, False),
        ("partial", None, f"sha256-{2:064x}-partial", 40, False),
        ("expired", None, blob(b"weights"), 7, False),
    ]
    assert sum(item.bytes for item in report.items if item.file) == report.bytes
    assert report.items[0].when == report.items[3].when  # the delete
    assert report.left_out == 0


def test_a_report_names_old_models_and_what_is_held(scene: Scene) -> None:
    """What waits for a pull is named as such."""
    scene.model("smol", b"weights", age=OLD)
    pull = f"sha256-{2:064x}-partial"
    scene.put_blob(f"sha256-{1:064x}", b"x", age=2 * HOUR)
    scene.put_blob(pull, b"x", age=60)
    for dry_run in (True, False):
        report = scene.cache.prune(age=HOUR, all=True, dry_run=dry_run)
        held = [item.file for item in report.items if item.held]
        assert f"sha256-{1:064x}" in held
        assert [(item.reason, item.model) for item in report.items if item.model] == [
            ("all", "registry.ollama.ai/library/smol:latest")
        ]
        assert len(held) == report.held_blobs


def test_a_report_names_the_largest_of_very_many(scene: Scene) -> None:
    """And says how many more there are."""
    for number in range(1_100):
        scene.put_blob(f"sha256-{number:064x}", b"x" * (number % 200), age=OLD)
    report = scene.cache.prune(age=0, dry_run=True)
    assert (len(report.items), report.left_out) == (1_000, 100)
    assert min(item.bytes for item in report.items) == max(
        sorted(number % 200 for number in range(1_100))[:101]
    )
    assert report.items == scene.cache.prune(age=0).items


def test_a_blob_with_another_name_frees_nothing(disk: DiskScene) -> None:
    """A report that names the file says so."""
    disk.blob(b"linked")
    path = blob(b"linked")
    os.link(disk.tree.blobs / path, disk.tree.root / "elsewhere")
    (item,) = disk.cache.prune(age=0).items
    assert (item.file, item.bytes) == (path, 0)


# Before a moment


def test_what_is_deleted_or_comes_after_the_moment_stays(scene: Scene) -> None:
    """Whatever the age; what was there before goes."""
    scene.model("early", b"early")
    scene.model("late", b"late")
    scene.put_blob(f"sha256-{1:064x}", b"x", age=HOUR)
    scene.cache.unlink("early")
    preview = scene.cache.prune(age=0, all=True, dry_run=True)
    assert preview.begun is not None
    scene.clock.now += 1
    scene.cache.unlink("late")
    scene.put_blob(f"sha256-{2:064x}", b"x", age=-1)
    scene.put_blob(f"sha256-{3:064x}-partial", b"x", age=-1)
    scene.model("new", b"new", age=-1)
    report = scene.cache.prune(age=0, all=True, before=preview.begun)
    assert [item.model or item.file for item in report.items] == [
        "registry.ollama.ai/library/early:latest",
        blob(b"early"),
        f"sha256-{1:064x}",
    ]
    assert scene.models() == {"new"}
    assert scene.cache.restore("late").endswith("late:latest")
    assert scene.broken() == []


def test_what_grows_old_after_the_moment_stays(scene: Scene) -> None:
    """A deleted model whose time is over only since, and a file that had not the age."""
    scene.inhabit()
    scene.model("gone", b"gone")
    almost = scene.cache.retention - 60
    with scene.clock.ago(almost):
        scene.cache.unlink("gone")
    scene.put_blob(f"sha256-{1:064x}", b"x", age=almost)
    begun = scene.cache.prune(dry_run=True).begun
    scene.clock.now += 120
    for age in (None, scene.cache.retention):
        report = scene.cache.prune(age=age, before=begun)
        assert (report.models, report.blobs) == (0, 0)
    assert scene.cache.prune().models == 1


def test_what_is_set_aside_after_the_moment_stays(disk: DiskScene) -> None:
    """Another prune has set it aside since; the next prune takes it."""
    disk.inhabit()
    disk.blob(b"weights")
    name = blob(b"weights")
    begun = disk.cache.prune(dry_run=True).begun
    disk.clock.now += 60
    deque(disk.store.condemn([name], disk.clock.now), maxlen=0)
    assert disk.cache.prune(age=0, before=begun).blobs == 0
    assert disk.cache.prune(age=0).blobs == 1


@pytest.mark.usefixtures("trusting")
def test_each_manifest_is_read_once_and_needed_blobs_are_not_looked_at(scene: Scene) -> None:
    """A run costs one read a manifest, and a look at what nothing needs."""
    scene.clock.now = time.time()
    for number in range(20):
        scene.model(f"m{number}", b"shared", b"own %d" % number)
        scene.blob(b"nobody's %d" % number)
    reads: Counter[str] = Counter()
    looks: Counter[str] = Counter()
    counts = {"read": reads, "read_all item": reads, "blob": looks, "look item": looks}

    def event(step: str, subject: Any) -> None:
        if step in counts:
            counts[step][subject[0] if "item" in step else subject] += 1

    ModelCache(watched_steps(scene.store, event), clock=scene.clock).prune(age=0)
    assert reads == dict.fromkeys((full(f"m{number}") for number in range(20)), 1)
    assert {*looks} == {blob(b"nobody's %d" % number) for number in range(20)}


@pytest.mark.usefixtures("trusting")
def test_a_needed_blob_costs_the_system_nothing(disk: DiskScene) -> None:
    """No call of the system is about a blob that a model needs."""
    disk.clock.now = time.time()
    disk.model("smol", b"weights")
    disk.blob(b"nobody's")
    with Seam(disk.tree.root) as seam:
        disk.cache.prune(age=0)
    assert not [call for call in seam.calls if blob(b"weights") in call.path]
    assert [call for call in seam.calls if blob(b"nobody's") in call.path]
    opened = [call.path for call in seam.calls if call.name == "open"]
    assert [path for path in opened if path.endswith("/latest")] == [str(disk.tree.path("smol"))]
