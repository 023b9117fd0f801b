"""A dry run tells what the run does, or fails as the run does, and touches nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import A_DAY, later
from kit.downloads import Download
from kit.requirements import require
from kit.trees import HOST, Tree, blob, contents, manifest
from kit.worlds import Worlds
from registry_wsgi import ModelCache, PruneReport, RegistryError

require("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402 - see above
from hypothesis import strategies as st  # noqa: E402 - see above

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY
LIBRARY = f"manifests/{HOST}/library"


def run(cache: ModelCache, **options: Any) -> PruneReport | RegistryError:
    try:
        return dataclasses.replace(cache.prune(**options), dry_run=False)
    except RegistryError as error:
        return error


def compare(root: Path, passed: timedelta, **options: Any) -> PruneReport | RegistryError:
    """Compare a dry run with the run that follows it, and tell what the dry run said."""
    before = contents(root)
    now = time.time() + passed.total_seconds()
    cache = ModelCache(later(root).store, clock=lambda: now, hold="1d")
    dry = run(cache, **options, dry_run=True)
    assert contents(root) == before
    real = run(cache, **options)
    if isinstance(dry, RegistryError):
        assert type(real) is type(dry), str(real)
    else:
        assert dry == real
    return dry


OPTIONS: list[dict[str, Any]] = [
    {},
    {"age": 0},
    {"age": "1h", "all": True},
    {"age": 0, "all": True},
]
EACH = pytest.mark.parametrize("options", OPTIONS, ids=["usual", "0", "all", "0, all"])


def stamp(before: timedelta) -> str:
    return f"{datetime.now(UTC) - before:%Y-%m-%dT%H-%M-%S.%f}Z-0badc0de"


# One store for each thing that has a twist


def put_back(tree: Tree) -> None:
    """Something was set aside by an earlier run, and is needed again."""
    tree.add_blob(b"left over" * 100)
    folder = tree.root / "condemned" / stamp(A_DAY)
    folder.mkdir(parents=True)
    (folder / blob(b"aside")).write_bytes(b"aside")
    tree.write("again", manifest(b"aside"))


def put_back_a_second_name(tree: Tree) -> None:
    """What is put back has another name, aside as well, that is needed by nothing."""
    folder = tree.root / "condemned" / stamp(A_DAY)
    folder.mkdir(parents=True)
    (folder / blob(b"aside")).write_bytes(b"aside")
    os.link(folder / blob(b"aside"), folder / blob(b"other"))
    tree.write("again", manifest(b"aside"))


def aside_and_in_place(tree: Tree) -> None:
    """A blob was in use when it was set aside, and has come again since."""
    path = tree.add_blob(b"left over")
    folder = tree.root / "condemned" / stamp(A_DAY)
    folder.mkdir(parents=True)
    shutil.copyfile(path, folder / path.name)


def linked_aside(tree: Tree) -> None:
    """A run was killed when it had linked a blob back, and not yet removed the name aside."""
    path = tree.add_blob(b"left over")
    folder = tree.root / "condemned" / stamp(A_DAY)
    folder.mkdir(parents=True)
    os.link(path, folder / path.name)


def held_copy(tree: Tree) -> None:
    """The trash holds a copy, and another program has swept what was in place."""
    tree.add("old", b"old")
    later(tree.root).unlink("old")
    (tree.blobs / blob(b"old")).unlink()


def killed_delete(tree: Tree) -> None:
    """A delete was killed when it had linked the blobs, and not yet moved the manifest."""
    path = tree.add_blob(b"only held")
    folder = tree.root / "trash" / stamp(20 * A_DAY) / "blobs"
    folder.mkdir(parents=True)
    path.rename(folder / path.name)


def killed_delete_in_place(tree: Tree) -> None:
    """What a killed delete has linked is still in place, and has a name outside of the store."""
    path = tree.add_blob(b"in three places")
    folder = tree.root / "trash" / stamp(19 * A_DAY) / "blobs"
    folder.mkdir(parents=True)
    os.link(path, folder / path.name)
    os.link(path, tree.root.parent / "outside")


def host_elsewhere(tree: Tree) -> None:
    """A host is a link out of the store."""
    tree.add("m", b"w")
    (tree.manifests / HOST).rename(tree.root.parent / "host")
    (tree.manifests / HOST).symlink_to(tree.root.parent / "host")


def blobs_elsewhere(tree: Tree) -> None:
    """The blobs are a link out of the store."""
    tree.add_blob(b"left over")
    tree.blobs.rename(tree.root.parent / "blobs")
    tree.blobs.symlink_to(tree.root.parent / "blobs")


def namespace_alias(tree: Tree) -> None:
    """A namespace is another one, by a link."""
    tree.add("m", b"w")
    (tree.manifests / HOST / "team").symlink_to("library")


def model_alias(tree: Tree) -> None:
    """A model is another one, by a link."""
    tree.add("m", b"w")
    (tree.root / LIBRARY / "a").symlink_to("m")


def hard_linked_tags(tree: Tree) -> None:
    """Two tags are one file."""
    path = tree.add("m", b"w")
    os.link(path, path.parent / "v1")


def tag_before_its_link(tree: Tree) -> None:
    """A tag is a link to another that is listed before it."""
    path = tree.add("m", b"w")
    (path.parent / "v1").symlink_to("latest")


def tag_after_its_link(tree: Tree) -> None:
    """A tag is a link to another that is listed after it."""
    path = tree.add("m", b"w")
    (path.parent / "aa").symlink_to("latest")


def protected_link(tree: Tree) -> None:
    """A protected tag is a link to one that is not."""
    path = tree.add("m/v1", b"w")
    (path.parent / "prod").symlink_to("v1")
    later(tree.root).protect("m:prod")


def protected_link_to_a_link(tree: Tree) -> None:
    """A protected tag is a link to a link."""
    tag_before_its_link(tree)
    protected_link(tree)


def blob_link(tree: Tree) -> None:
    """A blob is a link to a file elsewhere."""
    path = tree.add_blob(b"left over")
    path.rename(tree.root.parent / "large")
    path.symlink_to(tree.root.parent / "large")


def dangling_blob(tree: Tree) -> None:
    """A blob is a link that leads nowhere."""
    (tree.blobs / blob(b"nowhere")).symlink_to(tree.root.parent / "nowhere")


def hard_linked_blobs(tree: Tree) -> None:
    """Two blobs are one file, and a third name is outside of the store."""
    path = tree.add_blob(b"left over")
    os.link(path, tree.blobs / blob(b"other"))
    os.link(path, tree.root.parent / "third")


def two_in_one_entry(tree: Tree) -> None:
    """Two manifests are in one entry of the trash."""
    for name in ("a", "b"):
        tree.add(name, name.encode())
        later(tree.root).unlink(name)
    one, other = sorted(tree.trash.iterdir())
    place = f"{LIBRARY}/b"
    (other / place).rename(one / place)


def unreadable_in_the_trash(tree: Tree) -> None:
    """A manifest in the trash is none."""
    tree.add("a", b"a")
    later(tree.root).unlink("a")
    next(tree.trash.glob(f"*/{LIBRARY}/a/latest")).write_bytes(b"{")


def abandoned_download(tree: Tree) -> None:
    """A download was given up."""
    Download(tree.blobs, b"a blob in parts").start(2)


def foreign_files(tree: Tree) -> None:
    """There is what is no blob."""
    (tree.blobs / "README").write_bytes(b"x")
    (tree.blobs / "folder").mkdir()
    (tree.blobs / "folder" / "file").write_bytes(b"x")


def other_spellings(tree: Tree) -> None:
    """Blobs have names in other letters, some twice."""
    path = tree.add_blob(b"left over")
    shutil.copyfile(path, path.with_name(path.name.replace("-", ":")))
    shutil.copyfile(path, path.with_name(path.name[:7] + path.name[7:].upper()))


TWISTS: list[Callable[[Tree], None]] = [
    put_back,
    put_back_a_second_name,
    aside_and_in_place,
    linked_aside,
    held_copy,
    killed_delete,
    killed_delete_in_place,
    host_elsewhere,
    blobs_elsewhere,
    namespace_alias,
    model_alias,
    hard_linked_tags,
    tag_before_its_link,
    tag_after_its_link,
    protected_link,
    protected_link_to_a_link,
    blob_link,
    dangling_blob,
    hard_linked_blobs,
    two_in_one_entry,
    unreadable_in_the_trash,
    abandoned_download,
    foreign_files,
    other_spellings,
]


@EACH
@pytest.mark.parametrize("passed", [timedelta(), timedelta(hours=2), MONTH], ids=str)
@pytest.mark.parametrize("twist", TWISTS, ids=lambda twist: twist.__name__)
def test_a_dry_run_tells_what_the_run_does(
    tree: Tree, twist: Callable[[Tree], None], passed: timedelta, options: dict[str, Any]
) -> None:
    tree.add("keep", b"k")
    twist(tree)
    for more in (timedelta(), 2 * A_DAY):
        compare(tree.root, passed + more, **options)


@EACH
def test_what_a_link_puts_elsewhere_is_refused_with_the_cure(
    tree: Tree, options: dict[str, Any]
) -> None:
    tree.add("keep", b"k")
    blobs_elsewhere(tree)
    said = compare(tree.root, MONTH, **options)
    assert "link" in str(said)
    assert "bind" in str(said) or "mount" in str(said) or "OLLAMA_MODELS" in str(said)


@EACH
def test_bytes_of_a_held_copy_and_of_a_killed_delete_are_counted(
    tree: Tree, options: dict[str, Any]
) -> None:
    held_copy(tree)
    killed_delete(tree)
    killed_delete_in_place(tree)  # which frees nothing
    tree.add("keep", b"k")
    report = compare(tree.root, MONTH, **options)
    assert isinstance(report, PruneReport)
    freed = len(b"old") + len(b"only held") + (len(b"k{}") if "all" in options else 0)
    assert report.bytes == freed
    assert list(tree.trash.iterdir()) == []


@EACH
@pytest.mark.parametrize("part", [".", "blobs", "manifests", "trash"])
def test_on_a_mount_that_may_only_be_read(
    worlds: Worlds, tree: Tree, part: str, options: dict[str, Any]
) -> None:
    tree.add("keep", b"k")
    tree.add("old", b"old")
    tree.add_blob(b"left over")
    later(tree.root).unlink("old")
    worlds.bind(tree.root / part, read_only=True)
    compare(tree.root, MONTH, **options)


@EACH
def test_what_a_killed_delete_has_left_on_a_mount_that_may_only_be_read(
    worlds: Worlds, tree: Tree, options: dict[str, Any]
) -> None:
    killed_delete(tree)
    worlds.bind(tree.trash, read_only=True)
    assert isinstance(compare(tree.root, MONTH, **options), RegistryError)


# All of them at once, in stores of chance


# The same stores in each run: a failure is then one of the change that was made.
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    twists=st.lists(st.sampled_from(TWISTS), max_size=6, unique=True),
    steps=st.lists(
        st.tuples(st.integers(0, 240), st.sampled_from(OPTIONS)), min_size=1, max_size=3
    ),
)
def test_a_dry_run_tells_what_the_run_does_in_any_store(
    tmp_path_factory: pytest.TempPathFactory,
    twists: list[Callable[[Tree], None]],
    steps: list[tuple[int, dict[str, Any]]],
) -> None:
    place = tmp_path_factory.mktemp("store")
    tree = Tree(place / "models")
    tree.add("keep", b"k")
    for twist in sorted(twists, key=TWISTS.index):
        try:
            twist(tree)
        except (OSError, RegistryError, ValueError):
            continue  # what an earlier one has put elsewhere, or there already
    passed = timedelta()
    for hours, options in steps:
        passed += timedelta(hours=hours)
        compare(tree.root, passed, **options)
    shutil.rmtree(place)
