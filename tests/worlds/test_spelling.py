"""
Rule 4: a spelling is not an identity.

Digests, names and folders are those that the directory lists, and not those that somebody asks for.
"""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import Client

from kit.clocks import A_DAY, later
from kit.trees import HOST, Tree, blob, broken, digest, manifest
from kit.worlds import Worlds
from registry_wsgi import LocalRegistry, RegistryError
from registry_wsgi.__main__ import main

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY


def names(tree: Tree) -> list[str]:
    return [model.name for model in later(tree.root).models()]


# Digests

SPELLINGS = {
    "colon": lambda name: name.replace("-", ":"),
    "upper-case digits": lambda name: name[:7] + name[7:].upper(),
    "mixed digits": lambda name: name[:9] + name[9:40].upper() + name[40:],
    "upper-case prefix": lambda name: "SHA256-" + name[7:],
    "all of it": lambda name: "SHA256:" + name[7:].upper(),
}


@pytest.fixture(params=SPELLINGS)
def spelled(tree: Tree, request: pytest.FixtureRequest) -> Tree:
    """A store with the models one, two and three, whose blobs have names in other letters."""
    tree.add("one", b"shared" * 100, b"1")
    tree.add("two", b"shared" * 100, b"2")
    tree.add("three", b"3")
    for path in tree.blobs.iterdir():
        path.rename(path.with_name(SPELLINGS[request.param](path.name)))
    return tree


def contents(tree: Tree) -> set[bytes]:
    return {path.read_bytes() for path in tree.blobs.iterdir()}


def test_a_prune_keeps_what_a_model_needs(spelled: Tree) -> None:
    before = contents(spelled)
    later(spelled.root, MONTH).prune()
    later(spelled.root, 2 * MONTH).prune(age=0)
    assert contents(spelled) == before


def test_what_nothing_needs_goes_in_every_spelling(spelled: Tree) -> None:
    for name in ("one", "two"):
        later(spelled.root).unlink(name)
    later(spelled.root).prune(age=0)
    assert contents(spelled) == {b"3", b"{}"}


def test_a_delete_over_http_keeps_what_another_model_shares(spelled: Tree) -> None:
    later(spelled.root).unlink("one")
    client = Client(LocalRegistry(None, later(spelled.root, 8 * A_DAY)))
    assert client.delete("/api/delete", json={"model": "three"}).status_code == 200
    assert {b"shared" * 100, b"2", b"{}"} <= contents(spelled)


def test_a_deleted_model_is_restored(spelled: Tree) -> None:
    before = spelled.files()
    cache = later(spelled.root)
    cache.unlink("one")
    assert [model.restorable for model in cache.deleted()] == [True]
    cache.restore("one")
    assert spelled.files() == before


def test_it_outlives_the_sweep_of_another_program(spelled: Tree) -> None:
    cache = later(spelled.root)
    cache.unlink("three")
    for path in spelled.blobs.iterdir():
        if path.read_bytes() == b"3":
            path.unlink()
    cache.restore("three")
    assert cache.verify(["three"], deep=True).ok


def test_it_is_whole(spelled: Tree) -> None:
    assert later(spelled.root).verify(deep=True).problems == ()


def test_it_takes_the_space_that_it_takes(spelled: Tree) -> None:
    sizes = {model.name: (model.size, model.shared) for model in later(spelled.root).models()}
    assert sizes[f"{HOST}/library/one:latest"] == (603, 602)


@pytest.mark.parametrize("mangle", SPELLINGS.values(), ids=SPELLINGS)
def test_what_was_set_aside_in_another_spelling_comes_back(tree: Tree, mangle: Any) -> None:
    tree.add("keep", b"k")
    path = tree.add_blob(b"weights")
    path.rename(path.with_name(mangle(path.name)))
    cache = later(tree.root, 8 * A_DAY, hold="90d", in_flight="30d")
    cache.prune()
    tree.write("new", manifest(b"weights"))
    cache.prune()
    assert b"weights" in contents(tree)


def test_of_two_spellings_both_stay_if_a_model_needs_them(tree: Tree) -> None:
    tree.add("one", b"weights")
    (tree.blobs / digest(b"weights")).write_bytes(b"weights")
    later(tree.root).prune(age=0)
    assert broken(tree.root) == []
    assert later(tree.root).verify(deep=True).ok


def test_a_restore_is_not_content_with_a_short_blob_in_another_spelling(tree: Tree) -> None:
    tree.add("one", b"weights")
    cache = later(tree.root)
    cache.unlink("one")
    (tree.blobs / blob(b"weights")).unlink()
    (tree.blobs / digest(b"weights")).write_bytes(b"wei")
    cache.restore("one")
    assert broken(tree.root) == []


# Names that are there in other letters


def test_two_names_that_differ_in_case_are_both_deleted_and_restored(tree: Tree) -> None:
    tree.add("Foo", b"1")
    tree.add("foo", b"2")
    before = tree.files()
    cache = later(tree.root)
    assert cache.unlink("foo")
    assert names(tree) == [f"{HOST}/library/Foo:latest"]
    assert cache.unlink("Foo")
    restored = {cache.restore(name) for name in ("foo", "Foo")}
    assert restored == {f"{HOST}/library/{name}:latest" for name in ("foo", "Foo")}
    assert tree.files() == before


def test_a_name_in_other_letters_brings_back_what_there_is(tree: Tree) -> None:
    tree.add("Foo", b"1")
    cache = later(tree.root)
    assert cache.unlink("foO")
    assert cache.restore("fOO") == f"{HOST}/library/Foo:latest"


PATHS = ["foo/v1", "Team/foo/v1", "Example.com/team/foo/v1"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "make", [Worlds.ntfs, Worlds.exfat, Worlds.share], ids=lambda m: m.__name__
)
def test_the_name_that_the_directory_lists_is_protected(
    worlds: Worlds, path: str, make: Any
) -> None:
    tree = Tree(make(worlds) / "models")
    parts = path.split("/")
    parts = [HOST, "library", "", ""][: 4 - len(parts)] + parts
    tree.add("/".join(parts), b"weights")
    cache = later(tree.root)
    cache.protect("/".join(parts[:3]) + ":" + parts[3])
    for changed in (str.upper, str.lower, str.swapcase):
        asked = "/".join(map(changed, parts[:3])) + ":" + changed(parts[3])
        with pytest.raises(RegistryError, match="protected"):
            cache.unlink(asked)
    assert len(names(tree)) == 1


@pytest.mark.parametrize(
    "make", [Worlds.ntfs, Worlds.exfat, Worlds.share], ids=lambda m: m.__name__
)
def test_a_model_asked_for_in_other_letters_comes_back_as_it_was(worlds: Worlds, make: Any) -> None:
    tree = Tree(make(worlds) / "models")
    tree.add("Example.com/Team/Foo/V1", b"weights")
    before, listed = tree.files(), names(tree)
    cache = later(tree.root)
    assert cache.unlink("example.COM/team/foo:v1")
    assert [model.name for model in cache.deleted()] == listed
    assert [cache.restore("EXAMPLE.com/TEAM/FOO:v1")] == listed
    assert tree.files() == before


DOTTED = [
    "secret:prod.",
    "secret:prod...",
    "secret.:prod",
    "secret..:prod.",
    f"{HOST}./library/secret:prod",
    f"{HOST}.../library/secret.:prod.",
    "Secret.:PROD.",
]


@pytest.fixture
def guarded(worlds: Worlds) -> Tree:
    """A share with one model that must not go."""
    tree = Tree(worlds.share() / "models")
    tree.add("secret/prod", b"weights")
    return tree


def test_dots_at_the_end_do_not_get_around_protection(guarded: Tree) -> None:
    cache = later(guarded.root)
    cache.protect("secret:prod")
    for asked in DOTTED:
        try:
            assert not cache.unlink(asked)
        except RegistryError as error:
            assert "protected" in str(error)
    assert names(guarded) == [f"{HOST}/library/secret:prod"]


def test_dots_at_the_end_do_not_get_around_authorization(guarded: Tree) -> None:
    def authorize(environ: dict[str, Any], action: str, name: str | None) -> bool:
        return (name or "").lower() != f"{HOST}/library/secret:prod"

    client = Client(LocalRegistry(None, later(guarded.root), authorize=authorize))
    for asked in DOTTED:
        assert client.delete("/api/delete", json={"model": asked}).status_code in (400, 403, 404)
    assert names(guarded) == [f"{HOST}/library/secret:prod"]


def test_dots_at_the_end_do_not_bring_back_another_model(guarded: Tree) -> None:
    cache = later(guarded.root)
    assert cache.unlink("secret:prod")
    with pytest.raises(RegistryError):
        cache.restore("secret:prod.")
    assert cache.restore("secret:prod")


def test_where_dots_count_a_name_may_end_with_one(tree: Tree) -> None:
    tree.add("m/v1", b"1")
    tree.add("m/v1.", b"2")
    assert later(tree.root).unlink("m:v1.")
    assert names(tree) == [f"{HOST}/library/m:v1"]
    assert later(tree.root).restore("m:v1.")


# The trash


@pytest.mark.parametrize("rename", [str.lower, str.upper, str.swapcase])
def test_the_trash_may_be_listed_in_other_letters(tree: Tree, rename: Any) -> None:
    tree.add("one", b"1" * 1000)
    cache = later(tree.root)
    cache.unlink("one")
    entry = next(tree.trash.iterdir())
    entry.rename(entry.with_name(rename(entry.name)))
    assert [model.name for model in cache.deleted()] == [f"{HOST}/library/one:latest"]
    later(tree.root, A_DAY).prune()
    assert cache.restore("one")
    cache.unlink("one")
    later(tree.root, MONTH).prune()
    assert list(tree.trash.iterdir()) == []


@pytest.mark.parametrize("rename", [str.lower, str.upper])
def test_what_is_aside_may_be_listed_in_other_letters(tree: Tree, rename: Any) -> None:
    tree.add("keep", b"k")
    run = tree.root / "condemned" / rename("2026-01-01T00-00-00.000000Z-0badc0de")
    run.mkdir(parents=True)
    tree.write("again", manifest(b"weights"))
    (run / blob(b"weights")).write_bytes(b"weights")
    (run / blob(b"left over")).write_bytes(b"left over")
    later(tree.root, MONTH).prune()
    assert broken(tree.root) == []
    assert not run.exists()


def test_a_store_that_moves_to_another_file_system_keeps_its_trash(worlds: Worlds) -> None:
    """A whole store is copied to one that lists all in lower case."""
    import shutil

    here = Tree(worlds.ext4() / "models")
    here.add(f"{HOST}/Team/One/V1", b"weights")
    later(here.root).unlink("Team/One:V1")
    there = worlds.ntfs() / "models"
    shutil.copytree(here.root, there)
    cache = later(there)
    assert [model.restorable for model in cache.deleted()] == [True]
    assert cache.restore("team/one:v1")
    assert broken(there) == []


# Names that are none


def test_a_name_with_two_tags_is_no_name(tree: Tree) -> None:
    tree.add("m/20b", b"weights")
    client = Client(LocalRegistry(None, later(tree.root)))
    for asked in ("m:20b:cloud", "m:20b:20b", "library/m:20b:x"):
        assert client.delete("/api/delete", json={"model": asked}).status_code == 400
        with pytest.raises(RegistryError):
            later(tree.root).unlink(asked)
        assert main(["--models", str(tree.root), "rm", "--yes", asked]) == 2
    assert len(names(tree)) == 1


# As another system writes them: in UTF-8 of two forms, with spaces, with what is no text.
STRANGE = [
    "host/ns/m\N{LATIN SMALL LETTER O WITH DIAERESIS}del/latest",
    "host/ns/mo\N{COMBINING DIAERESIS}del/latest",
    "host/ns/model/latest ",
    "host/n s/model/latest",
    "host/ns/model/.latest",
    "host/ns/m\udcff/latest",
]


@pytest.mark.parametrize("key", STRANGE)
def test_a_manifest_under_a_name_that_is_none_keeps_its_blobs(tree: Tree, key: str) -> None:
    tree.add(key, b"weights")
    tree.add("keep", b"k")
    later(tree.root, MONTH).prune()
    later(tree.root, 2 * MONTH).prune(age=0, all=True)
    assert {b"weights", b"{}"} <= contents(tree)


@pytest.mark.parametrize("name", ["desktop.ini", "Thumbs.db", ".DS_Store", "._latest"])
@pytest.mark.parametrize("folder", [".", "host", "host/ns", "host/ns/model"])
def test_what_a_desktop_leaves_among_the_manifests_stops_nothing(
    tree: Tree, folder: str, name: str
) -> None:
    tree.add("host/ns/model/latest", b"weights")
    (tree.manifests / folder / name).write_bytes(b"[.ShellClassInfo]")
    left_over = tree.add_blob(b"left over")
    later(tree.root).prune(age=0)
    assert not left_over.exists()
    assert names(tree) == ["host/ns/model:latest"]
    assert later(tree.root).verify().ok
