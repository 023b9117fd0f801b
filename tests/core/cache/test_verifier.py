"""The check that every model is whole, and what it can put right."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest

from kit.trees import Tree, blob, contents, digest, manifest
from registry_wsgi import DiskStore, MemoryStore, ModelCache
from registry_wsgi.cache.verifier import Problem, VerifyReport
from registry_wsgi.errors import InvalidNameError, ModelNotFoundError
from registry_wsgi.stores.base import Blob, Manifest, Read


@pytest.fixture
def cache(tree: Tree) -> ModelCache:
    """A cache over two models that share a blob."""
    tree.add("one", b"weights" * 1000, b"shared")
    tree.add("two", b"other", b"shared")
    return ModelCache(DiskStore(tree.root))


def kinds(report: VerifyReport) -> list[tuple[str, str]]:
    """What is wrong with what, in short."""
    return [(problem.kind, problem.subject) for problem in report.problems]


@pytest.mark.parametrize("deep", [False, True])
def test_whole_models_have_no_problems(cache: ModelCache, deep: bool) -> None:
    """A check of a whole store finds nothing and counts each blob once."""
    report = cache.verify(deep=deep)
    assert report == VerifyReport(models=2, blobs=4, bytes=7000 + 6 + 5 + 2)
    assert report.ok


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_blob_is_named_with_all_its_models(
    cache: ModelCache, tree: Tree, deep: bool
) -> None:
    """A blob that is not there is reported once, with every model that needs it."""
    (tree.blobs / blob(b"shared")).unlink()
    report = cache.verify(deep=deep)
    assert kinds(report) == [("missing", digest(b"shared"))]
    assert sorted(report.problems[0].models) == [
        "registry.ollama.ai/library/one:latest",
        "registry.ollama.ai/library/two:latest",
    ]
    assert not report.ok


@pytest.mark.parametrize("content", [b"", b"othe", b"otherwise"])
def test_a_blob_of_another_size_is_short(cache: ModelCache, tree: Tree, content: bytes) -> None:
    """A blob that has not the size in the manifest is reported with both sizes."""
    (tree.blobs / blob(b"other")).write_bytes(content)
    report = cache.verify()
    assert kinds(report) == [("wrong size", digest(b"other"))]
    assert f"{len(content)} bytes instead of 5" in report.problems[0].detail


def test_only_a_deep_check_finds_other_content(cache: ModelCache, tree: Tree) -> None:
    """A blob of the right size and the wrong content takes reading to be found."""
    (tree.blobs / blob(b"other")).write_bytes(b"OTHER")
    assert cache.verify().ok
    report = cache.verify(deep=True)
    assert kinds(report) == [("corrupt", digest(b"other"))]
    assert digest(b"OTHER") in report.problems[0].detail


def test_an_unreadable_manifest_is_a_problem(cache: ModelCache, tree: Tree) -> None:
    """A manifest that cannot be parsed is reported, and the other models are checked."""
    tree.write("half", manifest(b"x")[:-20])
    report = cache.verify()
    assert kinds(report) == [("unreadable", "registry.ollama.ai/library/half/latest")]
    assert report.models == 2
    assert not report.ok


def test_foreign_files_are_told_and_do_no_harm(cache: ModelCache, tree: Tree) -> None:
    """A file among the blobs that is none is reported, an unfinished download is not."""
    (tree.blobs / ".DS_Store").write_bytes(b"junk")
    (tree.blobs / "sha256-123-partial-0").write_bytes(b"{}")
    report = cache.verify()
    assert kinds(report) == [("foreign", ".DS_Store")]
    assert report.ok


def test_only_the_named_models_are_checked(cache: ModelCache, tree: Tree) -> None:
    """With names, in any case, nothing else is looked at."""
    (tree.blobs / blob(b"other")).unlink()
    (tree.blobs / ".DS_Store").write_bytes(b"junk")
    assert cache.verify(["ONE"]) == VerifyReport(models=1, blobs=3, bytes=7000 + 6 + 2)
    assert kinds(cache.verify(["one", "two:latest"])) == [("missing", digest(b"other"))]


def test_a_wrong_name_is_an_error(cache: ModelCache) -> None:
    """A name that is none, and a model that is not there, are told apart from a whole model."""
    with pytest.raises(InvalidNameError):
        cache.verify(["../one"])
    with pytest.raises(ModelNotFoundError, match="three"):
        cache.verify(["one", "three"])


def test_repair_takes_what_the_trash_holds(cache: ModelCache, tree: Tree) -> None:
    """What is missing or short comes back from a deleted model that needed it too."""
    assert cache.unlink("two")
    shared = tree.blobs / blob(b"shared")
    shared.unlink()
    shared.write_bytes(b"sha")  # another file, so that the trash still has the whole one
    assert not cache.verify().ok
    report = cache.verify(repair=True)
    assert report.problems == (
        Problem(
            "wrong size",
            digest(b"shared"),
            ("registry.ollama.ai/library/one:latest",),
            "it has 3 bytes instead of 6; put back",
            repaired=True,
        ),
    )
    assert report.ok
    assert cache.verify(deep=True).problems == ()
    assert shared.read_bytes() == b"shared"


def test_repair_takes_what_a_prune_has_set_aside(tree: Tree) -> None:
    """A blob that waits aside while a pull is under way comes back when a model needs it."""
    later = time.time() + timedelta(days=9).total_seconds()
    cache = ModelCache(DiskStore(tree.root), clock=lambda: later)
    tree.add("keep", b"k")
    tree.add_blob(b"old")
    partial = tree.blobs / "sha256-0-partial"
    partial.write_bytes(b"")
    os.utime(partial, (later, later))
    assert cache.prune().held_blobs == 1
    tree.write("late", manifest(b"old"))
    tree.add_blob(b"{}")
    assert kinds(cache.verify()) == [("missing", digest(b"old"))]
    assert cache.verify(repair=True).ok
    assert cache.verify(deep=True).problems == ()


def test_without_repair_nothing_is_touched(cache: ModelCache, tree: Tree) -> None:
    """A check, even a deep one of a damaged store, changes no file."""
    cache.unlink("two")
    (tree.blobs / blob(b"shared")).unlink()
    before = contents(tree.root)
    assert not cache.verify(deep=True).ok
    assert contents(tree.root) == before


def test_a_repair_that_is_not_possible_is_still_a_problem(cache: ModelCache, tree: Tree) -> None:
    """What nobody has any more stays missing."""
    (tree.blobs / blob(b"shared")).unlink()
    report = cache.verify(repair=True)
    assert kinds(report) == [("missing", digest(b"shared"))]
    assert not report.ok


def test_digests_are_taken_in_any_case(tree: Tree) -> None:
    """A blob that is named, in the manifest and on disk, with upper-case digits is found."""
    upper = digest(b"weights").replace(":", "-").upper().replace("SHA", "sha")
    tree.add_blob(b"{}")
    (tree.blobs / upper).write_bytes(b"weights")
    tree.write(
        "upper",
        manifest(b"weights").replace(digest(b"weights").encode(), upper.replace("-", ":").encode()),
    )
    cache = ModelCache(DiskStore(tree.root))
    assert cache.verify(deep=True) == VerifyReport(models=1, blobs=2, bytes=9)
    assert cache.unlink("upper")
    (tree.blobs / upper).unlink()
    cache.restore("upper")
    assert (tree.blobs / upper).read_bytes() == b"weights"


def test_progress_counts_up_to_the_whole(cache: ModelCache) -> None:
    """A deep check tells how many bytes it has read of how many, and ends at all."""
    seen: list[tuple[str, int, int | None]] = []
    lock = threading.Lock()

    def progress(what: str, done: int, total: int | None) -> None:
        with lock:
            seen.append((what, done, total))

    report = cache.verify(deep=True, threads=2, progress=progress)
    reading = [(done, total) for what, done, total in seen if what == "reading blobs"]
    assert reading == sorted(reading)
    assert reading[-1] == (report.bytes, report.bytes)


def test_a_model_that_is_deleted_meanwhile_is_no_problem(tree: Tree) -> None:
    """A delete and a prune between reading the manifest and looking at its blobs is no damage."""

    class Racing(DiskStore):
        raced = False

        def blob(self, name: str):  # type: ignore[no-untyped-def]
            if not self.raced:
                self.raced = True
                other = ModelCache(DiskStore(tree.root))
                other.unlink("one")
                other.prune(age=0)
            return super().blob(name)

    tree.add("one", b"weights")
    assert ModelCache(Racing(tree.root)).verify(deep=True).ok


def test_it_works_in_memory() -> None:
    """The check is the same over another kind of store."""
    store = MemoryStore()
    store.put_blob(blob(b"weights"), b"weighty")
    store.put_blob(blob(b"{}"), b"{}")
    store.put_manifest("h/n/m/t", manifest(b"weights"))
    cache = ModelCache(store)
    assert cache.verify().ok
    assert kinds(cache.verify(deep=True)) == [("corrupt", digest(b"weights"))]


class Made(MemoryStore):
    """A store of 4,000 models of five blobs, each of which is made when it is asked for."""

    def read_all(self) -> Iterator[tuple[str, Read]]:
        """Make the manifests."""
        for model in range(4_000):
            layers = [
                {"digest": f"sha256:{5 * model + layer:064x}", "size": 1_000 + layer}
                for layer in range(5)
            ]
            data = json.dumps({"layers": layers}).encode()
            yield f"h/n/m{model}/t", Manifest(data, 0, None, 0)

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        """Find every blob, in its size."""
        for name in names:
            number = int(name[7:], 16)
            yield name, Blob(1_000 + number % 5, 0, 0, ("here", number))


def test_a_check_of_sizes_needs_little_memory() -> None:
    """So little that a million blobs fit into 250 megabytes, with 40 for Python and the modules."""
    cache = ModelCache(Made())
    cache.verify(deep=False)  # so that what is loaded once does not count
    tracemalloc.start()
    try:
        report = cache.verify()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (report.ok, report.blobs) == (True, 20_000)
    assert peak / report.blobs <= 210
