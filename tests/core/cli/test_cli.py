"""The command line: what each command does, says and answers, within this process."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import registry_wsgi
from kit.requirements import installation, require, require_command
from kit.trees import Tree, blob, broken, contents
from registry_wsgi import ModelCache, open_cache
from registry_wsgi.cache.results import Model
from registry_wsgi.cli.sample import make_sample
from registry_wsgi.errors import StoreError

require("click", "rich")

import click  # noqa: E402 - see above

from registry_wsgi.cli.commands import cli, main  # noqa: E402

SAMPLE = ["sample-chat:latest", "sample-chat:terse", "sample-embed:latest"]
COMMANDS = ["list", "rm", "deleted", "restore", "protect", "unprotect", "df", "orphans"]
COMMANDS += ["forget", "prune", "evict", "verify", "history", "serve", "demo", "completion"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample store, as the one that is configured."""
    root = tmp_path / "models"
    make_sample(root)
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command, and give its exit code, output and errors."""

    def run(*argv: str, program: str = "registry-wsgi") -> tuple[int, str, str]:
        code = main(argv, program)
        return (code, *capsys.readouterr())

    return run


def at(days: float, monkeypatch: pytest.MonkeyPatch) -> float:
    """Let the commands run that many days from now: nothing can look older than it is."""
    later = time.time() + days * 86_400
    monkeypatch.setattr(
        "registry_wsgi.cache.opening.open_cache",
        lambda location: open_cache(location, clock=lambda: later),
    )
    return later


# The sample


def test_the_sample_is_three_whole_models_of_a_few_kilobytes(tmp_path: Path) -> None:
    """Every blob that a manifest names is there, and has the content that its name says."""
    assert make_sample(tmp_path / "new" / "models") == SAMPLE
    assert broken(tmp_path) == []
    cache = open_cache(tmp_path / "new" / "models")
    assert [model.name.rpartition("/")[2] for model in cache.models()] == SAMPLE
    assert sum(map(len, contents(tmp_path).values())) < 10_000


def test_two_models_of_the_sample_share_their_weights(tmp_path: Path) -> None:
    """So what a delete leaves in place can be seen."""
    make_sample(tmp_path)
    shared = [model.shared for model in open_cache(tmp_path).models()]
    assert shared[0] == shared[1] > 1_000
    assert shared[2] == 0


def test_the_sample_can_be_made_again_in_its_place(tmp_path: Path) -> None:
    """Its content does not depend on when or where it is made."""
    make_sample(tmp_path)
    before = contents(tmp_path)
    make_sample(tmp_path)
    assert contents(tmp_path) == before


# list and deleted


def test_list_shows_names_sizes_and_times(sample: Path, run: Run) -> None:
    """The names are short, as Ollama shows them; what is not a terminal gets plain text."""
    code, out, err = run("list")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["NAME", "ID", "SIZE", "SHARED", "FREES", "ARRIVED", "LAST", "READ"]
    assert [line.split()[0] for line in lines[1:]] == SAMPLE
    (manifest,) = sample.glob("manifests/*/*/sample-chat/latest")
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    time = r"[\d-]{10} [\d:]{5}"
    assert re.fullmatch(
        rf"\S+ +{digest[:12]} +2\.1 kB +2\.1 kB +62 bytes +{time} +(?:-|{time})", lines[1]
    )


def test_list_takes_names_and_patterns_and_can_say_names_alone(sample: Path, run: Run) -> None:
    """As `rm` would take them, and what it says can be given to `rm`."""
    assert run("list", "-q") == (0, "".join(f"{name}\n" for name in SAMPLE), "")
    assert run("list", "-q", "*:te*", "sample-EMBED")[1].split() == SAMPLE[1:]
    assert [model["size"] for model in json.loads(run("list", "--json", "*embed*")[1])] == [1113]
    code, out, err = run("list", "sample-enbed")
    assert (code, out, "is it sample-embed:latest" in err) == (1, "", True)
    assert run("list", "none*")[0] == 1


def test_a_dry_run_of_rm_touches_nothing(sample: Path, run: Run) -> None:
    """It says what would go, and asks nothing."""
    before = contents(sample)
    code, out, _ = run("rm", "-n", "*chat*")
    assert (code, out.splitlines()[:3]) == (
        0,
        ["Would delete 2 models:", *(f"  {name}" for name in SAMPLE[:2])],
    )
    assert "will be freed, by the first prune after" in out
    assert run("rm", "-n", "--now", "sample-embed")[1].startswith("Would delete sample-embed:l")
    assert contents(sample) == before


def test_list_writes_exact_json(sample: Path, run: Run) -> None:
    """Bytes, and times in ISO form with their zone."""
    found = json.loads(run("list", "--json")[1])
    models = open_cache().models()
    assert [model["name"] for model in found] == [model.name for model in models]
    assert [model["size"] for model in found] == [2130, 2148, 1113]
    assert [datetime.fromisoformat(model["modified"]) for model in found] == [
        model.modified for model in models
    ]


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ([], [0, 1, 2]),
        (["--reverse"], [2, 1, 0]),
        (["--sort", "size"], [1, 0, 2]),
        (["--sort", "size", "--reverse"], [2, 0, 1]),
        (["--sort", "modified"], [2, 1, 0]),
    ],
)
def test_list_sorts(sample: Path, run: Run, options: list[str], order: list[int]) -> None:
    """By name from a to z, by size and time from the top."""
    for seconds, path in enumerate(sorted(sample.glob("manifests/*/*/*/*"))):
        os.utime(path, (later := time.time() + 1_000 * seconds, later))
    found = json.loads(run("list", "--json", *options)[1])
    assert [model["name"].rpartition("/")[2] for model in found] == [SAMPLE[i] for i in order]


def test_a_name_longer_than_a_line_is_whole(tree: Tree, run: Run) -> None:
    """Nothing is cut off or broken where a program reads."""
    name = f"{'h' * 240}/{'n' * 80}/{'m' * 80}:{'t' * 80}"
    tree.add(name.replace(":", "/"), b"weights")
    assert f"\n{name}  " in run("--models", str(tree.root), "list")[1]


def test_a_name_is_no_markup(tree: Tree, run: Run) -> None:
    """Nor an emoji: a host may have any number of colons."""
    tree.add("a:smile:1/ns/m/t", b"weights")
    assert "\na:smile:1/ns/m:t " in run("--models", str(tree.root), "list")[1]


def test_deleted_says_until_when_a_model_can_be_restored(sample: Path, run: Run) -> None:
    """And what it lacks, once its blobs are gone."""
    cache = open_cache()
    cache.unlink("sample-embed")
    cache.unlink("sample-chat")
    for path in sample.glob("trash/*/blobs/*"):
        if path.stat().st_size == 1_050:  # the weights of sample-embed
            (sample / "blobs" / path.name).unlink()
            path.unlink()
            gone = path.name.replace("-", ":")
    code, out, _ = run("deleted")
    head, first, second, lacks = out.splitlines()
    assert code == 0
    assert head.split() == ["NAME", "SIZE", "DELETED", "RESTORABLE", "UNTIL"]
    until = cache.deleted()[0].expires.astimezone()
    assert re.fullmatch(rf"sample-chat:latest +2\.1 kB .* {until:%Y-%m-%d %H:%M} *", first)
    assert re.fullmatch(r"sample-embed:latest .* not: blobs are gone *", second)
    assert lacks == f"sample-embed:latest lacks {gone}"
    chat, embed = json.loads(run("deleted", "--json")[1])
    assert (chat["restorable"], chat["missing"]) == (True, [])
    assert (embed["restorable"], embed["missing"]) == (False, [gone])
    assert datetime.fromisoformat(chat["expires"]) == cache.deleted()[0].expires


def test_deleted_sorts(sample: Path, run: Run) -> None:
    """The latest delete comes first, unless told otherwise."""
    for name in SAMPLE:
        open_cache().unlink(name)

    def names(*options: str) -> list[int]:
        found = json.loads(run("deleted", "--json", *options)[1])
        return [SAMPLE.index(model["name"].rpartition("/")[2]) for model in found]

    assert names() == [2, 1, 0]
    assert names("--sort", "expires") == [0, 1, 2]
    assert names("--sort", "size") == [1, 0, 2]
    assert names("--sort", "name", "--reverse") == [2, 1, 0]


@pytest.mark.parametrize("retention", ["0", "999999999w"])
def test_any_retention_can_be_shown(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch, retention: str
) -> None:
    """One that is past the end of the calendar, too."""
    monkeypatch.setenv("REGISTRY_WSGI_RETENTION", retention)
    assert run("rm", "sample-chat")[0] == 0
    assert run("deleted")[0] == 0


def test_an_empty_store_has_nothing_to_list(tree: Tree, run: Run) -> None:
    """No output, no error; in JSON, an empty list."""
    models = ["--models", str(tree.root)]
    assert run(*models, "list") == run(*models, "deleted") == (0, "", "")
    assert run(*models, "list", "--json") == (0, "[]\n", "")


@pytest.mark.parametrize("command", [["prune"], ["prune", "--age", "0"], ["verify", "--deep"]])
def test_a_models_directory_that_was_just_made_is_in_order(
    tmp_path: Path, run: Run, command: list[str]
) -> None:
    """There is nothing that could be lost; once there is a blob, its manifests cannot be absent."""
    code, out, err = run("--models", str(tmp_path), *command)
    assert (code, err) == (0, "")
    assert out in ("Removed nothing.\n", "0 models, 0 blobs, 0 bytes read: all is well\n")
    assert contents(tmp_path) == {}
    for folder in ("blobs", "trash", "condemned"):
        (tmp_path / folder / "x").mkdir(parents=True)
        code, out, err = run("--models", str(tmp_path), *command)
        assert (code, out) == (1, "")
        assert "manifests: no such directory, so it is not known" in err
        (tmp_path / folder / "x").rmdir()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [("list", "There are no models.\n"), ("deleted", "Nothing is deleted.\n")],
)
def test_at_a_terminal_an_empty_list_is_a_sentence(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, sentence: str
) -> None:
    """On stderr, as it is no result."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("--models", str(tree.root), command) == (0, "", sentence)


def test_a_model_under_a_path_that_makes_no_name_can_be_dealt_with(tree: Tree, run: Run) -> None:
    """It is listed by the path, which deletes and restores it, and no pattern means it."""
    tree.add("smol", b"weights")
    tree.add("registry.ollama.ai/library/sm ol/latest", b"odd")
    models, path = ["--models", str(tree.root)], "registry.ollama.ai/library/sm ol/latest"
    before = contents(tree.root)
    assert f"\n{path} " in run(*models, "list")[1]
    assert run(*models, "rm", "-y", "*")[1].startswith("Deleted smol:latest\n")
    assert run(*models, "rm", path)[1].startswith(f"Deleted {path}\n5 bytes will be freed")
    assert f"\n{path} " in run(*models, "deleted")[1]
    assert run(*models, "restore", path) == (0, f"Restored {path}\n", "")
    assert run(*models, "restore", "smol")[0] == 0
    assert contents(tree.root) == before
    for command in ("rm", "restore"):
        code, out, err = run(*models, command, "registry.ollama.ai/library/sm  ol/latest")
        assert (code, out) == (2, "")
        assert "invalid or missing name" in err


@pytest.mark.parametrize("digits", [20, 30, 400, 5_000])
def test_an_absurd_size_in_a_manifest_is_no_traceback(tree: Tree, run: Run, digits: int) -> None:
    """Whatever a manifest says, the commands say something, and the model can be deleted."""
    tree.add("smol", b"weights")
    path = tree.add("bad", b"w")
    path.write_text(path.read_text().replace('"size": 1}', f'"size": {"9" * digits}}}'))
    models = ["--models", str(tree.root)]
    assert "smol:latest" in run(*models, "list")[1]
    assert run(*models, "list", "--json")[0] == 0
    assert run(*models, "verify")[0] == 1
    assert run(*models, "rm", "bad")[0] == 0
    assert "bad:latest" in run(*models, "deleted")[1]
    assert run(*models, "deleted", "--json")[0] == 0
    assert run(*models, "prune", "--age", "0")[0] == 0


def test_a_damaged_manifest_is_a_line_on_stderr(tree: Tree, run: Run) -> None:
    """The other models are listed; the damaged one can be deleted by its name."""
    tree.add("smol", b"weights")
    tree.write("bad", b"{")
    models = ["--models", str(tree.root)]
    code, out, err = run(*models, "list")
    assert (code, out.count("\n")) == (0, 2)
    assert re.fullmatch(r"registry-wsgi: manifests/.*/bad/latest: not listed: .*\n", err)
    assert run(*models, "rm", "bad")[0] == 0
    assert run(*models, "list")[2] == ""


# What is typed before and after a command


@pytest.mark.parametrize(
    ("argv", "same"),
    [
        (["ls"], ["list"]),
        (["delete", "sample-embed"], ["rm", "sample-embed"]),
        (["remove", "absent"], ["rm", "absent"]),
    ],
)
def test_commands_have_the_names_of_other_programs_too(
    sample: Path, run: Run, argv: list[str], same: list[str]
) -> None:
    """They do the same; help names each once."""
    given = run(*argv)
    run("restore", "sample-embed")
    assert given == run(*same)


def test_options_of_the_group_work_after_the_command(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do before it."""
    monkeypatch.delenv("OLLAMA_MODELS")
    models = ["--models", str(sample)]
    assert run("list", *models) == run(*models, "list")
    assert run("--models", "/none", "list", *models)[0] == 0
    code, _, err = run("list", "--models", "/none")
    assert (code, "'--models': /none: no such directory" in err) == (2, True)
    before = logging.getLogger("registry_wsgi").level
    assert "registry-wsgi: reading manifests\n" in run("prune", *models, "-v", "--no-color")[2]
    assert logging.getLogger("registry_wsgi").level == before
    undo = run("rm", "sample-chat", *models)[1].splitlines()[-1]
    assert run(*shlex.split(undo[undo.index("--models") :]))[0] == 0


# rm and restore


def test_rm_says_what_is_freed_and_what_stays(sample: Path, run: Run) -> None:
    """And when, and how to undo it."""
    before = contents(sample)
    expires = datetime.now(UTC) + timedelta(days=7)
    code, out, err = run("rm", "sample-chat")
    deleted, outcome, stays, undo = out.splitlines()
    assert (code, err) == (0, "")
    assert deleted == "Deleted sample-chat:latest"
    assert outcome in {
        f"62 bytes will be freed, by the first prune after {when.astimezone():%Y-%m-%d %H:%M}."
        for when in (expires, expires + timedelta(minutes=1))
    }
    assert stays == "2.1 kB stay, as other models use them."
    assert undo.endswith(f" --models {sample} restore sample-chat:latest")
    assert run(*shlex.split(undo[undo.index("--models") :]))[0] == 0
    assert contents(sample) == before


def test_what_only_the_deleted_models_share_does_not_stay(sample: Path, run: Run) -> None:
    """The two that have their weights in common go together."""
    _, out, _ = run("rm", "--yes", "sample-chat", "sample-chat:terse")
    assert "\n2.2 kB will be freed, by the first prune after " in out
    assert "stay" not in out


def test_rm_takes_patterns(sample: Path, run: Run) -> None:
    """Of the short names, without regard to case; a model that is meant twice goes once."""
    code, out, _ = run("rm", "-y", "SAMPLE-chat:*", "sample-chat", "*:te[r]s?")
    assert code == 0
    assert out.splitlines()[:3] == ["Deleted 2 models:", *(f"  {name}" for name in SAMPLE[:2])]
    assert out.rstrip().endswith(f" restore {SAMPLE[0]} {SAMPLE[1]}")
    assert [model.name.rpartition("/")[2] for model in open_cache().models()] == SAMPLE[2:]


@pytest.mark.parametrize(
    "pattern",
    [
        *("*", "sample-*", "SAMPLE-chat:*", "*:te[r]se", "registry.ollama.ai/library/*", "*/*:*"),
        *("registry.ollama.ai/*/sample-?hat:*", "library/*", "example.com/*", "*/me/[!a]*"),
    ],
)
def test_rm_restore_and_verify_take_a_pattern_as_protect_does(
    tree: Tree, run: Run, pattern: str
) -> None:
    """The models that it would protect are those that it deletes, brings back and checks."""
    for name in ("sample-chat/latest", "sample-chat/terse", "embed/latest"):
        tree.add(name, b"weights")
    tree.add("example.com/me/sample-chat/latest", b"weights")
    models = ["--models", str(tree.root)]
    count = int(re.findall(r"\((\d) models? now\)", run(*models, "protect", pattern)[1])[0])
    marked = [line.split()[0] for line in run(*models, "list")[1].splitlines() if "yes" in line]
    run(*models, "unprotect", pattern)
    assert len(marked) == count
    code, out, err = run(*models, "rm", "-y", pattern)
    if not marked:
        assert (code, out, err) == (1, "", f'registry-wsgi: "{pattern}": nothing matches\n')
        return
    assert all(name in out for name in marked)
    left = [line.split()[0] for line in run(*models, "list")[1].splitlines()[1:]]
    assert (len(left), set(left) & {*marked}) == (4 - count, set())
    out = run(*models, "restore", pattern)[1]
    assert {line.split()[1] for line in out.splitlines()} == {*marked}
    assert run(*models, "verify", pattern)[1].startswith(f"{count} model")


def test_a_pattern_with_a_character_that_no_name_has_is_wrong_usage(sample: Path, run: Run) -> None:
    """As for `protect`: it could never match."""
    for command in (["rm", "-y"], ["restore"], ["verify"], ["protect"]):
        assert run(*command, "sam ple*")[0] == 2


def test_one_that_cannot_be_deleted_does_not_hold_up_the_others(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, the exit code tells, and the rest can be undone."""
    unlink = ModelCache.unlink

    def busy(self: ModelCache, name: str) -> bool:
        if "terse" in name:
            raise StoreError("/models/x: Device or resource busy")
        return unlink(self, name)

    monkeypatch.setattr(ModelCache, "unlink", busy)
    code, out, err = run("rm", "-y", "*")
    assert (code, err) == (1, "registry-wsgi: /models/x: Device or resource busy\n")
    assert out.startswith("Deleted 2 models:\n  sample-chat:latest\n  sample-embed:latest\nUndo")


@pytest.mark.parametrize("names", [["sample-chat", "sample-embed"], ["sample-embed*"]])
def test_rm_of_several_does_nothing_unasked(sample: Path, run: Run, names: list[str]) -> None:
    """Without a terminal to ask on it needs --yes, also for a pattern that matches one."""
    before = contents(sample)
    code, out, err = run("rm", *names)
    assert (code, out) == (2, "")
    assert err.startswith("registry-wsgi: there is no terminal to ask on: give --yes")
    assert contents(sample) == before


def test_rm_takes_all_or_none_of_the_names(sample: Path, run: Run) -> None:
    """One that is misspelt is noticed before the first is deleted."""
    before = contents(sample)
    assert run("rm", "--yes", "sample-chat", "sample-enbed")[0] == 1
    assert run("rm", "--yes", "sample-chat", "none*")[0] == 1
    assert run("rm", "--yes", "sample-chat", "../x")[0] == 2
    assert contents(sample) == before


def test_rm_of_thousands_is_not_a_flood(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are named; the line that undoes it brings all of them back, and no others."""
    for number in range(31):
        tree.add(f"m{number:02}", b"weights")
    models = ["--models", str(tree.root)]
    run(*models, "rm", "m30")
    before = contents(tree.root)
    lines = run(*models, "rm", "-y", "*")[1].splitlines()
    assert lines[0] == "Deleted 30 models:"
    assert lines[20:22] == ["  m19:latest", "  and 10 more"]
    assert len(lines) < 25
    assert len(lines[-1]) < 250
    assert run(*models, *shlex.split(lines[-1])[-4:])[0] == 0
    assert contents(tree.root) == before


def test_what_went_before_a_failure_can_be_undone(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line for it is printed all the same."""
    unlink = ModelCache.unlink

    def once(self: ModelCache, name: str) -> bool:
        return "terse" not in name and unlink(self, name)

    monkeypatch.setattr(ModelCache, "unlink", once)
    code, out, err = run("rm", "-y", "sample-chat*")
    assert code == 1
    assert out.startswith("Deleted sample-chat:latest\nUndo: ")
    assert "sample-chat:terse: it has just been deleted by another" in err


def test_restore_brings_models_back(sample: Path, run: Run) -> None:
    """They are there as before; what cannot be restored does not hold up the others."""
    before = contents(sample)
    open_cache().unlink("sample-chat")
    open_cache().unlink("sample-embed")
    code, out, err = run("restore", "sample-chat", "absent", "sample-chat:terse", "Sample-Embed")
    assert (code, out) == (1, "Restored sample-chat:latest\nRestored sample-embed:latest\n")
    assert "absent:latest: no deleted model has this name\n" in err
    assert "sample-chat:terse: no deleted model" in err
    assert err.count("\n") == 2
    assert contents(sample) == before


def test_restore_takes_patterns(sample: Path, run: Run) -> None:
    """All of the deleted that match, or those since a time."""
    for name in SAMPLE:
        open_cache().unlink(name)
    last = open_cache().deleted()[0].deleted
    assert run("restore", "--since", last.isoformat(), "*") == (0, f"Restored {SAMPLE[2]}\n", "")
    code, _, err = run("restore", "--since", f"{last.year + 1}-01-01", "*")
    assert (code, err) == (1, 'registry-wsgi: "*": nothing matches\n')
    assert run("restore", "sample-CHAT:*")[1].count("\n") == 2
    assert open_cache().deleted() == []


def test_restore_of_many_heeds_what_is_in_place(tree: Tree, run: Run) -> None:
    """A model that has come since stays, also in other letters; the rest comes back."""
    for name in ("a", "B", "c"):
        tree.add(name, b"weights")
        open_cache(tree.root).unlink(name)
    tree.add("a", b"newer")
    tree.add("b", b"newer")
    newer = [tree.path(name).read_bytes() for name in ("a", "b")]
    code, out, err = run("--models", str(tree.root), "restore", "*")
    assert (code, out) == (1, "Restored c:latest\n")
    assert sorted(re.findall(r"/(\w:latest): there is a model of this name", err)) == [
        "a:latest",
        "b:latest",
    ]
    assert [tree.path(name).read_bytes() for name in ("a", "b")] == newer


def test_restore_takes_an_older_delete(sample: Path, run: Run) -> None:
    """By its id or its time, as exact as that is; the error says which times there are."""
    for _ in range(2):
        open_cache().unlink(SAMPLE[0])
        newest = open_cache().deleted()[0]
        open_cache().restore(SAMPLE[0])
    open_cache().unlink(SAMPLE[0])
    when = open_cache().deleted()[0].deleted.astimezone()
    code, _, err = run("restore", SAMPLE[0], "--at", newest.id)
    assert (code, "is not a time" in err) == (2, True)  # that one has been restored
    year = when.year + 1
    code, _, err = run("restore", SAMPLE[0], "--at", f"{year}-01-01")
    message = f"no model of this name was deleted at {year}-01-01, but at {when:%Y-%m-%d %H:%M:%S}"
    assert (code, message in err) == (1, True)
    for exact in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        assert run("restore", SAMPLE[0], "--at", f"{when:{exact}}") == (
            0,
            f"Restored {SAMPLE[0]}\n",
            "",
        )
        open_cache().unlink(SAMPLE[0])
        when = open_cache().deleted()[0].deleted.astimezone()
    assert run("restore", SAMPLE[0], "--at", when.isoformat())[0] == 0
    open_cache().unlink(SAMPLE[0])
    assert run("restore", SAMPLE[0], "--at", open_cache().deleted()[0].id)[0] == 0


@pytest.mark.parametrize("command", ["rm", "restore", "verify"])
def test_unknown_names_suggest_the_nearest(sample: Path, run: Run, command: str) -> None:
    """Of the models, or of the deleted ones."""
    if command == "restore":
        open_cache().unlink("sample-embed")
    code, out, err = run(command, "sample-enbed")
    assert (code, out) == (1, "")
    assert "; is it sample-embed:latest" in err
    assert ";" not in run(command, "zzz")[2]


def test_the_undo_line_is_fit_for_a_shell(tmp_path: Path, run: Run) -> None:
    """Whatever the directory is called."""
    make_sample(root := tmp_path / "it's my $HOME/é")
    _, out, _ = run("--models", str(root), "rm", "sample-chat")
    words = shlex.split(out.splitlines()[-1])
    assert words[-4:] == ["--models", str(root), "restore", SAMPLE[0]]


def test_the_undo_line_drives_no_terminal(tmp_path: Path, run: Run) -> None:
    """A path may have anything in it."""
    make_sample(root := tmp_path / "\x1b[31m\n")
    _, out, _ = run("--models", str(root), "rm", "sample-chat")
    assert "\x1b" not in out
    assert out.count("\n") == 4


def test_the_undo_line_has_the_command_that_was_typed(sample: Path, run: Run) -> None:
    """That of a framework, or this very installation."""
    _, out, _ = run("rm", "sample-chat", program="flask registry")
    assert f"\nUndo: flask registry --models {sample} restore sample-chat:latest\n" in out
    _, out, _ = run("rm", "sample-embed")
    program = out.splitlines()[-1].removeprefix("Undo: ").partition(" --models")[0]
    assert program in ("registry-wsgi", f"{shlex.quote(sys.executable)} -m registry_wsgi")


# protect and unprotect


def test_a_protected_model_is_not_deleted(sample: Path, run: Run) -> None:
    """Neither by its name nor by a pattern, and then nothing else is; `list` shows which are."""
    assert run("protect", "Sample-Embed") == (
        0,
        "Protected sample-embed:latest (1 model now)\n",
        "",
    )
    before = contents(sample)
    refused = '"sample-embed:latest"\n'
    for names in (["sample-embed"], ["-y", "*"], ["-y", "sample-chat", "sample-embed:latest"]):
        code, out, err = run("rm", *names)
        assert (code, out) == (1, "")
        assert err == f"registry-wsgi: sample-embed:latest: is protected, by {refused}"
    assert contents(sample) == before
    head, *rows = run("list")[1].splitlines()
    assert head.split()[-1] == "PROTECTED"
    assert [row.split()[-1] == "yes" for row in rows] == [False, False, True]
    assert [model["protected"] for model in json.loads(run("list", "--json")[1])] == [0, 0, 1]
    assert run("unprotect", "sample-embed") == (0, "Unprotected sample-embed:latest\n", "")
    assert run("list")[1].split()[5] == "ARRIVED"
    assert run("rm", "sample-embed")[0] == 0


def test_protect_says_how_many_are_meant(sample: Path, run: Run) -> None:
    """So that a slip is seen; without a name it lists what it was told."""
    code, out, _ = run("protect", "sample-CHAT:*", "none*", "none*")
    assert code == 0
    assert out == "Protected sample-chat:* (2 models now)\nProtected none* (0 models now)\n"
    assert run("protect") == (0, "none*\nsample-chat:*\n", "")


def test_protect_and_unprotect_take_all_or_none_of_the_names(sample: Path, run: Run) -> None:
    """One that cannot be is noticed before the first."""
    assert run("protect", "sample-chat", "../x")[0] == 2
    assert run("protect")[1] == ""
    assert run("protect", "sample-*")[0] == 0
    code, out, err = run("unprotect", "sample-*", "sample-chat")
    assert (code, out) == (1, "")
    assert 'sample-chat:latest: is not protected by this name, but by "sample-*"' in err
    assert "other:latest: is not protected\n" in run("unprotect", "other")[2]
    assert "samp*: is not protected\n" in run("unprotect", "samp*")[2]
    assert run("protect")[1] == "sample-*\n"


def test_prune_says_what_it_keeps(sample: Path, run: Run) -> None:
    """Of all models the protected ones stay, with the blobs that they share."""
    run("protect", "sample-chat")
    code, planned, _ = run("prune", "--age", "0", "--all", "--dry-run")
    assert code == 0
    assert planned.endswith("\nWould keep 1 model that would go but for being protected.\n")
    out = run("prune", "--age", "0", "--all", "--yes")[1]
    assert out.startswith("Removed 2 models and ")
    assert out.endswith("\nKept 1 model that would go but for being protected.\n")
    assert [model.name.rpartition("/")[2] for model in open_cache().models()] == SAMPLE[:1]
    assert broken(sample) == []


# prune


def test_prune_removes_what_is_no_longer_needed(sample: Path, run: Run) -> None:
    """After a dry run that says the same and touches nothing; both name the models."""
    open_cache().unlink("sample-embed")
    assert run("prune") == (0, "Removed nothing.\n", "")
    before = contents(sample)
    code, planned, _ = run("prune", "--age", "0", "--dry-run")
    assert code == 0
    assert contents(sample) == before
    code, out, _ = run("prune", "--age", "0")
    lines = out.splitlines()
    assert code == 0
    assert lines[:2] == ["Removed 1 model and 2 blobs, 1.1 kB:", "  sample-embed:latest"]
    assert lines[3].split() == ["deleted", "1", "2", "1.1", "kB"]
    assert planned == out.replace("Removed", "Would remove")
    assert open_cache().deleted() == []


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--age", "10d"], ["old"]),
        ([], ["old", "young"]),  # the retention is a week
        (["--age", "10d", "--all"], ["old", "kept"]),
        (["--age", "0", "--all"], ["old", "young", "kept"]),
    ],
)
def test_prune_names_the_models_that_go(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], names: list[str]
) -> None:
    """Those that are old enough, and not protected, in the dry run and in the run."""
    for name, days in (("old", 0), ("young", 4)):
        tree.add(name, b"weights")
        deleted = time.time() + days * 86_400
        open_cache(tree.root, clock=lambda when=deleted: when).unlink(name)
    tree.add("kept", b"kept")
    tree.add("safe", b"safe")
    models = ["--models", str(tree.root)]
    run(*models, "protect", "safe")
    later = at(12, monkeypatch)
    monkeypatch.setattr(time, "time", lambda: later)
    for more in (["-n"], ["-y"]):
        out = run(*models, "prune", *options, *more)[1]
        assert sorted(re.findall("^  (.*):latest$", out, re.MULTILINE)) == sorted(names)


def test_prune_names_the_first_of_thousands_and_all_when_asked(tree: Tree, run: Run) -> None:
    """So that the numbers stay in sight."""
    for number in range(25):
        tree.add(f"m{number:02}", b"weights")
        open_cache(tree.root).unlink(f"m{number:02}")
    prune = ["--models", str(tree.root), "prune", "--age", "0", "-n"]
    lines = run(*prune)[1].splitlines()
    assert (len([line for line in lines if line.startswith("  m")]), lines[21]) == (
        20,
        "  and 5 more",
    )
    assert len(re.findall("^  m", run(*prune, "-v")[1], re.MULTILINE)) == 25


def test_what_is_deleted_while_prune_asks_stays(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is about what was shown."""
    open_cache().unlink("sample-embed")

    def confirm(question: str) -> None:
        assert question == "Remove for good?"
        open_cache().unlink("sample-chat")

    monkeypatch.setattr("registry_wsgi.cli.change.must_ask", lambda yes: not yes)
    monkeypatch.setattr("registry_wsgi.cli.change.confirm", confirm)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    out = run("prune", "--age", "0", "--all", "--before", later)[1]
    assert "sample-embed" in out
    assert "sample-chat:latest" not in out
    assert open_cache().restore("sample-chat").endswith("sample-chat:latest")
    assert broken(sample) == []


def test_prune_names_the_files_when_asked(tree: Tree, run: Run) -> None:
    """In the dry run and in the run, with the size, since when, and why."""
    tree.add("smol", b"weights")
    open_cache(tree.root).unlink("smol")
    orphan = tree.add_blob(b"an orphan")
    (tree.blobs / "notes.txt").write_bytes(b"notes")
    prune = ["--models", str(tree.root), "prune", "--age", "0"]
    for verb, option in (("Would remove", "-n"), ("Removed", "-y")):
        lines = run(*prune, option, "-v")[1].splitlines()
        assert lines[:2] == [f"{verb} 1 model and 4 blobs, 23 bytes:", "  smol:latest"]
        assert lines[2].split() == ["FILE", "SIZE", "SINCE", "WHY"]
        assert re.fullmatch(
            rf"{orphan.name} +9 bytes  [0-9-]+ [0-9:]+  needed by nothing", lines[3]
        )
        assert re.fullmatch(rf"{blob(b'weights')} +7 bytes  [0-9-]+ [0-9:]+  deleted", lines[4])
        assert re.fullmatch("notes.txt +5 bytes  [0-9-]+ [0-9:]+  foreign", lines[5])


def test_a_dry_run_that_would_remove_nothing_says_what_is_too_young(sample: Path, run: Run) -> None:
    """And from when on it goes; only a dry run says so."""
    cache = open_cache()
    cache.unlink("sample-embed")
    orphan = sample / "blobs" / f"sha256-{'0' * 64}"
    orphan.write_bytes(b"orphan")
    until = cache.deleted()[0].expires.astimezone()
    head, count, name, _, *rows, rule = run("prune", "-n")[1].splitlines()
    assert head == "Would remove nothing."
    assert count == "Not old enough to go: 1 model and 3 blobs, 1.1 kB:"
    assert name == "  sample-embed:latest"
    assert [row.split()[0] for row in rows] == ["deleted", "needed"]
    goes = datetime.fromtimestamp(orphan.stat().st_ctime + 7 * 86_400).astimezone()
    assert rule == (
        f"Deleted models go from {until:%Y-%m-%d %H:%M} on. What was not deleted goes from"
        f" {goes:%Y-%m-%d %H:%M} on, if nobody uses it."
    )
    until = cache.deleted()[0].deleted.astimezone() + timedelta(hours=12)
    assert (
        f"\nDeleted models go from {until:%Y-%m-%d %H:%M} on."
        in run("prune", "-n", "--age", "12h")[1]
    )
    assert run("prune", "--age", "12h") == (0, "Removed nothing.\n", "")
    run("prune", "--age", "0")
    assert run("prune", "-n") == (0, "Would remove nothing.\n", "")


def test_prune_writes_exact_json(sample: Path, run: Run) -> None:
    """The report, with its reasons."""
    open_cache().unlink("sample-embed")
    found = json.loads(run("prune", "--age", "0", "--json")[1])
    assert datetime.fromisoformat(found.pop("begun")).tzinfo is not None
    assert [item["bytes"] for item in found.pop("items")] == [1113, 1050, 63]
    assert found == {
        "models": 1,
        "blobs": 2,
        "bytes": 1113,
        "dry_run": False,
        "reasons": {"expired": {"models": 1, "blobs": 2, "bytes": 1113}},
        "held_blobs": 0,
        "held_bytes": 0,
        "held_until": None,
        "protected": 0,
        "failures": [],
        "failed": 0,
        "unsettled": False,
        "left_out": 0,
    }


def test_prune_says_what_it_holds_and_until_when(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a pull may be under way."""
    tree.add("smol", b"weights")
    tree.add_blob(b"orphan")
    prune = ("--models", str(tree.root), "prune", "--age", "15m")
    # Half an hour later: it is set aside after the age and the hold, and goes after another hold.
    half_past = at(1 / 48, monkeypatch)
    until = datetime.fromtimestamp(half_past - 1_800 + 900 + 2 * 86_400).astimezone()
    found = json.loads(run(*prune, "--dry-run", "--json")[1])
    assert (found["held_blobs"], found["held_bytes"]) == (1, 6)
    assert abs(datetime.fromisoformat(found["held_until"]) - until) < timedelta(seconds=1)
    assert run(*prune)[1] == (
        "Removed nothing.\nHolds 1 blob, 6 bytes, as a pull may need them. A prune takes them when"
        f" no pull is under way, at the latest from {until:%Y-%m-%d %H:%M}; with --quiet-store, if"
        " nobody is at work, at once.\n"
    )


def test_prune_all_takes_old_models_too(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are older than the age, and no others."""
    tree.add("old", b"old")
    later = at(30, monkeypatch)
    os.utime(tree.add("young", b"young"), (later, later))
    models = ["--models", str(tree.root)]
    code, out, _ = run(*models, "prune", "--all", "--age", "7d", "--yes")
    assert code == 0
    assert "\nolder than the age " in out
    assert [path.parent.name for path in tree.manifests.glob("*/*/*/*")] == ["young"]
    assert run(*models, "prune", "--age", "0", "--all", "-y")[0] == 0
    assert contents(tree.root) == {}


def test_prune_all_does_nothing_unasked(sample: Path, run: Run) -> None:
    """Without a terminal it needs --yes; a dry run does not."""
    before = contents(sample)
    code, out, err = run("prune", "--all", "--age", "0")
    assert (code, out) == (2, "")
    assert err.startswith("registry-wsgi: there is no terminal to ask on: give --yes")
    assert run("prune", "--all", "--age", "0", "--dry-run")[0] == 0
    assert contents(sample) == before


def test_prune_stops_at_a_damaged_manifest(sample: Path, run: Run) -> None:
    """One line that names the file."""
    (sample / "manifests/registry.ollama.ai/library/sample-chat/latest").write_text("{")
    code, out, err = run("prune", "--age", "0")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "library/sample-chat/latest" in err


def test_verbose_says_what_is_being_done(sample: Path, run: Run) -> None:
    """Where there is no terminal for a progress bar."""
    assert "registry-wsgi: reading manifests\n" in run("-v", "prune")[2]
    assert run("prune")[2] == ""


# verify


def test_verify_finds_models_whole(sample: Path, run: Run) -> None:
    """All, or those that are named; by size, or to the last byte."""
    assert run("verify") == (0, "3 models, 7 blobs, 3.3 kB, sizes only: all is well\n", "")
    code, out, _ = run("verify", "--deep", "--threads", "2", "sample-chat:*")
    assert (code, out) == (0, "2 models, 5 blobs, 2.2 kB read: all is well\n")


def test_verify_fails_when_something_is_wrong(sample: Path, run: Run) -> None:
    """What, in which models, and exit code 1; also in JSON."""
    (blob,) = [path for path in sample.glob("blobs/*") if path.stat().st_size == 1_050]
    blob.write_bytes(b"x" * 1_050)
    (sample / "blobs" / "\x1b[31mnotes").touch()
    digest = blob.name.replace("-", ":")
    assert run("verify")[0] == 0
    code, out, _ = run("verify", "--deep")
    assert code == 1
    assert f"corrupt {digest}: its content is sha256:" in out
    assert " (needed by sample-embed:latest)\n" in out
    assert "\nforeign \\x1b[31mnotes: it is no blob\n" in out
    assert out.endswith("read: 1 problem\nTry --repair. Pulling a model again mends it.\n")
    code, out, _ = run("verify", "--deep", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    assert [problem["kind"] for problem in found["problems"]] == ["corrupt", "foreign"]


def test_verify_repairs_from_the_trash(sample: Path, run: Run) -> None:
    """What is repaired is wrong no longer."""
    open_cache().unlink("sample-chat:terse")
    (blob,) = [path for path in sample.glob("blobs/*") if path.stat().st_size == 2_040]
    blob.unlink()
    code, out, _ = run("verify")
    assert code == 1
    assert out.startswith("missing sha256:")
    code, out, _ = run("verify", "--repair")
    assert code == 0
    assert out.startswith("repaired missing sha256:")
    assert broken(sample) == []


# What goes wrong


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see registry-wsgi --help"),
        (["--frobnicate"], "--frobnicate"),
        (["restore"], "Missing argument 'NAME...'; see registry-wsgi restore --help"),
        (["rm"], "Missing argument 'NAME...'; see registry-wsgi rm --help"),
        (["restore", "*", "--since", "x"], "Invalid value for '--since': \"x\" is not a time"),
        (["deleted", "a"], "Got unexpected extra argument (a); see registry-wsgi deleted --help"),
        (["list", "--sort", "x"], "'x' is not one of 'name', 'size', 'shared', 'frees', "),
        (["prune", "--age", "7"], 'invalid duration "7": write 0, 90s, 15m, 12h, 7d or 2w'),
        (["prune", "--age", "-1d"], 'invalid duration "-1d"'),
        (["prune", "--age"], "Option '--age' requires an argument"),
        (["restore", "../x"], 'invalid or missing name: "../x"'),
        (["rm", "a\nb"], 'invalid or missing name: "a\\nb"'),
        (["rm", ""], 'invalid or missing name: ""'),
        (["restore", "x" * 2_000], "invalid or missing name"),
        (["verify", "a b"], 'invalid or missing name: "a b"'),
        (["verify", "--threads", "0"], "0 is not in the range"),
        (["demo", "--port", "x"], "'x' is not a valid integer"),
        (["demo", "--port", "-1"], "-1 is not in the range 0<=x<=65535"),
        (["serve", "--port", "65536"], "65536 is not in the range"),
        (["serve", "--host", "0.0.0.0"], 'anyone who reaches "0.0.0.0" could delete'),
        (["serve", "--host", ""], 'anyone who reaches "" could delete'),
        (["serve", "--host", "example.com"], 'anyone who reaches "example.com" could delete'),
        (["serve", "--token-file", "/none"], "'/none' does not exist"),
        (["--models", "/none\n", "list"], "'--models': /none\\n: no such directory"),
        (["--models", "s4://x", "prune"], """'--models': "s4://x": not a directory"""),
        (["fro\x1b[31m"], "No such command 'fro\\x1b[31m'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_nonsense_is_a_usage_error(sample: Path, run: Run, argv: list[str], message: str) -> None:
    """Exit code 2, and one line on stderr."""
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"registry-wsgi: .*\n", err)
    assert message in err


@pytest.mark.parametrize("argv", [["list"], ["deleted"], ["restore", "x"], ["prune"], ["verify"]])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OLLAMA_MODELS", "/nonexistent/models", "/nonexistent/models: no such directory"),
        ("REGISTRY_WSGI_RETENTION", "7", 'invalid duration "7"'),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    sample: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    *,
    argv: list[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    """Which is a failure, as nothing was typed wrong."""
    monkeypatch.setenv(variable, value)
    code, out, err = run(*argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"registry-wsgi: {variable}: {message}")


def test_without_models_it_says_where_it_looked(run: Run, home: Path) -> None:
    """And what to do: the variable, the option, and the sample."""
    code, _, err = run("list")
    assert (code, err.count("\n")) == (1, 1)
    assert f"OLLAMA_MODELS: {home}/.ollama/models: no such directory; if the models are" in err
    assert "elsewhere, OLLAMA_MODELS says where" in err
    assert err.endswith(", and so does --models; to try it without any: registry-wsgi demo\n")


def test_what_is_near_the_models_directory_is_not_taken_for_it(sample: Path, run: Run) -> None:
    """It would look like an empty store."""
    (sample.parent / "file").touch()
    for place, said in (
        (sample.parent, f"has no models, but {sample} does: give that"),
        (sample / "blobs", f"is a part of {sample}: give that"),
        (sample / "manifests", f"is a part of {sample}: give that"),
        (sample.parent / "file", "not a directory"),
        (f"'{sample}'", "no such directory; the quotes are taken for a part of the name"),
    ):
        code, _, err = run("--models", str(place), "list")
        assert (code, f"{place}: {said}" in err) == (2, True), err


def test_what_is_out_of_reach_is_not_mended_by_a_pull(sample: Path, run: Run) -> None:
    """So that is not said of it, but of other problems."""
    folder = sample / "manifests" / "example.com"
    folder.symlink_to("nowhere")
    code, out, _ = run("verify")
    assert (code, "Pulling a model again" in out) == (1, False)
    assert out.startswith("out of reach example.com: ")
    folder.unlink()
    next(sample.glob("blobs/*")).unlink()
    code, out, _ = run("verify")
    assert (code, "Pulling a model again" in out) == (1, True)


def test_where_the_service_keeps_its_models_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If they are there."""
    monkeypatch.setattr("registry_wsgi.cache.opening._SERVICE", str(tmp_path))
    assert f"OLLAMA_MODELS says where, as for the models in {tmp_path}, and" in run("list")[2]


@pytest.mark.parametrize("written", ["'{}'", '"{}"', "  {} ", ' "{}"'])
def test_quotes_and_spaces_around_the_variable_are_not_part_of_it(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """As for Ollama; a variable with nothing else is unset."""
    monkeypatch.setenv("OLLAMA_MODELS", written.format(sample))
    assert "\nsample-embed:latest " in run("list")[1]
    monkeypatch.setenv("OLLAMA_MODELS", written.format(""))
    assert "/.ollama/models: no such directory" in run("list")[2]


def test_the_parent_of_a_models_directory_is_recognised(sample: Path, run: Run) -> None:
    """It would look like a store without models."""
    code, _, err = run("list", "--models", str(sample.parent))
    assert code == 2
    assert f"{sample.parent}: has no models, but {sample} does: give that" in err


def test_limits_of_evictions_that_cannot_be_kept_are_refused_before_a_worker_starts(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be a traceback in each worker."""
    require("gunicorn")
    for name, value in (("MAINTENANCE", "1"), ("EVICT_MAX_USED", "1GB"), ("EVICT_ROOM", "2GB")):
        monkeypatch.setenv(f"REGISTRY_WSGI_{name}", value)
    code, _, err = run("serve", "--port", "0")
    assert code == 1
    assert err.startswith("registry-wsgi: evict: room is larger than max_used")


@pytest.mark.parametrize("text", ["", " \n ", "\udcff"], ids=["empty", "blank", "not UTF-8"])
def test_a_token_file_without_a_token_is_refused(
    sample: Path, run: Run, tmp_path: Path, text: str
) -> None:
    """Rather than everyone let in; bytes that are no text are a token like any."""
    require("gunicorn")
    file = tmp_path / "token"
    file.write_bytes(os.fsencode(text))
    code, _, err = run("serve", "--host", "256.256.256.256", "--token-file", str(file))
    assert (code, err.count("\n")) == (1, 1)
    assert ("the token is missing or empty" in err) == (not text.strip())


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("json", "Invalid value for '--app': \"json\" is not MODULE:CALLABLE"),
        (":app", '":app" is not MODULE:CALLABLE'),
        ("nonexistent:app", 'there is no module "nonexistent"'),
    ],
)
def test_an_app_that_cannot_be_is_refused_at_once(
    sample: Path, run: Run, monkeypatch: pytest.MonkeyPatch, app: str, message: str
) -> None:
    """Before anything is started."""
    require("gunicorn")
    monkeypatch.setattr(sys, "path", [*sys.path])
    code, _, err = run("serve", "--port", "0", "--app", app)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize(
    ("argv", "package", "extra"),
    [(["list"], "rich", "cli"), (["serve"], "gunicorn.app.base", "serve")],
    ids=["rich", "gunicorn"],
)
def test_an_absent_package_says_what_to_install(
    sample: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    *,
    argv: list[str],
    package: str,
    extra: str,
) -> None:
    """One line, fit for a shell."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "registry_wsgi.cli.server", raising=False)
    code, out, err = run(*argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith(f": pip install 'registry-wsgi[{extra}]'\n")


def test_a_log_line_cannot_be_forged(tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in a message, it is one line and drives no terminal."""

    def models(cache: ModelCache) -> list[Model]:
        logging.getLogger("registry_wsgi").warning("a\nb\x1b[31m")
        return []

    monkeypatch.setattr(ModelCache, "models", models)
    assert run("--models", str(tree.root), "list")[2] == "registry-wsgi: a\\nb\\x1b[31m\n"


def test_the_log_is_left_as_it_was(sample: Path, run: Run) -> None:
    """For a program that calls this."""
    log = logging.getLogger("registry_wsgi")
    before = (log.level, [*log.handlers])
    run("-v", "list")
    assert (log.level, log.handlers) == before


# Help


def test_help_names_the_commands(run: Run) -> None:
    """In the order of use, each with a whole line; without a command, too."""
    code, out, _ = run("--help")
    assert code == 0
    assert run() == (0, out, "")
    lines = out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(run: Run, command: str) -> None:
    """Every option says what it does."""
    code, out, _ = run(command, "-h")
    assert code == 0
    assert out.startswith(f"Usage: registry-wsgi {command} [OPTIONS]")
    options = [x for x in cli.commands[command].params if isinstance(x, click.Option)]
    assert all(option.help for option in options)


def test_the_version_is_that_of_the_package(run: Run) -> None:
    """As its metadata has it."""
    version = installation().version
    assert run("--version") == (0, f"registry-wsgi, version {version}\n", "")


@pytest.mark.parametrize(
    ("command", "loaded"),
    [
        (["--help"], "rich"),
        *((command, "rich.console") for command in (["list"], ["deleted"], ["verify"])),
        (["prune", "--age", "0"], "rich.console"),
        (["restore", "sample-embed"], "rich.console"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_nobody_looks_at_loads_neither_rich_nor_a_server(
    sample: Path, command: list[str], loaded: str
) -> None:
    """So it is there at once. (How sizes are written is a small part of rich.)"""
    open_cache().unlink("sample-embed")
    script = f"""\
import sys
from registry_wsgi.cli.commands import main
assert main({command}) == 0
loaded = {{"{loaded}", "rich.table", "gunicorn", "flask", "django"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(registry_wsgi.__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(("command", "expected"), [("rm", SAMPLE[:2]), ("restore", SAMPLE[2:])])
def test_names_are_completed(
    sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, command: str, expected: list[str]
) -> None:
    """As the shell asks for it; those of `--models` too, and none if they cannot be read."""
    open_cache().unlink("sample-embed")
    monkeypatch.setenv("_REGISTRY_WSGI_COMPLETE", "bash_complete")

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", shlex.join(["registry-wsgi", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            main([])
        return re.findall("^plain,(.*)$", capsys.readouterr().out, re.MULTILINE)

    assert complete(command, "Sam") == expected
    monkeypatch.delenv("OLLAMA_MODELS")
    assert complete("--models", str(sample), command, "sam") == expected
    assert complete(command, "--models", str(sample), "sam") == expected
    assert complete(command, "sam") == []


def test_directories_are_completed_by_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """After the option that takes one."""
    monkeypatch.setenv("_REGISTRY_WSGI_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "registry-wsgi list --models /sr")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out == "dir,/sr\n"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--larger", "2KB"], ["sample-chat:latest", "sample-chat:terse"]),
        (["--larger", "1GB"], []),
        (["--older", "2d"], ["sample-chat:latest"]),
        (["--older", "1d", "--larger", "2KB", "sample-e*"], []),
        (["--older", "0"], SAMPLE),
    ],
)
def test_a_list_can_be_of_large_and_of_old_models(
    sample: Path, run: Run, options: list[str], names: list[str]
) -> None:
    """Larger than a size; arrived longer ago than a duration."""
    (manifest,) = sample.glob("manifests/*/*/sample-chat/latest")
    os.utime(manifest, (time.time() - 3 * 86_400,) * 2)
    for other in sample.glob("manifests/*/*/*/*"):
        if other != manifest:
            os.utime(other, (time.time() - 60,) * 2)
    assert run("list", "-q", *options) == (0, "".join(f"{name}\n" for name in names), "")
    for wrong in (["--larger", "ten"], ["--older", "7"]):
        code, _, err = run("list", *wrong)
        assert (code, "invalid" in err) == (2, True)


def test_what_changes_the_store_says_it_in_json_too(sample: Path, run: Run) -> None:
    """All that was done, also beside what failed."""

    def done(*arguments: str) -> tuple[int, Any]:
        code, out, _ = run(*arguments, "--json")
        return code, json.loads(out)

    full = [f"registry.ollama.ai/library/{name}" for name in SAMPLE]
    code, plan = done("rm", "sample-chat*", "--dry-run")
    assert (code, plan["models"], plan["dry_run"]) == (0, full[:2], True)
    assert plan["size"] > 0
    gone = {"models": full[:2], "dry_run": False, "restorable": True}
    assert done("rm", "sample-chat*", "--yes") == (0, gone)
    assert done("restore", "sample-chat", "absent") == (1, {"models": full[:1]})
    gone = {"models": full[:1], "dry_run": False, "restorable": False}
    assert done("rm", "--now", "--yes", "sample-chat") == (0, gone)
    kept = {"pattern": "sample-e*", "models": full[2:]}
    assert done("protect", "sample-e*") == done("protect") == (0, [kept])
    assert done("unprotect", "sample-e*") == (0, [{"pattern": "sample-e*"}])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_is_printed(run: Run, shell: str) -> None:
    """For each shell; bash takes a name with its tag for one word then."""
    code, out, _ = run("completion", shell)
    assert (code, f"_REGISTRY_WSGI_COMPLETE={shell}_complete" in out) == (0, True)
    if shell == "bash":
        require_command("bash")
        done = subprocess.run(
            ["bash", "-c", f'COMP_WORDBREAKS=" :="\n{out}\necho "[$COMP_WORDBREAKS]"'],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "[ =]\n"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal of the person who runs the tests does not matter."""
    for variable in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
