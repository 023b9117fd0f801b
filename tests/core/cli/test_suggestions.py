"""The command line: what an error says may have been meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from kit.requirements import require
from kit.trees import Tree, blob, contents, digest
from registry_wsgi import open_cache

require("click", "rich")

from registry_wsgi.cli.commands import main  # noqa: E402 - see above

Fail = Callable[..., str]


@pytest.fixture
def fail(tree: Tree, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Run a command that fails and changes nothing, and give the line that it says."""

    def fail(*argv: str, code: int = 1) -> str:
        before = contents(tree.root)
        assert main([*argv, "--models", str(tree.root)]) == code
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert contents(tree.root) == before
        return err.removeprefix("registry-wsgi: ").removesuffix("\n")

    return fail


@pytest.mark.parametrize("command", ["rm", "verify"])
def test_other_tags_are_named(tree: Tree, fail: Fail, command: str) -> None:
    """Whoever leaves the tag away has forgotten which there are."""
    for tag in ("2b", "9b", "27b"):
        tree.add(f"gemma2/{tag}", b"weights")
    tree.add("gemma3/latest", b"weights")
    absent = "gemma2:latest: there is no model of this name"
    assert fail(command, "gemma2") == f"{absent}; is it gemma2:27b, gemma2:2b or gemma2:9b?"


def test_so_are_other_hosts_and_namespaces(tree: Tree, fail: Fail) -> None:
    """They are as easily left away."""
    tree.add("hf.co/bartowski/Llama-3.2-1B-GGUF/Q4_K_M", b"weights")
    name = "hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M"
    assert fail("rm", "llama-3.2-1b-gguf:Q4_K_M").endswith(f"; is it {name}?")


def test_of_many_tags_the_first_are_named(tree: Tree, fail: Fail) -> None:
    """All would be no line that anybody reads."""
    for number in range(100):
        tree.add(f"m/v{number:02}", b"weights")
    assert fail("rm", "m").endswith("; is it m:v00, m:v01, m:v02, m:v03 or 96 more?")


def test_one_in_the_trash_says_when_and_how_to_restore_it(
    tree: Tree, fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line works as it stands."""
    tree.add("smol/latest", b"weights")
    tree.add("smol/v2", b"weights")
    before = contents(tree.root)
    cache = open_cache(tree.root)
    cache.unlink("smol")
    when = cache.deleted()[0].deleted.astimezone()
    message = fail("rm", "SMOL")
    assert f"; one was deleted at {when:%Y-%m-%d %H:%M}, to restore it: " in message
    words = shlex.split(message.partition("restore it: ")[2])
    assert main(words[words.index("--models") :]) == 0
    assert capsys.readouterr().out == "Restored smol:latest\n"
    assert contents(tree.root) == before
    assert fail("restore", "smol").endswith(
        "smol:latest: no deleted model has this name; a model of this name is in place"
    )


def test_one_in_the_trash_that_is_not_whole_says_so(tree: Tree, fail: Fail) -> None:
    """Nobody should try in vain."""
    tree.add("smol/latest", b"weights")
    open_cache(tree.root).unlink("smol")
    for path in tree.root.rglob("sha256-*"):
        path.unlink()
    assert fail("rm", "smol").endswith(" and can no longer be restored")


def test_an_id_or_a_blob_says_which_models_use_it(tree: Tree, fail: Fail) -> None:
    """Both are what other tools take; nothing is deleted by them here, as several may use one."""
    path = tree.add("smol/latest", b"weights")
    tree.add("other/latest", b"weights", b"more")
    manifest = digest(path.read_bytes()).partition(":")[2]
    for typed in (manifest[:12], manifest.upper(), f"sha256:{manifest}"):
        assert fail("rm", typed).endswith("; it is the ID of smol:latest")
    weights = digest(b"weights")
    for typed in (weights, weights.upper().replace(":", "-"), weights[:19]):
        assert fail("rm", typed).endswith("; it is a blob of other:latest and smol:latest")
    assert fail("rm", f"sha256:{'0' * 64}").endswith("; no model has a blob like this")


@pytest.mark.parametrize("command", ["rm", "verify"])
@pytest.mark.parametrize(
    ("typed", "strange"),
    [
        ("g\u0435mma2:2b", "U+0435 (CYRILLIC SMALL LETTER IE)"),
        ("gemma2\uff1a2b", "U+FF1A (FULLWIDTH COLON)"),
        ("gemma\u2011:2b", "U+2011 (NON-BREAKING HYPHEN)"),
    ],
)
def test_a_look_alike_letter_is_named(
    tree: Tree, fail: Fail, *, command: str, typed: str, strange: str
) -> None:
    """With the model that was meant."""
    tree.add("gemma2/2b", b"weights")
    message = fail(command, typed, code=2)
    assert f", which has {strange}; is it gemma2:2b?; see registry-wsgi" in message


def test_one_that_was_deleted_twice_tells_the_latest_that_is_whole(tree: Tree, fail: Fail) -> None:
    """As a restore takes that."""
    cache = open_cache(tree.root)
    for content in (b"first", b"second"):
        tree.add("smol/latest", content)
        cache.unlink("smol")
    for path in tree.root.rglob(blob(b"second")):
        path.unlink()
    latest, first = cache.deleted()
    assert (latest.restorable, first.restorable) == (False, True)
    assert re.search(r" was deleted at \S+ \S+, to restore it: ", fail("rm", "smol"))
