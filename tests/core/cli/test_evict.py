"""``registry-wsgi evict``: what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from kit.clocks import DAY
from kit.requirements import require
from kit.trees import Tree, blob
from registry_wsgi import DiskStore, open_cache
from registry_wsgi.durations import moment
from registry_wsgi.errors import UntouchableError

require("click", "rich")

from registry_wsgi.cli.commands import main  # noqa: E402 - see above

Run = Callable[..., tuple[int, str, str]]

WEIGHTS = 400 << 10


@pytest.fixture
def run(tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``evict`` on two models, one read 40 days ago and one 9 days ago, and a clock ahead."""
    now = time.time() + 100 * DAY
    for name, days in (("old", 40), ("new", 9)):
        data = name.encode().ljust(WEIGHTS)
        tree.add(name, data)
        os.utime(tree.blobs / blob(data), (now - days * DAY, now - 50 * DAY))
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.setattr(
        "registry_wsgi.cache.opening.open_cache",
        lambda location: open_cache(location, clock=lambda: now),
    )

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["evict", *argv])
        return (code, *capsys.readouterr())

    return run


def test_it_says_what_goes_and_what_stays(tree: Tree, run: Run) -> None:
    """A dry run and a run say the same, in other words."""
    code, planned, err = run("--unused", "30d", "--dry-run")
    assert (code, err) == (0, "")
    assert tree.path("old").exists()
    code, done, err = run("--unused", "30d")
    assert (code, err) == (0, "")
    assert not tree.path("old").exists()
    assert tree.path("new").exists()
    heading, row, end = done.splitlines()
    assert heading.split() == ["WHAT", "FREES", "THEN", "WHY"]
    assert row.split() == [
        "old:latest",
        "0",
        "bytes",
        "in",
        "the",
        "trash",
        "not",
        "read",
        "for",
        "39",
        "days",
    ]
    assert end.startswith("Freed 0 bytes; then the store takes ")
    assert end.endswith(" of the disk are free.")
    assert planned.splitlines()[:2] == [heading, row]
    assert planned.splitlines()[2].startswith("Would free 0 bytes; then")


def test_a_limit_that_is_kept_is_0(tree: Tree, run: Run) -> None:
    """Only as much goes for good as it takes."""
    code, out, err = run("--max-used", "600kB")
    assert (code, err) == (0, "")
    assert "gone for good" in out
    assert not list(tree.trash.glob("*/manifests/**/*"))
    assert not tree.path("old").exists()
    assert tree.path("new").exists()


def test_a_limit_that_is_not_kept_is_1(tree: Tree, run: Run) -> None:
    """It says what stays, and why; JSON has it in a field."""
    code, out, err = run("--max-used", "10kB", "--recent", "20d")
    assert code == 1
    assert "not kept: " in err
    assert err.endswith(" are still wanting\n")
    assert not tree.path("old").exists()
    assert "new:latest  may have been read within 20 days" in out.splitlines()
    code, out, _ = run("--max-used", "10kB", "--recent", "20d", "--json", "-n")
    report = json.loads(out)
    assert (code, report["ok"], report["dry_run"]) == (1, False, True)
    assert report["short"] == report["used"] - 10_000
    assert [*report["kept"]] == ["registry.ollama.ai/library/new:latest"]


def test_why_it_ends_early_is_said_once(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run says it in the log, as it does of each file that cannot be touched."""
    real = DiskStore.condemn

    def condemn(self: DiskStore, names: Iterable[str], when: float) -> Iterator[Any]:
        for name in names:
            raise UntouchableError(f"{name}: operation not permitted")
        yield from real(self, (), when)

    monkeypatch.setattr(DiskStore, "condemn", condemn)
    code, out, err = run("--max-used", "10kB")
    assert code == 1
    assert (out + err).count("1 file could not be moved or removed\n") == 1
    assert (out + err).count("operation not permitted") == 1
    assert "still wanting; 1 file could not be moved or removed; the rest is done" in err


def test_a_dry_run_says_why_less_would_go(tree: Tree, run: Run) -> None:
    """As a download is under way, which may use what would go."""
    partial = tree.blobs / f"{blob(b'x')}-partial"
    partial.write_bytes(b"x")
    os.utime(partial, (time.time() + 100 * DAY,) * 2)
    code, out, err = run("--max-used", "10kB", "-n")
    assert code == 1
    assert out.count("Would end early: a download is under way, and may use what would go.") == 1
    assert "still wanting" in err


def test_one_at_a_time(tree: Tree, run: Run) -> None:
    """A dry run waits for nobody."""
    release = open_cache(tree.root).claim()
    assert release is not None
    assert run("--unused", "30d", "-n")[0] == 0
    code, out, err = run("--unused", "30d")
    assert (code, out, err) == (1, "", "registry-wsgi: a prune or an eviction is under way\n")
    release()
    assert tree.path("old").exists()
    assert run("--unused", "30d")[0] == 0


def test_after_the_question_goes_what_was_shown(
    tree: Tree, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that nobody had asked about stays, and the limit is not kept."""

    def read_and_say_yes(question: str) -> None:
        with (tree.blobs / blob(b"old".ljust(WEIGHTS))).open("rb"):
            pass
        now = time.time() + 100 * DAY
        os.utime(tree.blobs / blob(b"old".ljust(WEIGHTS)), (now, now - 50 * DAY))

    monkeypatch.setattr("registry_wsgi.cli.evict.can_ask", lambda: True)
    monkeypatch.setattr("registry_wsgi.cli.evict.confirm", read_and_say_yes)
    code, out, err = run("--max-used", "600kB")
    assert code == 1
    assert "old:latest" in err
    assert "new:latest  was not among what was shown" in out.splitlines()
    assert "old:latest  may have been read within 24 hours" in out.splitlines()
    assert err.endswith(" are still wanting\n")
    assert tree.path("old").exists()
    assert tree.path("new").exists()


@pytest.mark.parametrize(
    "argv",
    [
        *((), ("--max-used", "many"), ("--unused", "1y"), ("--unused", "1d", "--room", "-1")),
        *(("--unused", "1d", "--room", "1"), ("--max-used", "1MB", "--room", "2MB")),
        *(("--recent", "1d"), ("--unused", "1d", "--recent", "x"), ("--min-free", "1G")),
    ],
)
def test_wrong_usage_is_2(tree: Tree, run: Run, argv: tuple[str, ...]) -> None:
    """And touches nothing."""
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.endswith("see registry-wsgi evict --help\n")
    assert tree.path("old").exists()


def test_the_help_of_prune_points_here(capsys: pytest.CaptureFixture[str]) -> None:
    """As its age is of another kind."""
    assert main(["prune", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "evict --unused" in text
    assert "arrived" in text


def test_list_says_when_each_model_was_last_read(
    tree: Tree, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """What nobody can tell is a dash, and sorts as the oldest."""
    assert run("--unused", "90d", "-n")[0] == 0
    tree.add("aaa", b"aaa")
    os.utime(tree.blobs / blob(b"aaa"), (0, 1))  # written since
    rows = {}
    for argv in (["list", "--sort", "read"], ["list", "--sort", "read", "--reverse"]):
        assert main(argv) == 0
        rows[argv[-1]] = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows["read"]] == ["new:latest", "old:latest", "aaa:latest"]
    assert rows["--reverse"] == rows["read"][::-1]
    assert rows["read"][2][-1] == "-"
    assert main(["list", "old", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    read = (tree.blobs / blob(b"old".ljust(WEIGHTS))).stat().st_atime
    assert model["read"] == moment(read).isoformat()
