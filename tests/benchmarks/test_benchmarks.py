"""The benchmarks run and print their table. What they measure is no matter of a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import registry_wsgi
from kit.requirements import require

TESTS = Path(__file__).parents[1]


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks at tiny sizes, with their stores in *folder*."""
    environment = {
        "PYTHONPATH": str(Path(registry_wsgi.__file__).parents[1]),
        "TMPDIR": str(folder),
        "HOME": str(folder),  # where matplotlib keeps its cache
    }
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--scale=0.0001", "--rounds=2", *options],
        cwd=TESTS,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


ROWS = (
    "request passed through / empty wrapper",
    "DELETE at 10 models / at 10",
    "DELETE of a five-layer model / its bare system calls",
    "prune with nothing to remove at 10 models / bare reading",
    "prune that removes 10 blobs of 512 bytes / bare unlink",
    "prune that removes 10 empty files / bare unlink",
    "peak memory of prune",
    "verify --deep, one thread / sha256sum",
    "verify --deep, one thread / two threads",
    "import registry_wsgi, all names / import werkzeug.exceptions",
    "registry-wsgi --help / python -c 'import click'",
    "requests per second under gunicorn, with the middleware / without",
)


def test_every_row_is_measured_and_printed(tmp_path: Path) -> None:
    """Each with its goal, or with the reason why it could not be measured; no store stays."""
    done = bench(tmp_path)
    assert done.returncode == 0, done.stderr
    for what in ROWS:
        row = re.compile(rf"^{re.escape(what)}.* [≤≥] .* (ok|NOT|skipped)\b", re.MULTILINE)
        assert row.search(done.stdout), what
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_row_is_refused(tmp_path: Path) -> None:
    """With the names of those that there are."""
    done = bench(tmp_path, "--rows", "prune,spam")
    assert done.returncode == 2
    assert "'spam' is none of pass, delete" in done.stderr


def test_stores_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    """A further run takes them as they are."""
    for _ in range(2):
        done = bench(tmp_path, "--rows", "calls", "--stores", str(tmp_path / "kept"))
        assert done.returncode == 0, done.stderr
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert kept == {"10-models", "10-models.finished"}


@pytest.mark.skipif(not find_spec("matplotlib"), reason="matplotlib is of the group bench alone")
def test_the_page_for_the_documentation_is_written(tmp_path: Path) -> None:
    """The table and the plot."""
    done = bench(tmp_path, "--rows", "prune", "--docs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "bare reading" in (tmp_path / "performance-table.inc").read_text()
    assert "<svg" in (tmp_path / "performance.svg").read_text()


def test_the_requests_to_a_bucket_are_counted(tmp_path: Path) -> None:
    """There is a line for each operation, and an unchanged prune costs a constant."""
    require("obstore", "botocore")
    done = bench(tmp_path, "--buckets=20,40")
    assert done.returncode == 0, done.stderr
    lines = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert lines[0] == ["models", "delay", "what", "requests", "seconds", "by kind"]
    unchanged = [line[3] for line in lines if line[2] == "prune, nothing has changed"]
    assert len(unchanged) == 2
    assert unchanged[0] == unchanged[1]
