"""
The power goes at any moment, on real file systems: rule 7, and the promise of docs/kept.rst.

Work is done on a disk that is copied at each call of the system. Each copy is then mounted, as
after the cut: when a prune has run, all that was there is listed or can be restored, and is whole.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kit.clocks import DAY, HOUR
from kit.cuts import KINDS, Machine
from kit.effort import sample, shard
from kit.faults import failing, without_links
from kit.os_seam import Act, Call, nothing
from kit.trees import Tree, blob, broken
from kit.worlds import Worlds
from registry_wsgi import DiskStore, ModelCache

pytestmark = pytest.mark.world

#: All files are so old when the work begins.
AGE = 30 * DAY


def cache(place: Path, **options: Any) -> ModelCache:
    """The store on the disk at *place*, when what is there is old."""
    return ModelCache(DiskStore(place / "models"), clock=lambda: time.time() + AGE, **options)


def content(letter: str) -> bytes:
    """The content of a blob: too large for btrfs to write it beside its name."""
    return letter.encode() * 5_000


def fill(place: Path) -> None:
    """
    Make the store.

    kept: k s; gone (deleted, expired): g s; back (deleted just now): r s; again: x, which is aside.
    Nothing needs o, and y, which is aside for two days. Of r only the trash has a name, if it can.
    """
    tree = Tree(place / "models")
    for name, letters in (("kept", "ks"), ("gone", "gs"), ("back", "rs"), ("again", "x")):
        tree.add(name, *map(content, letters))
    for letter in "oy":
        tree.add_blob(content(letter))
    library, now = cache(place), time.time() + AGE
    assert library.unlink("back")
    assert ModelCache(library.store, clock=lambda: now - 8 * DAY).unlink("gone")
    for letter, ago in (("x", HOUR), ("y", 2 * DAY)):
        assert list(library.store.condemn([blob(content(letter))], now - ago))
    if any(tree.trash.glob(f"*/blobs/{blob(content('r'))}")):
        (tree.blobs / blob(content("r"))).unlink()
    let_an_hour_pass(tree.root)


def let_an_hour_pass(root: Path) -> None:
    """Spare a prune on exFAT, whose times are coarse, the wait until a change has other times."""
    for path in root.rglob("*"):
        os.utime(path, (time.time() - HOUR,) * 2)


class Work(NamedTuple):
    """
    What is done when the power goes.

    Attributes:
        do: What it is.
        loses: The models that may be gone for good.
        act: What comes in place of some calls.
        torn: A model that the trash has, and whose manifest may be there without its content.
    """

    do: Callable[[ModelCache], object]
    loses: str = ""
    act: Act = nothing
    torn: str = ""


def delete(library: ModelCache) -> None:
    assert library.unlink("kept")


def restore(library: ModelCache) -> None:
    assert library.restore("back")


def delete_and_restore(library: ModelCache) -> None:
    delete(library)
    library.restore("kept")


def restore_and_prune(library: ModelCache) -> None:
    restore(library)
    library.prune(age=0)


def to_another_mount(call: Call) -> None:
    """The manifests are on a file system of their own."""
    if call.name == "rename" and len({"/trash" in path for path in call.arguments[:2]}) > 1:
        raise call.error(errno.EXDEV)


WORK = {
    "delete": Work(delete),
    "delete without links": Work(delete, act=without_links),
    "delete to another mount": Work(delete, act=to_another_mount),
    "delete without room": Work(delete, act=failing(errno.ENOSPC, "mkdir")),
    "delete and restore": Work(delete_and_restore),
    "restore": Work(restore),
    "restore without links": Work(restore, act=without_links, torn="back"),
    "restore and prune": Work(restore_and_prune, "gone"),
    "forget": Work(lambda library: library.forget("back"), "back"),
    "verify": Work(lambda library: library.verify(repair=True)),
    "prune": Work(lambda library: library.prune(), "gone"),
    "prune in use": Work(lambda library: library.prune(), "gone"),
    "prune at once": Work(lambda library: library.prune(age=0), "gone back"),
}


def faults(place: Path, work: Work) -> list[str]:
    """Tell what is not as it was promised, after one more prune."""
    root, library = place / "models", cache(place)
    names = {"kept", "gone", "back", "again"}
    listed = {path.parent.name: path for path in root.glob("manifests/*/*/*/*")}
    torn = [name for name, path in listed.items() if not is_whole(path)]
    for name in torn:  # no prune goes on before it is deleted
        listed.pop(name).unlink()
    let_an_hour_pass(root)
    found = [f"{name}: is not whole" for name in torn if name != work.torn]
    library.prune(age=100 * DAY)  # so that nothing in the trash has expired
    for model in library.deleted():
        name = model.name.rpartition("/")[2].partition(":")[0]
        if not model.restorable:
            found.append(f"{name}: lacks {model.missing}")
        elif name not in listed:
            library.restore(name)
            listed[name] = root
    found += [f"{name}: is gone" for name in names - {*listed, *work.loses.split()}]
    found += broken(root)
    let_an_hour_pass(root)
    library.prune(age=0)
    found += broken(root)
    needed = {blob(content(letter)) for letter in "ksrgx"} | {blob(b"{}")}
    left = [*root.glob("trash/*"), *root.glob("trash-*"), *root.glob("condemned/*")]
    left += [path for path in (root / "blobs").iterdir() if path.name not in needed]
    return [*found, *(f"{path.relative_to(root)}: is left" for path in left)]


def is_whole(path: Path) -> bool:
    """Tell whether the manifest at *path* has its content."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def made(machine: Machine) -> Path:
    """A disk with the store, all of it written."""
    disk = machine.disk()
    with machine.on(disk) as place:
        fill(place)
    return disk


def cuts(machine: Machine, disk: Path, name: str, **options: Any) -> list[Path]:
    """What is on the disk whenever the power goes during the work *name*."""
    in_flight = 2 * AGE if name == "prune in use" else HOUR

    def work(place: Path) -> None:
        WORK[name].do(cache(place, in_flight=in_flight))

    return machine.cuts(disk, work, act=WORK[name].act, **options)


def broken_after(machine: Machine, copy: Path, name: str) -> list[str]:
    """Start the machine with the disk *copy*, and tell what is wrong."""
    with machine.on(copy) as place:
        return faults(place, WORK[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_loses_nothing(worlds: Worlds, kind: str) -> None:
    """The names have just been written, and the power goes: at some moments of some work."""
    machine = Machine(worlds, kind)
    disk = made(machine)
    for name in ("delete", "restore", "restore without links", "prune"):
        for copy in sample(cuts(machine, disk, name, names=True, every=5), 2):
            assert broken_after(machine, copy, name) == [], name


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kind", "name"), shard([*product(KINDS, WORK)]))
def test_no_power_cut_loses_anything(worlds: Worlds, kind: str, name: str) -> None:
    """At every moment, with all names on the disk, or with nothing but what was waited for."""
    machine = Machine(worlds, kind)
    disk = made(machine)
    copies = [*cuts(machine, disk, name, names=True), *cuts(machine, disk, name, names=False)]
    print(f"{kind}, {name}: {len(copies)} cuts")
    found = [broken_after(machine, copy, name) for copy in copies]
    assert [what for what in found if what] == []
