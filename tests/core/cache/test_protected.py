"""Models that are not to be deleted: what is matched, who refuses, and what a prune passes over."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from kit.clocks import DAY
from kit.faults import Once, failing
from kit.os_seam import CHANGING, watched
from kit.scenes import DiskScene, MemoryScene, Scene
from kit.trees import HOST, Tree, broken, contents, manifest
from registry_wsgi import DiskStore, LocalRegistry, MemoryStore, ModelCache
from registry_wsgi.cache.collector import Removed
from registry_wsgi.cache.patterns import matches, normalize
from registry_wsgi.cache.results import Model
from registry_wsgi.errors import InvalidNameError, ModelProtectedError, StoreError
from registry_wsgi.names import Name

NAME = f"{HOST}/library/smol:latest"


@pytest.fixture(params=["disk", "memory"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """An empty store of each kind."""
    return DiskScene(tmp_path / "models") if request.param == "disk" else MemoryScene()


@pytest.fixture
def cache(tree: Tree) -> ModelCache:
    """A store on disk with the model smol."""
    tree.add("smol", b"weights")
    return ModelCache(DiskStore(tree.root))


# Patterns


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        *[(text, "smol:latest") for text in ("smol", "SMOL:latest", "library/smol", NAME)],
        *[("ns/Smol:v1", "ns/smol:v1"), ("Example.com/ns/smol", "example.com/ns/smol:latest")],
        *[("*", "*"), ("SM?L:*", "sm?l:*"), ("[!a-c]*:latest", "[!a-c]*:latest")],
    ],
)
def test_a_pattern_is_kept_in_one_form(pattern: str, kept: str) -> None:
    """However it is written; and that form is its own."""
    assert normalize(pattern) == kept == normalize(kept)


@pytest.mark.parametrize(
    "text", ["", "..", "../x", "a b", "a/b/c/d", "*\n", "*\0", "é*", "*" * 600, "{a,b}*", "~*"]
)
def test_what_stands_for_no_name_is_refused(cache: ModelCache, text: str) -> None:
    """And nothing is protected by it."""
    for step in (cache.protect, cache.unprotect):
        with pytest.raises(InvalidNameError):
            step(text)
    assert cache.protected() == []


@pytest.mark.parametrize(
    ("pattern", "models"),
    [
        ("smol", {"smol:latest"}),
        ("smol:*", {"smol:latest", "smol:V1"}),
        ("smol*", {"smol:latest", "smol:V1", "smollm:latest", "smolcorp/m:latest"}),
        ("*:v1", {"smol:V1", "example.com/ns/Smol:v1"}),
        ("*r*", {"smolcorp/m:latest"}),  # and not all that are in the registry
        ("example.com/*", {"example.com/ns/Smol:v1"}),
        ("*/library/smol:*", {"smol:latest", "smol:V1"}),
        ("?mol:[lv]*", {"smol:latest", "smol:V1"}),
    ],
)
def test_a_pattern_stands_for_short_and_full_names(pattern: str, models: set[str]) -> None:
    """Without regard to case; for full names only if it has a slash."""
    every = ["smol:latest", "smol:V1", "smollm:latest", "smolcorp/m:latest"]
    names = [Name.parse(text) for text in [*every, "example.com/ns/Smol:v1"]]
    assert {name.short for name in names if matches(name, normalize(pattern))} == models


# Deleting


@pytest.mark.parametrize("pattern", ["smol", "SMOL:latest", NAME, "*", "sm*:latest", "*/smol:*"])
@pytest.mark.parametrize("name", ["smol", "Smol:LATEST", NAME])
def test_a_protected_model_is_not_deleted(
    tree: Tree, cache: ModelCache, pattern: str, name: str
) -> None:
    """However either is written; the error names the model and what protects it."""
    cache.protect(pattern)
    before = contents(tree.root)
    with pytest.raises(ModelProtectedError) as caught:
        cache.unlink(name)
    assert (caught.value.name, caught.value.pattern) == (NAME, normalize(pattern))
    assert str(caught.value) == f'{NAME}: is protected, by "{normalize(pattern)}"'
    assert contents(tree.root) == before
    assert cache.unprotect(pattern) is True
    assert cache.unprotect(pattern) is False
    assert cache.unlink(name) is True


def test_others_can_be_deleted_and_what_is_absent_is_absent(tree: Tree, cache: ModelCache) -> None:
    """Also if its name is protected."""
    tree.add("other", b"weights")
    cache.protect("smol")
    cache.protect("gone")
    assert cache.unlink("other") is True
    assert cache.unlink("gone") is False


def test_whoever_opens_the_store_agrees(tree: Tree, cache: ModelCache) -> None:
    """As another process does; and a model that comes later is protected, too."""
    cache.protect("sm*")
    another = ModelCache(DiskStore(tree.root))
    tree.add("smart", b"weights")
    for name in ("smol", "smart"):
        with pytest.raises(ModelProtectedError):
            another.unlink(name)
        assert another.protected_by(name) == "sm*"
    assert another.protected() == ["sm*"]
    assert another.protected_by("other") is None


def test_a_model_says_whether_it_is_protected(tree: Tree, cache: ModelCache) -> None:
    """In the list of all; one made by hand is not, unless it says so."""
    tree.add("other", b"weights")
    cache.protect("smol")
    assert [(model.name, model.protected) for model in cache.models()] == [
        (f"{HOST}/library/other:latest", False),
        (NAME, True),
    ]
    assert not Model(NAME, 0, 0, datetime.now(UTC)).protected


def test_what_cannot_be_looked_at_protects_everything(tree: Tree, cache: ModelCache) -> None:
    """A list of patterns that cannot be read is no empty list."""
    cache.protect("other")
    before = contents(tree.root)
    with watched(failing(errno.EACCES, "listdir"), ["listdir"]), pytest.raises(StoreError):
        cache.unlink("smol")
    (tree.root / "protected").rename(tree.root.parent / "elsewhere")
    for target in ("elsewhere", "nowhere"):
        (tree.root / "protected").symlink_to(tree.root.parent / target)
        for step in (cache.unlink, cache.protect, cache.unprotect):
            with pytest.raises(StoreError, match="symbolic link"):
                step("smol")
        (tree.root / "protected").unlink()
    (tree.root / "protected").write_bytes(b"")
    for step in (cache.unlink, cache.protect, cache.unprotect):
        with pytest.raises(StoreError, match="protected"):
            step("smol")
    (tree.root / "protected").unlink()
    (tree.root.parent / "elsewhere").rename(tree.root / "protected")
    assert contents(tree.root) == before


def test_a_protection_that_fails_is_an_error(tree: Tree, cache: ModelCache) -> None:
    """Nothing is protected that the caller does not know of, or not protected that it counts on."""
    with watched(failing(errno.ENOSPC, *CHANGING)), pytest.raises(StoreError, match="protected"):
        cache.protect("smol")
    assert cache.protected() == []
    with pytest.raises(StoreError, match="too long"):  # a file name has 255 bytes
        cache.protect(f"{'h' * 300}/ns/smol")
    assert cache.protected() == []


@pytest.mark.parametrize("before", ["makedirs", "rename"])
def test_a_delete_under_way_goes_either_way_and_never_half(
    tree: Tree, cache: ModelCache, before: str
) -> None:
    """Protected after the look and before the rename, the model is in the trash, whole."""
    function = {"makedirs": "mkdir"}.get(before, before)
    with watched(Once(function, lambda *_: cache.protect("smol"))):
        assert cache.unlink("smol") is True
    assert cache.protected() == ["smol:latest"]
    assert [model.restorable for model in cache.deleted()] == [True]
    assert cache.restore("smol") == NAME
    assert broken(tree.root) == []
    with pytest.raises(ModelProtectedError):
        cache.unlink("smol")


def test_nothing_of_it_lies_where_ollama_looks(tree: Tree, cache: ModelCache) -> None:
    """Neither among the blobs nor among the manifests."""
    before = contents(tree.root)
    cache.protect("*/library/[a-s]?ol:*")
    new = [*contents(tree.root).keys() - before.keys()]
    assert new == ["protected/%2A%2Flibrary%2F%5Ba-s%5D%3Fol%3A%2A"]


# Over HTTP


def test_a_request_for_a_protected_model_is_answered_403(caplog: pytest.LogCaptureFixture) -> None:
    """With a code of its own, and a message that names the model; it is a warning in the log."""
    store = MemoryStore()
    store.put_manifest(NAME.replace(":", "/"), manifest())
    cache = ModelCache(store)
    cache.protect("smol")
    asked: list[Any] = []

    def authorize(environ: object, action: str, name: str) -> bool:
        asked.append((action, name))
        return True

    response = Client(LocalRegistry(None, cache, authorize=authorize)).delete(
        "/api/delete", json={"model": "Smol"}
    )
    error = f'{NAME}: is protected, by "smol:latest"'
    assert (response.status_code, response.json) == (403, {"code": "protected", "error": error})
    assert asked == [("delete", f"{HOST}/library/Smol:latest")]
    assert [model.name for model in cache.models()] == [NAME]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# Pruning


def test_a_prune_of_all_passes_over_protected_models(scene: Scene) -> None:
    """They stay whole, and the report says how many; the dry run has said the same."""
    scene.model("old", b"shared", b"old's", age=40 * DAY)
    scene.model("kept", b"shared", b"kept's", age=40 * DAY)
    scene.model("young", b"young's", age=DAY)
    for pattern in ("kept", "young", "absent"):
        scene.cache.protect(pattern)
    report = scene.prune(age="30d", all=True)
    assert (report.models, report.protected) == (1, 1)
    assert report.reasons == {"all": Removed(1, 1, len(b"old's"))}
    assert scene.models() == {"kept", "young"}
    report = scene.prune(age=0, all=True)
    assert (report.models, report.blobs, report.protected) == (0, 0, 2)
    assert scene.broken() == []
    scene.cache.unprotect("kept")
    assert scene.prune(age=0, all=True).models == 1
    assert scene.models() == {"young"}
    assert scene.prune(age=0).protected == 0  # as no model would go


def test_what_is_deleted_before_it_is_protected_expires(scene: Scene) -> None:
    """The trash is not protected."""
    scene.deleted("smol", b"weights", ago=8 * DAY)
    scene.cache.protect("smol")
    assert scene.prune().models == 1
    assert scene.trash() == set()


def test_a_model_that_is_protected_during_a_prune_stays_whole(tmp_path: Path) -> None:
    """Up to the moment that it goes, and with all its blobs."""
    scene = DiskScene(tmp_path / "models")
    scene.model("first", b"shared", b"first's", age=40 * DAY)
    scene.model("second", b"shared", b"second's", age=40 * DAY)
    hook = Once("rename", lambda *_: scene.cache.protect("*"))  # as the first of the two goes
    with watched(hook):
        report = scene.cache.prune(age="30d", all=True)
    assert hook.done
    assert (report.models, report.protected) == (1, 1)
    assert len(scene.models()) == 1
    assert scene.broken() == []
