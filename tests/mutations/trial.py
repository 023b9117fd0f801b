"""Try a mutation out: in a copy, so that the files of the project stay as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mutations.table import TIERS, DoesNotApplyError, Mutation

__all__ = ["ROOT", "Outcome", "check", "try_out"]

#: The folder of the project.
ROOT = Path(__file__).resolve().parents[2]

_PACKAGE = "registry_wsgi"
_COPIED = (_PACKAGE, "tests", "docs", "README.rst", "LICENSE", "pyproject.toml", "tox.ini")

# After this many seconds a run is ended. (pytest ends a single test, see pyproject.toml.)
_RUN_TIMEOUT = 900


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of one trial.

    Attributes:
        mutation: The mutation.
        noticed_by: The test that failed; empty if none did.
        seconds: How long the tests ran until then.
        problem: Why the trial says nothing: the mutation does not apply, say. Empty if it does.
    """

    mutation: Mutation
    noticed_by: str = ""
    seconds: float = 0.0
    problem: str = ""

    @property
    def is_noticed(self) -> bool:
        return bool(self.noticed_by) and not self.problem


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of pytest: how it ended, and the output."""

    code: int
    failed: list[str]
    slow: list[str]
    passed: int
    output: str
    seconds: float

    @property
    def problem(self) -> str:
        """Why the run says nothing about the package; empty if it does."""
        if self.slow:
            return f"{self.slow[0]} took too long"
        if self.code not in (0, 1) or (self.code == 1 and not self.failed):
            return f"the tests did not run: {self.output[-2000:]}"
        return "" if self.failed or self.passed else "all tests were skipped"


def try_out(mutation: Mutation, root: Path = ROOT) -> Outcome:
    """Run the tests of *mutation* on a copy of the project that has the change."""
    try:
        with _copied(root) as copy:
            path, content = mutation.apply(copy / _PACKAGE)
            path.write_text(content, encoding="utf-8")
            run = _run_tests(copy, "-x", *TIERS[mutation.tier], *mutation.arguments(copy / "tests"))
    except DoesNotApplyError as error:
        return Outcome(mutation, problem=str(error))
    return Outcome(mutation, run.failed[0] if run.failed else "", run.seconds, run.problem)


def check(outcomes: Iterable[Outcome], root: Path = ROOT) -> list[Outcome]:
    """Run the tests that have noticed once more, without any change: a test that fails has not."""
    outcomes = [*outcomes]
    tests = {outcome.noticed_by for outcome in outcomes if outcome.is_noticed}
    if not tests:
        return outcomes
    with _copied(root) as copy:
        run = _run_tests(copy, *sorted(tests))
    return [_checked(outcome, run) for outcome in outcomes]


def _checked(outcome: Outcome, run: _Run) -> Outcome:
    if not outcome.is_noticed or (not run.problem and outcome.noticed_by not in run.failed):
        return outcome
    failed = f"{outcome.noticed_by} fails without the mutation, too: {run.output[-2000:]}"
    return replace(outcome, problem=run.problem or failed)


@contextmanager
def _copied(root: Path) -> Iterator[Path]:
    """Copy what the tests need into a folder that goes at the end."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder).resolve()
        for name in _COPIED:
            source = root / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "_build")
                shutil.copytree(source, copy / name, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, copy / name)
        yield copy


def _run_tests(copy: Path, *options: str) -> _Run:
    """Run pytest in *copy*."""
    result = copy / "result.json"
    plain = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:schemathesis"]
    command = [sys.executable, "-m", "mutations.inside", str(result), *plain, *options]
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    environment["PYTHONPATH"] = os.pathsep.join([str(copy), str(copy / "tests")])
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_RUN_TIMEOUT,
            check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired:
        output = f"the run did not end within {_RUN_TIMEOUT} seconds"
    seconds = time.monotonic() - begun
    if not result.exists():
        return _Run(-1, [], [], 0, output, seconds)
    outcome = json.loads(result.read_text(encoding="utf-8"))
    return _Run(output=output, seconds=seconds, **outcome)
