"""The soak, short enough to run with the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")
# How long it takes, in seconds: a few of them, unless the environment asks for more.
SECONDS = int(os.environ.get("REGISTRY_WSGI_SOAK") or 4)


@pytest.mark.timeout(SECONDS * 4 + 120)
def test_no_model_is_broken_by_pulls_deletes_restores_prunes_and_kills(tmp_path: Path) -> None:
    """After some time of all at once, every model is whole by content."""
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [sys.executable, str(SOAK), f"--seconds={SECONDS}", "--events=1000000", "--seed=1"],
        cwd=tmp_path,
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-500:])
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"(\w+)=([\d.]+)", done.stdout))
    assert figures["broken"] == "0"
    assert int(figures["collections"]) > 0
    assert int(figures["committed"]) > 0
