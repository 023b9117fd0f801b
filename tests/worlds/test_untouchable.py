"""
Rule 5: one that cannot be touched stops nobody else, and is named.

Immutable files, mount points, files that a network file system keeps for somebody who has them
open, and what belongs to another user.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from werkzeug.test import Client

from kit.clocks import A_DAY, later
from kit.trees import Tree, blob, broken, manifest
from kit.users import SERVICE, STRANGER, command_as, give, run_as
from kit.worlds import Worlds
from registry_wsgi import LocalRegistry, RegistryError
from registry_wsgi.__main__ import main

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY
RUN = "condemned/2026-01-01T10-00-00.000000Z-0badc0de"
ENTRY = "trash/2026-01-01T10-00-00.000000Z-0badc0de"


@pytest.fixture
def tree(worlds: Worlds) -> Tree:
    """A models directory where files can be immutable."""
    made = Tree(worlds.ext4() / "models")
    made.add("keep", b"k")
    return made


def left_over(tree: Tree) -> list[Path]:
    return [tree.add_blob(b"left over %d" % number) for number in range(3)]


def prune(tree: Tree, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Prune on the command line: the exit code, and all that was said."""
    arguments = ["--models", str(tree.root), "prune", "--yes", *(options or ("--age", "0"))]
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out + said.err


# Blobs and what lies among them


def hold_fast(worlds: Worlds, path: Path) -> None:
    worlds.immutable(path)


def mount_over(worlds: Worlds, path: Path) -> None:
    worlds.bind(path)


HOLDS = pytest.mark.parametrize("hold", [hold_fast, mount_over])


@HOLDS
@pytest.mark.parametrize("which", range(3))
def test_a_blob_that_cannot_be_moved_stays_and_is_named(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    which: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = left_over(tree)
    held = paths.pop(which)
    hold(worlds, held)
    code, said = prune(tree, capsys)
    assert code == 1
    assert held.name in said
    assert not any(path.exists() for path in paths)
    assert held.exists()
    assert broken(tree.root) == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_is_told_how_many_stay_and_no_path(
    worlds: Worlds, tree: Tree, stream: bool
) -> None:
    held, *paths = left_over(tree)
    worlds.immutable(held)
    client = Client(LocalRegistry(None, later(tree.root), maintenance=True))
    answer = client.post("/api/prune", json={"age": "0", "stream": stream})
    report = json.loads(answer.text.splitlines()[-1])
    assert (answer.status_code, report["failed"], report["blobs"]) == (200, 1, len(paths))
    assert str(tree.root) not in answer.text
    assert held.name not in answer.text


@HOLDS
def test_it_goes_as_soon_as_it_can(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = left_over(tree)[0]
    hold(worlds, held)
    prune(tree, capsys)
    worlds.unmount()
    worlds.mount("-o", "loop", next(worlds.base.glob("image-*/image")), tree.root.parent)
    assert prune(tree, capsys)[0] == 0
    assert not held.exists()


@pytest.mark.parametrize("place", ["blobs", RUN, f"{ENTRY}/blobs"])
def test_what_a_network_file_system_keeps_for_a_reader_is_no_failure(
    worlds: Worlds, tree: Tree, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a file is busy, and goes by itself when it is closed."""
    paths = left_over(tree)
    busy = tree.root / place / ".nfs00000000000a1b2c"
    busy.parent.mkdir(parents=True, exist_ok=True)
    busy.write_bytes(b"open elsewhere")
    worlds.bind(busy)
    for _ in range(2):
        code, said = prune(tree, capsys)
        assert (code, "Traceback" in said) == (0, False), said
    assert not any(path.exists() for path in paths)


@HOLDS
def test_a_blob_aside_that_cannot_be_removed_stops_no_other(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tree.root / RUN
    folder.mkdir(parents=True)
    paths = []
    for data in (b"1", b"2", b"3"):
        paths.append(folder / blob(data))
        paths[-1].write_bytes(data)
    hold(worlds, paths[1])
    code, said = prune(tree, capsys)
    assert (code, [path.exists() for path in paths]) == (1, [False, True, False])
    assert paths[1].name in said


@pytest.mark.parametrize("hold", [hold_fast])
def test_a_folder_that_nobody_may_change_stops_no_other(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = left_over(tree)
    folder = tree.root / RUN
    folder.mkdir(parents=True)
    (folder / blob(b"aside")).write_bytes(b"aside")
    hold(worlds, folder)
    code, said = prune(tree, capsys)
    assert code == 1
    assert folder.name in said
    assert not any(path.exists() for path in paths)


@HOLDS
def test_what_is_aside_and_needed_comes_back_although_it_cannot_be_touched(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """That one is out of reach is no reason to leave the others aside."""
    folder = tree.root / RUN
    folder.mkdir(parents=True)
    for data in (b"1", b"2", b"3"):
        (folder / blob(data)).write_bytes(data)
    tree.write("again", manifest(b"1", b"2", b"3", config=b"k"))
    hold(worlds, folder / blob(b"2"))
    code, said = prune(tree, capsys)
    assert code == 1
    assert blob(b"2") in said
    assert (tree.blobs / blob(b"1")).exists()
    assert (tree.blobs / blob(b"3")).exists()


# Models


@HOLDS
def test_a_manifest_that_cannot_be_moved_stays_whole(
    worlds: Worlds, tree: Tree, hold: Callable[[Worlds, Path], None]
) -> None:
    path = tree.add("held", b"weights")
    hold(worlds, path)
    with pytest.raises(RegistryError, match="held"):
        later(tree.root).unlink("held")
    assert broken(tree.root) == []
    assert later(tree.root).deleted() == []
    assert not tree.trash.exists() or list(tree.trash.iterdir()) == []


@HOLDS
def test_with_all_the_other_models_go(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree.add("a", b"a")
    held = tree.add("held", b"weights")
    tree.add("z", b"z")
    hold(worlds, held)
    code, said = prune(tree, capsys, "--age", "0", "--all")
    assert code == 1
    assert "held" in said
    assert [model.name.rpartition("/")[2] for model in later(tree.root).models()] == ["held:latest"]
    assert broken(tree.root) == []
    assert not (tree.blobs / blob(b"z")).exists()


@pytest.mark.parametrize("what", ["manifest", "blob", "entry"])
@pytest.mark.parametrize("hold", [hold_fast])
def test_a_deleted_model_that_cannot_be_removed_stops_no_other(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    what: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "held", "z"):
        tree.add(name, name.encode())
        later(tree.root).unlink(name)
    manifest_path = next(tree.trash.glob("*/manifests/*/library/held/latest"))
    entry = manifest_path.parents[4]
    paths = {"manifest": manifest_path, "blob": entry / "blobs" / blob(b"held"), "entry": entry}
    hold(worlds, paths[what])
    code, said = prune(tree, capsys)
    assert code == 1
    assert entry.name in said or paths[what].name in said
    assert not (tree.blobs / blob(b"a")).exists()
    assert not (tree.blobs / blob(b"z")).exists()
    names = [model.name.rpartition("/")[2] for model in later(tree.root).deleted()]
    assert names == ([] if what == "blob" else ["held:latest"])
    for model in later(tree.root).deleted():
        assert model.restorable


@HOLDS
def test_an_eviction_forgets_no_model_whose_blobs_stay(
    worlds: Worlds, tree: Tree, hold: Callable[[Worlds, Path], None]
) -> None:
    """However often it runs; and one that can go goes when its turn comes."""
    for name in ("held", "z"):
        tree.add(name, name.encode() * 100_000)
        later(tree.root).unlink(name)
    hold(worlds, tree.blobs / blob(b"held" * 100_000))
    cache = later(tree.root, A_DAY)
    for _ in range(2):
        report = cache.evict(max_used=0)
        assert (report.ok, report.freed) == (False, 0)
        assert blob(b"held" * 100_000) in report.failures[0]
        assert [model.restorable for model in cache.deleted()] == [True, True]
    assert cache.forget("z").models == 1
    assert cache.restore("held")
    assert broken(tree.root) == []


@HOLDS
def test_what_a_killed_delete_has_left_and_cannot_be_removed_is_named(
    worlds: Worlds,
    tree: Tree,
    hold: Callable[[Worlds, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    held, other = (tree.root / f"{ENTRY[:-1]}{end}/blobs/{blob(b'x')}" for end in "01")
    for path in (held, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    hold(worlds, held)
    code, said = prune(tree, capsys)
    assert code == 1
    assert held.parents[1].name in said
    assert "1 blob, 1 byte" in said
    assert held.exists()
    assert not other.exists()


@HOLDS
def test_a_restore_that_fails_has_restored_nothing(
    worlds: Worlds, tree: Tree, hold: Callable[[Worlds, Path], None]
) -> None:
    tree.add("m", b"weights")
    cache = later(tree.root)
    cache.unlink("m")
    held = next(tree.trash.glob("*/manifests/*/library/m/latest"))
    hold(worlds, held)
    try:
        cache.restore("m")
        restored = True
    except RegistryError as error:
        restored = "is restored" in str(error)
    assert restored == any(model.name.endswith("m:latest") for model in cache.models())
    assert broken(tree.root) == []


# What belongs to another user


def test_what_is_aside_of_another_owner_comes_back(worlds: Worlds, shared_tree: Tree) -> None:
    """A service may write in the directories, and the blobs are another user's."""
    tree = shared_tree
    tree.add("keep", b"k")
    for data in (b"1", b"2"):
        tree.add_blob(data)
    for path in (tree.root, tree.blobs):
        os.chown(path, SERVICE, SERVICE)
    give(SERVICE, tree.manifests)
    said = run_as(SERVICE, PUT_BACK, tree.root, manifest(b"1", b"2", config=b"k").decode())
    assert said == {"problems": [], "models": 2}
    assert broken(tree.root) == []


PUT_BACK = """
from datetime import timedelta
root, text = sys.argv[1:]

class Pulled(DiskStore):
    def condemn(self, names, when):
        yield from super().condemn(names, when)
        path = root + "/manifests/registry.ollama.ai/library/new"
        os.makedirs(path, exist_ok=True)
        with open(path + "/latest", "w") as file:
            file.write(text)

def cache(days):
    return ModelCache(Pulled(root), clock=lambda: time.time() + days * 86400)

problems = []
for days in (30, 60, 90):
    try:
        cache(days).prune()
    except RegistryError as error:
        problems.append(str(error))
report = cache(90).verify(repair=True)
answer({"problems": problems + [str(p) for p in report.problems], "models": report.models})
"""


@pytest.mark.parametrize("whose", ["blob", "manifest", "namespace"])
def test_what_is_of_another_user_stops_no_other(
    worlds: Worlds, shared_tree: Tree, whose: str
) -> None:
    tree = shared_tree
    tree.add("mine/latest", b"mine")
    tree.add("theirs/latest", b"theirs")
    paths = left_over(tree)
    give(SERVICE, tree.root)
    # Nobody else may remove what lies in a folder with the sticky bit.
    tree.blobs.chmod(0o1777)
    os.chown(tree.blobs, STRANGER, STRANGER)
    if whose == "blob":
        os.chown(paths[1], STRANGER, STRANGER)
        held = paths.pop(1)
    else:
        held = tree.path("theirs")
        folder = held.parent if whose == "manifest" else held.parents[1]
        folder.chmod(0o1777)
        os.chown(folder, STRANGER, STRANGER)
        os.chown(held if whose == "manifest" else held.parent, STRANGER, STRANGER)
    options = ["--age", "0", *(["--all"] if whose != "blob" else [])]
    code, said = command_as(SERVICE, "--models", tree.root, "prune", "--yes", *options)
    assert code == 1
    assert (held.name if whose == "blob" else "theirs") in said
    assert not any(path.exists() for path in paths)
    assert held.exists()
    assert broken(tree.root) == []


def test_a_namespace_that_one_may_not_enter_stops_only_what_it_must(
    worlds: Worlds, shared_tree: Tree
) -> None:
    """Nobody knows what it needs, so no blob goes; but deletes and restores of others work."""
    tree = shared_tree
    tree.add("mine", b"mine")
    hidden = tree.add("example.com/team/theirs/latest", b"theirs").parents[1]
    give(SERVICE, tree.root)
    os.chown(hidden, STRANGER, STRANGER)
    hidden.chmod(0o700)
    for arguments in (["rm", "mine"], ["restore", "mine"]):
        code, said = command_as(SERVICE, "--models", tree.root, *arguments)
        assert code == 0, said
    code, said = command_as(SERVICE, "--models", tree.root, "prune", "--yes", "--age", "0")
    assert code == 1
    assert "team" in said
    assert (tree.blobs / blob(b"theirs")).exists()


def test_verify_repairs_what_it_can(worlds: Worlds, tree: Tree) -> None:
    folder = tree.root / RUN
    folder.mkdir(parents=True)
    for data in (b"1", b"2", b"3"):
        (folder / blob(data)).write_bytes(data)
        tree.write(f"m{data.decode()}", manifest(data, config=b"k"))
    worlds.immutable(folder / blob(b"2"))
    report = later(tree.root).verify(repair=True)
    assert {problem.repaired for problem in report.problems} == {True, False}
    assert [problem.models for problem in report.problems if not problem.repaired] == [
        ("registry.ollama.ai/library/m2:latest",)
    ]


def test_a_directory_out_of_reach_is_not_absent(worlds: Worlds, shared_tree: Tree) -> None:
    shared_tree.root.parent.chmod(0o700)
    code, said = command_as(SERVICE, "--models", shared_tree.root, "list")
    assert code != 0
    assert "Permission denied" in said
    assert "no such directory" not in said
