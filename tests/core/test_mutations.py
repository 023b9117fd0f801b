"""The mutations: each still applies, and a trial tells what it should."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.trees import contents
from mutations.__main__ import main
from mutations.table import DoesNotApplyError, Mutation, load
from mutations.trial import ROOT, check, try_out

MUTATIONS = load()
PACKAGE = ROOT / "registry_wsgi"

#: A change that a test of names notices.
NOTICED = Mutation(
    name="tag",
    promise="A name without a tag has the tag latest.",
    where="names.py",
    text='DEFAULT_TAG = "latest"',
    replacement='DEFAULT_TAG = "newest"',
    tests="test_names.py -k filled_in",
)


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_still_applies(name: str) -> None:
    """The text is in the package exactly once, and the tests that should notice are there."""
    mutation = MUTATIONS[name]
    path, changed = mutation.apply(PACKAGE)
    assert changed != path.read_text(encoding="utf-8")
    assert mutation.promise.endswith(".")
    assert mutation.arguments(ROOT / "tests")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": "no such text"}, "occurs 0 times"),
        ({"text": "import"}, "occurs [0-9]+ times"),
        ({"where": "no_such_file.py"}, "occurs 0 times"),
        ({"replacement": "DEFAULT_TAG = ("}, "not Python"),
    ],
)
def test_a_mutation_that_does_not_apply_says_so(changes: dict[str, str], reason: str) -> None:
    """A text that is gone, or there twice, and a result that is not Python."""
    with pytest.raises(DoesNotApplyError, match=reason):
        dataclasses.replace(NOTICED, **changes).apply(PACKAGE)


@pytest.mark.parametrize("tests", ["test_nothing.py", "conftest.py"])
def test_a_file_of_tests_is_found_by_its_name(tests: str, tmp_path: Path) -> None:
    """One that is not there, or there twice, is an error; not a test that does not notice."""
    for folder in ("one", "two"):
        tmp_path.joinpath(folder).mkdir()
        tmp_path.joinpath(folder, "conftest.py").touch()
    with pytest.raises(DoesNotApplyError, match="files are named"):
        dataclasses.replace(NOTICED, tests=tests).arguments(tmp_path)


@pytest.mark.parametrize("second", ['["one"]', '["two"]\ntier = "none"'], ids=["name", "tier"])
def test_a_table_that_is_wrong_is_refused(second: str, tmp_path: Path) -> None:
    """Two mutations of one name, and a tier that there is not."""
    entry = 'promise = "-"\nwhere = "-"\ntext = "-"\nreplacement = ""\ntests = ""\n'
    tmp_path.joinpath("a.toml").write_text(f"[one]\n{entry}")
    tmp_path.joinpath("b.toml").write_text(f"{second}\n{entry}")
    with pytest.raises(ValueError, match=r"two mutations|no tier"):
        load(tmp_path)


@pytest.mark.moments
def test_a_mutation_is_noticed_and_the_project_stays_as_it_is() -> None:
    """The test that failed is named, and no file of the package is changed."""
    before = contents(PACKAGE)
    [outcome] = check([try_out(NOTICED)])
    assert outcome.is_noticed, outcome.problem
    assert "test_what_a_name_leaves_out_is_filled_in" in outcome.noticed_by
    changed = {path for path, data in contents(PACKAGE).items() if before.get(path, data) != data}
    assert not {path for path in changed if path.endswith(".py")}


@pytest.mark.moments
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tests": "test_names.py -k 593"}, ""),
        ({"tests": "test_names.py -k nothing_has_this_name"}, "did not run"),
        ({"replacement": "DEFAULT_TAG = no_such_name"}, "did not run"),
        ({"text": "no such text"}, "occurs 0 times"),
    ],
    ids=["survives", "no test", "no import", "no text"],
)
def test_what_is_not_noticed_is_told(
    changes: dict[str, str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code is 1 if a mutation survives, and if the tests cannot tell."""
    mutation = dataclasses.replace(NOTICED, **changes)
    monkeypatch.setattr("mutations.__main__.load", lambda: {mutation.name: mutation})
    assert main([]) == 1
    shown = capsys.readouterr()
    assert ("CANNOT BE TOLD" if problem else "NO TEST") in shown.out
    assert problem in shown.err


@pytest.mark.moments
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("def test_it():\n    raise AssertionError\n", "fails without the mutation"),
        (
            (
                "import pytest, time\n\n@pytest.mark.timeout(0.1)\n"
                "def test_it():\n    time.sleep(60)\n"
            ),
            "took too long",
        ),
    ],
    ids=["always", "slow"],
)
def test_a_test_that_fails_for_another_reason_notices_nothing(
    copy_of_the_project: Callable[[str], Path], body: str, problem: str
) -> None:
    """What fails without the mutation too, or for lack of time, says nothing about it."""
    root = copy_of_the_project(body)
    tried = try_out(dataclasses.replace(NOTICED, tests="test_names.py"), root)
    [outcome] = check([tried], root)
    assert not outcome.is_noticed
    assert problem in outcome.problem


@pytest.fixture
def copy_of_the_project(tmp_path: Path) -> Callable[[str], Path]:
    """Make a project of the package, the tool and one file of tests."""

    def make(tests: str) -> Path:
        for name in ("registry_wsgi", "tests/mutations"):
            tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
            tmp_path.joinpath(name).symlink_to(ROOT / name)
        tmp_path.joinpath("tests", "test_names.py").write_text(tests)
        tmp_path.joinpath("pyproject.toml").write_text("")
        return tmp_path

    return make
