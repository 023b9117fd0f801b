"""What must hold after each schedule: by the files, and by what the library says of them."""

from __future__ import annotations

import dataclasses
import os
import re

from explore.actors import LETTERS, LIBRARY, cache, content, manifest_path, mentioned, read
from explore.schedule import Play, Stage
from explore.seam import Disk, Storage
from kit.clocks import DAY
from registry_wsgi import ModelCache

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d-]+\.\d+Z-")


def faults(disk: Disk, stage: Stage, models: set[str]) -> list[str]:
    """
    Tell what is wrong two days after the actors have ended.

    *models* are those that were there in the beginning, listed or restorable.
    """
    found = [f"changed outside: {what}" for what in disk.outside]
    for play in stage.plays:
        found += _ended_badly(disk, play)
    found += _done_twice(stage)
    disk.now += 2 * DAY * 10**9
    torn = [name for name in _listed(disk) if not mentioned(read(manifest_path(disk, name)))]
    for name in torn:  # prunes stop until it is deleted
        os.unlink(manifest_path(disk, name))
    if torn and not stage.killed:
        found.append(f"torn manifests: {torn}")
    try:
        found += _after_a_prune(disk, stage, models, torn)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
        found.append(f"in the end {type(error).__name__}: {shown(disk, str(error))}")
    return found


def _ended_badly(disk: Disk, play: Play) -> list[str]:
    result, found = play.result, []
    if isinstance(result, Exception):
        if not isinstance(result, play.actor.may_raise):
            error = f"{type(result).__name__}: {shown(disk, str(result))}"
            found.append(f"{play.actor.name} raised {error}")
        # What the first of several runs has held may stay aside.
        several = play.actor.name in ("prune-later", "after-deletes")
        runs = (
            [] if several else [run for run in _names(f"{disk.root}/condemned") if play.made(run)]
        )
        left = [name for run in runs for name in _names(f"{disk.root}/condemned/{run}")]
        if left:
            found.append(f"after an error, aside: {shown(disk, ' '.join(left))}")
    return found


def _done_twice(stage: Stage) -> list[str]:
    """Tell whether two deletes of one model both say that it was them."""
    names = [play.actor.name for play in stage.plays if play.result is True]
    unlinks = [name for name in names if name.startswith("unlink")]
    again = {"pull-kept", "restore-kept", "rename-back"} & {play.actor.name for play in stage.plays}
    return ["deleted twice"] if len(unlinks) > 1 and not again else []


def _after_a_prune(disk: Disk, stage: Stage, models: set[str], torn: list[str]) -> list[str]:
    library = cache(disk)
    lost = _may_be_lost(stage)
    lasting = (models - lost) | _restored(stage) | _made(stage)
    found = _prune_as_foretold(disk, library)
    found += _broken(disk, "after the last prune")
    for deleted in library.deleted():
        name = _short(deleted.name)
        lasting.discard(name)
        if not deleted.restorable and name not in lost:
            missing = "".join(sorted(LETTERS[d.replace(":", "-")] for d in deleted.missing))
            found.append(f"in the trash, {name} lacks {missing}")
        elif deleted.restorable and name not in _listed(disk):
            library.restore(name)
            found += _broken(disk, "after a restore")
    gone = lasting - {*_listed(disk), *torn}
    found += [f"{name} is neither listed nor in the trash" for name in sorted(gone)]
    library.prune(age=0)
    found += _broken(disk, "after a prune with age=0")
    return found + _left_over(disk)


def _short(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def _may_be_lost(stage: Stage) -> set[str]:
    return set().union(*(play.actor.loses for play in stage.plays))


def _restored(stage: Stage) -> set[str]:
    """Name the models that were restored, and that nobody deletes."""
    names = {
        _short(play.result)
        for play in stage.plays
        if play.actor.name.startswith("restore") and isinstance(play.result, str)
    }
    return names - (_may_be_lost(stage) - {"gone", "back"})


def _made(stage: Stage) -> set[str]:
    """Name the models that another program has put there, and that nobody deletes."""
    made = {play.actor.makes for play in stage.plays if play.result in (None, True)}
    ended = {play.actor.makes for play in stage.plays if play.status == "ended"}
    deletes = any(play.actor.name.startswith(("rm", "rename")) for play in stage.plays)
    return (made & ended) - {"", "kept" if deletes else ""}


def _prune_as_foretold(disk: Disk, library: ModelCache) -> list[str]:
    before = disk.snapshot()
    plan = library.prune(dry_run=True)
    if disk.snapshot() != before:
        return ["a dry run has changed something"]
    report = library.prune()
    if dataclasses.replace(plan, dry_run=False) != report:
        return [f"foretold: {plan}, and done: {report}"]
    return []


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _listed(disk: Disk) -> list[str]:
    names = _names(f"{disk.root}/{LIBRARY}")
    return [name for name in names if os.path.exists(manifest_path(disk, name))]


def _broken(disk: Disk, when: str) -> list[str]:
    found = []
    for name in _listed(disk):
        lacks = [
            LETTERS[blob]
            for blob in mentioned(read(manifest_path(disk, name)))
            if read(f"{disk.root}/blobs/{blob}") != content(LETTERS[blob])
        ]
        if lacks:
            found.append(f"{name} lacks {''.join(sorted(lacks))} {when}")
    return found


def _left_over(disk: Disk) -> list[str]:
    # Also what a killed copy has left beside the manifest that it meant counts as a model.
    folders = [f"{disk.root}/{LIBRARY}/{name}" for name in _names(f"{disk.root}/{LIBRARY}")]
    paths = [f"{folder}/{name}" for folder in folders for name in _names(folder)]
    needed = {blob for path in paths for blob in mentioned(read(path))}
    left = {f"blobs/{name}" for name in os.listdir(f"{disk.root}/blobs") if name not in needed}
    for folder in ("condemned", "trash", "blobs/condemned"):
        left |= {f"{folder}/{name}" for name in _names(f"{disk.root}/{folder}")}
    left |= {name for name in os.listdir(disk.root) if name.startswith("trash-")}
    left.discard("blobs/condemned")
    return [f"left over: {shown(disk, ' '.join(sorted(left)))}"] if left else []


def shown(disk: Storage, text: str) -> str:
    """Shorten *text* for people."""
    text = _STAMP.sub("", text)
    text = text.replace(f"{disk.root}/", "").replace(f"{LIBRARY}/", "…/")
    for name, letter in LETTERS.items():
        text = text.replace(name, letter).replace(name.replace("-", ":"), letter)
    return text
