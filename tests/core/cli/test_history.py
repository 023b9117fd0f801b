"""The command ``history``, and who has deleted what."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.requirements import require
from kit.trees import HOST, Tree
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.cache.history import acting

require("click", "rich")

from registry_wsgi.cli.commands import main  # noqa: E402 - see above

Run = Callable[..., str]

#: Who runs the tests, as a change has it.
ME = f"{pwd.getpwuid(os.geteuid()).pw_name}, CLI {os.uname().nodename}"


@pytest.fixture
def run(tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on a store of two models, and give its output."""
    for name in ("smol", "other"):
        tree.add(name, b"weights of " + name.encode())
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.delenv("SUDO_USER", raising=False)

    def run(*argv: str) -> str:
        assert main(argv) == 0
        return capsys.readouterr().out

    return run


def test_it_lists_the_latest_first(run: Run) -> None:
    """What, which model, and by whom."""
    assert run("history") == ""
    run("rm", "smol")
    run("restore", "smol")
    run("protect", "smol", "o*")
    lines = run("history").splitlines()
    assert lines[0].split() == ["WHEN", "WHAT", "MODEL", "SIZE", "BY"]
    assert [line.split()[2:4] for line in lines[1:]] == [
        ["protect", "o*"],
        ["protect", "smol:latest"],
        ["restore", "smol:latest"],
        ["delete", "smol:latest"],
    ]
    assert all(line.endswith(f"  {ME}") for line in lines[1:])


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_is_no_file_is_said(
    tree: Tree, run: Run, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing would look as if nothing had ever changed."""
    file = tree.root / "history.jsonl"
    if kind == "link":
        file.symlink_to(tree.root / "elsewhere")
    else:
        file.mkdir()
    assert main(["history"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}" in err
    assert "not a file" in err


def test_names_and_a_number_choose(run: Run) -> None:
    """Names, patterns, and those that a protection was given."""
    run("rm", "-y", "smol", "other")
    run("protect", "sm*")
    assert len(run("history", "-n", "1").splitlines()) == 2
    assert [one["action"] for one in json.loads(run("history", "s*", "--json"))] == ["delete"]
    assert [one["names"] for one in json.loads(run("history", "sm*", "--json"))] == [
        ["sm*"],
        [f"{HOST}/library/smol:latest"],
    ]
    assert main(["history", "no such name"]) == 2
    assert main(["history", "-n", "0"]) == 2


def test_many_models_stand_in_one_line(tree: Tree, run: Run) -> None:
    """The first three, and how many more."""
    for number in range(30):
        tree.add(f"m{number:02}", b"x")
    run("prune", "--all", "--age", "0", "--yes")
    assert "m03" not in run("history")
    assert " and 29 more  " in run("history")


def test_deleted_says_who(tree: Tree, run: Run) -> None:
    """If anybody is known; over HTTP it is the user and the address."""
    cache = ModelCache(DiskStore(tree.root))
    cache.unlink("other")
    assert run("deleted").splitlines()[0].split() == [
        "NAME",
        "SIZE",
        "DELETED",
        "RESTORABLE",
        "UNTIL",
    ]
    with acting("bob\x1b[2J", "HTTP 192.0.2.7"):
        cache.unlink("smol")
    heading, smol, other = run("deleted").splitlines()
    assert heading.endswith("BY")
    assert smol.endswith(r"bob\x1b[2J, HTTP 192.0.2.7")
    assert "HTTP" not in other
    by = {one["name"]: one["user"] for one in json.loads(run("deleted", "--json"))}
    assert by == {f"{HOST}/library/smol:latest": "bob\x1b[2J", f"{HOST}/library/other:latest": None}


def test_with_sudo_it_says_who_has_called_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as whom."""
    monkeypatch.setenv("SUDO_USER", "alice")
    run("rm", "smol")
    assert f"  alice as {ME}" in run("history")


def test_a_history_that_cannot_be_read_hides_no_deleted_model(tree: Tree, run: Run) -> None:
    """It is a folder here; the command that shows the history has none then."""
    run("rm", "smol")
    Path(tree.root, "history.jsonl").unlink()
    Path(tree.root, "history.jsonl").mkdir()
    assert "smol:latest" in run("deleted")
    assert run("history") == ""
    run("rm", "other")
