"""The file systems and users of these tests are what they seem."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.users import SERVICE, STRANGER, command_as, give, owners, run_as
from kit.worlds import Worlds, fill, power_cut, take_all_inodes

pytestmark = pytest.mark.world

KILLED = """
import os, signal, sys
from kit.worlds import made_below
with made_below(sys.argv[1]) as worlds:
    place = worlds.ext4()
    worlds.bind(worlds.tmpfs(), worlds.folder("bound"))
    (place / "file").touch()
    worlds.immutable(place / "file")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_by_a_process_that_is_killed(worlds: Worlds) -> None:
    folder = worlds.folder("killed")
    tests = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", KILLED, folder],
        env={**os.environ, "PYTHONPATH": str(tests)},
        check=False,
    )
    until = time.monotonic() + 10
    while any(folder.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    assert list(folder.iterdir()) == []
    assert str(folder) not in Path("/proc/mounts").read_text()


def test_a_power_cut_keeps_what_is_synced_and_the_names_of_the_rest(worlds: Worlds) -> None:
    place = worlds.ext4()
    (place / "before").write_bytes(b"written")

    def work() -> None:
        (place / "lost").write_bytes(b"written")
        with (place / "synced").open("wb") as file:
            file.write(b"written")
            file.flush()
            os.fsync(file.fileno())

    after = power_cut(worlds, place, work)
    files = {name: (after / name).read_bytes() for name in ("before", "synced", "lost")}
    assert files == {"before": b"written", "synced": b"written", "lost": b""}


def test_a_full_disk_takes_nothing(worlds: Worlds) -> None:
    place = worlds.ext4(8)
    fill(place)
    assert os.statvfs(place).f_bavail == 0
    with pytest.raises(OSError, match="No space left"):
        (place / "folder").mkdir()


def test_a_disk_without_inodes_takes_no_file(worlds: Worlds) -> None:
    place = worlds.ext4(8, inodes=64)
    take_all_inodes(place)
    assert os.statvfs(place).f_bavail > 1000
    with pytest.raises(OSError, match="No space left"):
        (place / "folder").mkdir()


def test_a_share_drops_dots_and_takes_any_case(worlds: Worlds) -> None:
    place = worlds.share()
    (place / "Secret").mkdir()
    (place / "Secret" / "prod").write_bytes(b"x")
    assert (place / "secret." / "PROD..").read_bytes() == b"x"
    assert os.listdir(place) == ["Secret"]
    with pytest.raises(OSError, match="not permitted"):
        os.link(place / "Secret" / "prod", place / "link")


def test_an_immutable_file_stays(worlds: Worlds) -> None:
    path = worlds.ext4() / "file"
    path.touch()
    worlds.immutable(path)
    with pytest.raises(PermissionError):
        path.unlink()


def test_another_user_is_not_root(worlds: Worlds, root: Path) -> None:
    root.mkdir()
    give(SERVICE, root)
    code = """
os.mkdir(sys.argv[1] + "/made")
try:
    os.mkdir("/not-by-me")
except PermissionError:
    answer([os.getuid(), os.getgroups(), repr(open_cache(sys.argv[1]))])
"""
    assert run_as(SERVICE, code, root) == [SERVICE, [], f"ModelCache(DiskStore('{root}'))"]
    assert owners(root) == {SERVICE}
    assert command_as(STRANGER, "--models", root, "list") == (0, "")
