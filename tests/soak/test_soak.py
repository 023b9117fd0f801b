"""The soak, short enough to run with the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kit import s3
from kit.requirements import unavailable
from kit.worlds import made_below

TESTS = Path(__file__).parents[1]
# How long it takes, in seconds: a few of them, unless the environment asks for more.
SECONDS = int(os.environ.get("REGISTRY_WSGI_SOAK") or 4)


def soak(path: Path, seconds: int, *options: str) -> dict[str, float]:
    """Run the soak; its figures."""
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    command = [sys.executable, "-m", "soak", f"--seconds={seconds}", "--events=1000000", "--seed=1"]
    command += ["--committed=5"]  # however slow the machine is
    done = subprocess.run(
        [*command, *options],
        cwd=path,
        env=environment | {"TMPDIR": str(path), "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stderr[:500], done.stdout[-500:])
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {name: float(n) for name, n in re.findall(r"(\w+)=([\d.]+)", done.stdout)}
    assert figures["broken"] == 0
    assert figures["committed"] > 0
    return figures


def a_bucket() -> str:
    """The option for an empty place in a bucket."""
    endpoint = s3.endpoint()
    if not endpoint.real:
        unavailable("moto does not decide between writers of the same moment: set up Ceph")
    url = endpoint.url.replace("://", f"://{endpoint.key}:{endpoint.secret}@")
    return f"--s3={url}/{endpoint.bucket}/{s3.fresh_prefix()}"


@pytest.mark.timeout(SECONDS * 4 + 120)
def test_no_model_is_broken_by_pulls_deletes_restores_prunes_and_kills() -> None:
    """After some time of all at once, every model is whole by content."""
    with made_below() as worlds:  # where another user may enter
        figures = soak(worlds.folder("soak"), SECONDS)
    assert figures["collections"] > 0
    # On a slow machine not each of them has its turn.
    assert sum(figures[what] for what in ("renames", "created", "copied", "stuck_files")) > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("live", ["0", "1"])
def test_what_cannot_be_done_is_left_out_and_named(tmp_path: Path, live: str) -> None:
    """Nobody takes a soak without them for one with them, and CI does not do without them."""
    tmp_path.chmod(0o700)
    (tmp_path / "bin").mkdir()
    command = [sys.executable, "-m", "soak", "--events=1", "--seed=1"]
    environment = os.environ | {
        "PATH": str(tmp_path / "bin"),
        "PYTHONPATH": str(TESTS),
        "REGISTRY_WSGI_REQUIRE_LIVE": live,
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == (2 if live == "1" else 0), done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert [line.split(": ")[1] for line in said] == ["another user", "copied", "rsynced"]
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.emulator
@pytest.mark.timeout(SECONDS * 4 + 180)
def test_no_model_in_a_bucket_is_broken_by_processes_with_clients_of_their_own(
    tmp_path: Path,
) -> None:
    """The same over a bucket, where what is set aside is only marked."""
    figures = soak(tmp_path, SECONDS + 6, a_bucket())
    assert figures["collections"] > 0
    assert figures["excused"] == 0


@pytest.mark.emulator
@pytest.mark.timeout(SECONDS * 4 + 300)
def test_no_model_in_a_bucket_is_broken_by_a_way_there_that_fails(tmp_path: Path) -> None:
    """Answers that are late, cut, lost or refused, for all at once and in the middle of all."""
    assert soak(tmp_path, SECONDS + 6, a_bucket(), "--outages=60")["outages"] > 0


@pytest.mark.emulator
@pytest.mark.timeout(SECONDS * 4 + 300)
def test_no_model_in_a_bucket_is_broken_as_the_gateway_is_stopped_and_started(
    tmp_path: Path,
) -> None:
    """All that is under way fails, says so, and goes on when the store is back."""
    figures = soak(
        tmp_path, SECONDS + 11, a_bucket(), "--outages=30", f"--gateway={s3.ceph_conf()}"
    )
    assert figures["outages"] > 0
    assert figures["told"] > 0
