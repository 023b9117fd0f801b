"""A check ends, reports all that is wrong, and repairs what can be."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from kit.clocks import later
from kit.os_seam import Call, watched
from kit.trees import HOST, Tree, blob, broken
from kit.users import SERVICE, command_as, give
from kit.worlds import Worlds
from registry_wsgi import LocalRegistry
from registry_wsgi.__main__ import main

pytestmark = pytest.mark.world

RUN = "condemned/2026-01-01T00-00-00.000000Z-00000000"
DATA = b"weights" * 100


def test_a_short_blob_is_replaced_by_the_full_one_aside(tree: Tree) -> None:
    tree.add("m", DATA)
    path = tree.blobs / blob(DATA)
    (tree.root / RUN).mkdir(parents=True)
    path.rename(tree.root / RUN / path.name)
    path.write_bytes(b"weig")
    report = later(tree.root).verify(repair=True)
    assert [(problem.kind, problem.repaired) for problem in report.problems] == [
        ("wrong size", True)
    ]
    assert broken(tree.root) == []


def test_a_short_blob_is_replaced_by_the_full_one_in_the_trash(tree: Tree) -> None:
    tree.add("m", DATA)
    later(tree.root).unlink("m")
    tree.add("m", DATA)
    path = tree.blobs / blob(DATA)
    path.unlink()
    path.write_bytes(b"weig")
    assert later(tree.root).verify(repair=True).ok
    assert broken(tree.root) == []


def test_a_prune_leaves_the_full_one_where_only_a_short_one_is_in_place(tree: Tree) -> None:
    tree.add("m", DATA)
    path = tree.blobs / blob(DATA)
    (tree.root / RUN).mkdir(parents=True)
    path.rename(tree.root / RUN / path.name)
    path.write_bytes(b"weig")
    for age in (None, 0):
        later(tree.root).prune(age=age)
    later(tree.root).verify(repair=True)
    assert broken(tree.root) == []


def test_a_blob_that_is_too_long_is_replaced_as_well(tree: Tree) -> None:
    tree.add("m", DATA)
    path = tree.blobs / blob(DATA)
    (tree.root / RUN).mkdir(parents=True)
    path.rename(tree.root / RUN / path.name)
    path.write_bytes(DATA + b"more")
    assert later(tree.root).verify(repair=True).ok
    assert broken(tree.root) == []


@pytest.mark.parametrize("place", [RUN, "trash"])
def test_what_is_aside_is_not_trusted_for_its_size(tree: Tree, place: str) -> None:
    """A deep check that repairs reads what it puts back."""
    tree.add("m", DATA)
    path = tree.blobs / blob(DATA)
    if place == RUN:
        (tree.root / RUN).mkdir(parents=True)
        aside = tree.root / RUN / path.name
    else:
        later(tree.root).unlink("m")
        aside = next(tree.trash.glob(f"*/blobs/{path.name}"))
        aside.unlink()
        tree.add("m", DATA)
    path.unlink()
    aside.write_bytes(DATA[::-1])
    report = later(tree.root).verify(deep=True, repair=True)
    assert not report.ok


SIZES = ["9" * 19, "9" * 20, "9" * 400, "9" * 5000, str(2**63), "1e400", "1e30", "-1"]


@pytest.mark.parametrize("size", SIZES)
def test_an_absurd_size_is_a_problem_and_no_traceback(
    tree: Tree, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add("good", b"g")
    path = tree.add("bad", b"b")
    path.write_bytes(path.read_bytes().replace(b'"size": 1', b'"size": ' + size.encode()))
    models = ["--models", str(tree.root)]
    for arguments in (
        ["list"],
        ["list", "--json"],
        ["verify"],
        ["verify", "--repair"],
        ["prune", "--dry-run"],
        ["rm", "bad"],
        ["deleted"],
        ["deleted", "--json"],
        ["prune", "--yes", "--age", "0"],
    ):
        code = main([*models, *arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        if arguments[-1] in ("verify", "--repair"):
            assert (code, "bad" in said.out + said.err) == (1, True)
        if "--json" in arguments:
            json.loads(said.out)
    assert later(tree.root).verify().ok
    assert len(later(tree.root).models()) == 1


@pytest.mark.parametrize("size", SIZES)
def test_it_is_none_over_http_either(tree: Tree, size: str) -> None:
    path = tree.add("bad", b"b")
    path.write_bytes(path.read_bytes().replace(b'"size": 1', b'"size": ' + size.encode()))
    client = Client(LocalRegistry(None, later(tree.root), maintenance=True))
    assert client.delete("/api/delete", json={"model": "bad"}).status_code == 200
    assert client.get("/api/deleted").status_code == 200


@pytest.mark.parametrize("level", range(5))
def test_a_dangling_link_among_the_manifests_is_a_problem(
    tree: Tree, level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ollama lists no model at all then."""
    path = tree.add("example.com/team/m/v1", DATA)
    place = [path, *path.parents][level]
    place.with_name("there").symlink_to("nowhere") if level < 4 else None
    if level == 4:
        place.rename(place.with_name("away"))
        place.symlink_to("nowhere")
    code = main(["--models", str(tree.root), "verify"])
    said = capsys.readouterr()
    assert code == 1
    assert ("there" if level < 4 else "manifests") in said.out + said.err
    if level < 4:
        report = later(tree.root).verify()
        assert report.models == 1
        assert not report.ok


def test_a_directory_out_of_reach_is_a_problem_and_the_rest_is_checked(
    worlds: Worlds, shared_tree: Tree
) -> None:
    tree = shared_tree
    for number in range(3):
        tree.add(f"example.com/team{number}/m/v1", b"%d" % number)
    give(SERVICE, tree.root)
    (tree.blobs / blob(b"2")).unlink()
    hidden = tree.path("example.com/team1/m/v1").parents[1]
    give(0, hidden)
    hidden.chmod(0o700)
    code, said = command_as(SERVICE, "--models", tree.root, "verify")
    assert code == 1
    assert "team1" in said
    assert blob(b"2")[7:19] in said


def test_a_blob_that_cannot_be_read_is_a_problem_and_the_rest_is_checked(
    worlds: Worlds, shared_tree: Tree
) -> None:
    tree = shared_tree
    for number in range(3):
        tree.add(f"m{number}", b"%d" % number)
    give(SERVICE, tree.root)
    (tree.blobs / blob(b"2")).write_bytes(b"x")
    path = tree.blobs / blob(b"1")
    os.chown(path, 0, 0)
    path.chmod(0o600)
    code, said = command_as(SERVICE, "--models", tree.root, "verify", "--deep")
    assert code == 1
    for data in (b"1", b"2"):
        assert blob(data)[7:19] in said


def test_a_coming_layout_is_told_of_and_the_rest_is_checked(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add("m", DATA)
    path = tree.root / "manifests-v2" / HOST / "library" / "m" / "latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(tree.path("m").read_bytes())
    for arguments, code in ((["list"], 0), (["verify"], 1), (["rm", "m"], 0)):
        assert main(["--models", str(tree.root), *arguments]) == code, arguments
        said = capsys.readouterr()
        assert "manifests-v2" in said.out + said.err, arguments
    assert later(tree.root).models() == []


def test_reading_changes_no_time_of_access(worlds: Worlds) -> None:
    place = worlds.tmpfs()
    subprocess.run(["mount", "-o", "remount,strictatime", place], check=True)
    tree = Tree(place / "models")
    tree.add("m", DATA)
    path = tree.blobs / blob(DATA)
    os.utime(path, (1, 1))
    assert later(tree.root).verify(deep=True).ok
    assert path.stat().st_atime == 1


def test_who_is_not_the_owner_reads_all_the_same(worlds: Worlds, shared_tree: Tree) -> None:
    shared_tree.add("m", DATA)
    code, said = command_as(SERVICE, "--models", shared_tree.root, "verify", "--deep")
    assert code == 0, said


def test_what_is_read_does_not_stay_in_memory(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of gigabytes would push out what others need."""
    tree.add("m", DATA)
    advice: list[tuple[Any, ...]] = []
    real = os.posix_fadvise

    def posix_fadvise(*arguments: Any) -> None:
        advice.append(arguments)
        real(*arguments)

    monkeypatch.setattr(os, "posix_fadvise", posix_fadvise)
    assert later(tree.root).verify(deep=True).ok
    assert {arguments[3] for arguments in advice} >= {os.POSIX_FADV_DONTNEED}


def test_a_file_that_is_gone_in_the_midst_ends_nothing(tree: Tree) -> None:
    tree.add("m", DATA)
    tree.add("n", b"n")

    def hook(call: Call) -> None:
        if os.path.basename(call.path) == blob(DATA):
            Path(tree.blobs / blob(DATA)).unlink(missing_ok=True)

    with watched(hook, ["open"]):
        report = later(tree.root).verify(deep=True)
    assert report.models == 2
