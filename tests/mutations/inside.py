"""
Run the tests of one trial, in the copy that has the mutation.

    python -m mutations.inside RESULT [options of pytest]

RESULT is the file into which the outcome is written, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

COPY = Path(__file__).resolve().parents[2]


class Witness:
    """Remembers which tests failed, which took too long, and how many passed."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.slow: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            # A busy machine is slow, whatever the mutation does.
            timeout = "Timeout (>" in report.longreprtext
            (self.slow if timeout else self.failed).append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1


def main(argv: Sequence[str]) -> int:
    """Run the tests."""
    result, *options = argv
    package = find_spec("registry_wsgi")
    if package is None or package.origin is None or COPY not in Path(package.origin).parents:
        print(f"the tests would import another package than that in {COPY}: {package}")
        return 1
    witness = Witness()
    code = int(pytest.main(options, plugins=[witness]))
    outcome = {"code": code, **vars(witness)}
    Path(result).write_text(json.dumps(outcome), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
