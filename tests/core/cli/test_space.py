"""The commands about space: what they say, free and answer."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clocks import HOUR
from kit.requirements import require
from kit.trees import Tree, blob, broken
from registry_wsgi import ModelCache, open_cache

require("click", "rich")

from registry_wsgi.cli.commands import main  # noqa: E402 - see above

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def models(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Two models that share a blob, two days ago."""
    tree.add("smol", b"weights" * 1000, b"template")
    tree.add("other", b"other", b"template")
    later = time.time() + 48 * HOUR
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.setattr(
        "registry_wsgi.cache.opening.open_cache",
        lambda location: open_cache(location, clock=lambda: later),
    )
    return tree


@pytest.fixture
def cache(models: Tree) -> ModelCache:
    """The cache that the commands use."""
    return ModelCache(open_cache(models.root).store, clock=lambda: time.time() + 48 * HOUR)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], models: Tree) -> Run:
    """Run a command, and give its exit code, output and errors."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        return (code, *capsys.readouterr())

    return run


def test_forget_frees_the_space_of_one_model(models: Tree, cache: ModelCache, run: Run) -> None:
    """It says how much, and nothing else goes."""
    cache.unlink("smol")
    cache.unlink("other")
    assert run("forget", "smol", "-n") == (
        *(0, "Would remove for good smol:latest\n7.0 kB would be freed.\n", ""),
    )
    assert run("forget", "--yes", "smol") == (
        *(0, "Removed for good smol:latest\n7.0 kB are free now.\n", ""),
    )
    assert not (models.blobs / blob(b"weights" * 1000)).exists()
    assert [model.name.rpartition("/")[2] for model in cache.deleted()] == ["other:latest"]
    assert run("restore", "other") == (0, "Restored other:latest\n", "")
    assert broken(models.root) == []


def test_forget_takes_patterns_and_gives_json(cache: ModelCache, run: Run) -> None:
    cache.unlink("smol")
    cache.unlink("other")
    code, out, err = run("forget", "-y", "*", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["models"] == 2
    assert cache.deleted() == []


def test_forget_takes_one_of_several_deletes(models: Tree, cache: ModelCache, run: Run) -> None:
    cache.unlink("smol")
    models.add("smol", b"newer")
    cache.unlink("smol")
    older = cache.deleted()[-1]
    assert run("forget", "-y", "smol", "--at", older.id)[0] == 0
    assert [model.size for model in cache.deleted()] != [older.size]
    code, _, err = run("forget", "-y", "smol", "--at", "2020-01-01")
    assert (code, "was deleted at 2020-01-01, but at" in err) == (1, True)
    cache.unlink("other")
    code, _, err = run("forget", "-y", "smol", "other", "--at", older.id)
    assert (code, err.partition(";")[0]) == (*(2, "registry-wsgi: --at goes with a single name"),)


def test_forget_asks(cache: ModelCache, run: Run) -> None:
    """Without a terminal it needs --yes, and nothing is changed."""
    cache.unlink("smol")
    code, _, err = run("forget", "smol")
    assert (code, "there is no terminal to ask on" in err) == (2, True)
    code, _, err = run("forget", "-y", "absent")
    assert (code, "absent:latest: no deleted model has this name" in err) == (1, True)
    assert len(cache.deleted()) == 1


def test_forget_says_what_waits_and_how_it_would_not(
    models: Tree, cache: ModelCache, run: Run
) -> None:
    """A download is under way."""
    cache.unlink("smol")
    partial = models.blobs / f"sha256-{'0' * 64}-partial"
    partial.write_bytes(b"half")
    when = time.time() + 48 * HOUR
    os.utime(partial, (when, when))
    code, out, _ = run("forget", "-y", "smol")
    assert code == 0
    assert out.startswith("Removed nothing: a download is under way, which may use 1 blob, 7.0 kB.")
    assert " restore other:latest\n" in run("rm", "--now", "-y", "other")[1]
    assert run("forget", "-y", "smol", "--quiet-store")[1].endswith("7.0 kB are free now.\n")
    assert run("prune", "--age", "1h", "--quiet-store")[1].startswith("Removed nothing.")
    assert partial.exists()


def test_rm_now_says_what_a_download_holds_back(models: Tree, run: Run) -> None:
    """The dry run as the run, and the model is in the trash."""
    partial = models.blobs / f"sha256-{'0' * 64}-partial"
    partial.write_bytes(b"half")
    when = time.time() + 48 * HOUR
    os.utime(partial, (when, when))
    out = run("rm", "-n", "--now", "smol")[1]
    assert "Nothing will be freed now: a download is under way, which may use 1 blob, 7.0" in out
    assert json.loads(run("rm", "-n", "--now", "smol", "--json")[1])["restorable"]
    out = run("rm", "--now", "-y", "smol")[1]
    assert out.startswith("Removed nothing: a download is under way, which may use 1 blob, 7.0 kB.")
    assert "will be freed" not in out
    assert run("restore", "smol")[0] == 0


def test_rm_now_foretells_what_waits_in_a_store_in_use(models: Tree, run: Run) -> None:
    """A blob came of late, and a pull may have begun that does not show."""
    models.add("third", b"third")
    when = time.time() + 48 * HOUR
    os.utime(models.blobs, (when, when))
    out = run("rm", "-n", "--now", "smol")[1]
    assert "0 bytes will be freed now.\n1 blob, 7.0 kB, wait for a later prune" in out
    assert not json.loads(run("rm", "-n", "--now", "smol", "--json")[1])["restorable"]
    out = run("rm", "--now", "-y", "smol")[1]
    assert "0 bytes are free now.\nHolds 1 blob, 7.0 kB" in out
    assert run("restore", "smol")[0] == 1


def test_rm_now_leaves_no_way_back(models: Tree, cache: ModelCache, run: Run) -> None:
    """But to earlier deletes of that name."""
    ModelCache(cache.store).unlink("smol")
    models.add("smol", b"newer")
    code, _, err = run("rm", "--now", "smol")
    assert (code, "there is no terminal to ask on" in err) == (2, True)
    assert run("rm", "--now", "-y", "smol") == (
        *(0, "Removed for good smol:latest\n5 bytes are free now.\n", ""),
    )
    assert not (models.blobs / blob(b"newer")).exists()
    assert run("restore", "smol")[0] == 0
    assert broken(models.root) == []


def test_rm_now_that_cannot_free_says_how_to_undo(models: Tree, run: Run) -> None:
    """A manifest that cannot be read: nobody knows what it needs."""
    models.write("bad", b"{")
    code, out, err = run("rm", "--now", "-y", "smol")
    assert code == 1
    assert "bad" in err
    assert "restore smol:latest" in out
    Path(models.path("bad")).unlink()
    assert run("restore", "smol")[0] == 0


def test_prune_leaves_what_was_deleted_after_a_time(cache: ModelCache, run: Run) -> None:
    """By the clock of this machine, or with an offset."""
    cache.unlink("smol")
    cache.unlink("other")
    later, earlier = (model.deleted for model in cache.deleted())
    assert run("prune", "--age", "0", "--before", "2020-01-01")[1] == "Removed nothing.\n"
    assert run("prune", "--age", "0", "--before", earlier.isoformat())[0] == 0
    assert [model.deleted for model in cache.deleted()] == [later]
    assert run("prune", "--before", "soon")[0] == 2


def test_df_shows_what_takes_the_space_and_what_frees_it(
    models: Tree, cache: ModelCache, run: Run
) -> None:
    """The numbers are those of the library; one model that cannot be read is named."""
    models.add_blob(b"orphan")
    cache.unlink("smol")
    code, out, err = run("df")
    assert (code, err) == (0, "")
    table, commands = (part.splitlines() for part in out.split("\n\n"))
    assert [line.split("  ")[0] for line in table] == [
        *("WHAT", "of one model", "shared by models", "in the trash", "set aside by a prune"),
        *("needed by nothing", "unfinished", "manifests, folders and the rest", "together"),
        *("other files", "free", "disk", "1 model, 1 in the trash"),
    ]
    assert table[5].split()[:7] == ["needed", "by", "nothing", "1", "6", "bytes", "4.1"]
    assert [line.split("  ")[0] for line in commands] == [
        *("COMMAND", "prune", "prune --age 0", "forget '*'"),
    ]
    space = cache.space()
    assert json.loads(run("df", "--json")[1])["total"] == dataclasses.asdict(space.total)
    (models.manifests / "registry.ollama.ai" / "library" / "other" / "latest").write_bytes(b"{")
    code, out, err = run("df")
    assert out.endswith("No blob is removed until these are deleted or put right: other:latest\n")
    assert "not a manifest" in err


def test_df_says_that_a_download_holds_something_back(
    models: Tree, cache: ModelCache, run: Run
) -> None:
    """As the prune does; and not that of a store at rest."""
    cache.unlink("smol")
    space = cache.space()
    assert space.held is None
    assert space.frees["forget *"].now > 7_000
    assert "Later, as" not in run("df")[1]
    partial = models.blobs / f"sha256-{'0' * 64}-partial"
    partial.write_bytes(b"half")
    when = time.time() + 48 * HOUR
    os.utime(partial, (when, when))
    assert run("df")[1].splitlines()[-1].startswith("Later, as a download is under way, and may")
    frees = json.loads(run("df", "--json")[1])["frees"]
    assert [frees[command]["now"] for command in ("prune", "forget *")] == [0, 0]
    assert frees["forget *"]["later"] == space.frees["forget *"].now
    assert frees["prune --age 0"]["now"] > 7_000
    assert run("forget", "-y", "smol")[1].startswith("Removed nothing")


def test_orphans_are_listed(models: Tree, run: Run) -> None:
    """With their age, what left them, and when they go."""
    assert run("orphans") == (0, "", "")
    orphan = models.add_blob(b"orphan").name
    (models.blobs / "split-gguf-1").mkdir()
    head, one, other = run("orphans")[1].splitlines()
    assert head.split() == ["FILE", "SIZE", "AGE", "LIKELY", "CAUSE", "GOES"]
    assert re.fullmatch(rf"{orphan} +6 bytes +now +delete by another program +[0-9-]+", one)
    assert re.fullmatch("blobs/split-gguf-1 +0 bytes +now +unfinished create +[0-9-]+", other)
    assert [found["file"] for found in json.loads(run("orphans", "--json")[1])] == [
        *(orphan, "blobs/split-gguf-1"),
    ]


def test_with_manifests_out_of_reach_nothing_is_an_orphan(models: Tree, run: Run) -> None:
    """The list would be taken for one of what may be removed."""
    models.manifests.rename(models.root / "gone")
    code, out, err = run("orphans")
    assert (code, out) == (1, "")
    assert "not known which blobs are needed" in err
    code, out, _ = run("df")
    assert (code, out.splitlines()[-1].partition(": ")[0]) == (0, "Nothing can be freed")
    assert json.loads(run("df", "--json")[1])["frees"]["prune"]["now"] == 0


def test_orphans_of_a_damaged_model_have_no_cause(models: Tree, run: Run) -> None:
    """Nobody knows what such a model needs, and nothing goes."""
    (models.manifests / "registry.ollama.ai" / "library" / "other" / "latest").write_bytes(b"{")
    line = run("orphans")[1].splitlines()[1]
    assert line.rstrip().endswith("unknown: a manifest cannot be read")


def test_list_says_what_deleting_each_model_frees(run: Run) -> None:
    """That is what no other uses."""
    assert [model["frees"] for model in json.loads(run("list", "--json")[1])] == [5, 7_000]
    rows = [line.split() for line in run("list", "--sort", "frees")[1].splitlines()[1:]]
    assert [row[6:8] for row in rows] == [["7.0", "kB"], ["5", "bytes"]]
