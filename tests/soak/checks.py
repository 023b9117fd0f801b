"""What must hold when all processes of a soak have stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections import Counter
from pathlib import Path

from kit import views
from registry_wsgi.cache.manifest import parse_manifest
from registry_wsgi.cache.model_cache import ModelCache
from registry_wsgi.errors import (
    InvalidManifestError,
    OutOfReachError,
    RegistryError,
)
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Store
from soak.history import History
from soak.places import Place
from soak.settings import Settings
from soak.workers import open_cache


@dataclasses.dataclass
class Findings:
    """What the check at the end of a round found; *moments*: when the watcher saw things break."""

    listed: set[str] = dataclasses.field(default_factory=set)
    broken: list[str] = dataclasses.field(default_factory=list)
    excused: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    moments: list[float] = dataclasses.field(default_factory=list)


def _is_readable(store: Store, key: str) -> bool:
    try:
        manifest = store.read(key)
        return manifest is None or parse_manifest(manifest.data) is not None
    except InvalidManifestError:
        return False


def _lacks(store: Store, key: str) -> tuple[str, str, str] | None:
    """Tell which blobs the model at *key* lacks, or has with other content; None if it is whole."""
    manifest = store.read(key)
    if manifest is None:
        return None
    lacking = []
    for name in parse_manifest(manifest.data):
        file = store.open_blob(name)
        if file is not None:
            with file:
                if f"sha256-{hashlib.sha256(file.read()).hexdigest()}" == name:
                    continue
        lacking.append(name)
    identity = json.loads(manifest.data).get("pull", "-")
    return (key, identity, ",".join(sorted(lacking))) if lacking else None


class Checks:
    """
    The checks of the store at *place*, each made in a process of its own.

    Args:
        settings: Those of the soak.
        place: Where the models are.
    """

    def __init__(self, settings: Settings, place: Place) -> None:
        self.settings = settings
        self.place = place

    def listed(self) -> set[str]:
        """The keys of the models that are listed."""
        return {Name.parse(model.name).key for model in self._cache().models()}

    def _cache(self) -> ModelCache:
        return open_cache(self.place, self.settings)

    def after_a_round(self, journals: Path) -> Findings:
        """
        Prune once, and see that what is listed is whole, and is what ought to be listed.

        Args:
            journals: The journals of the round. They are removed if all is well.
        """
        history = History(journals, self.place.lag)
        found = Findings(broken=history.broken, errors=history.errors, moments=history.moments)
        cache = self._cache()
        for key in views.keys(cache.store):
            if not _is_readable(cache.store, key):
                # A writer was killed as it wrote: the documented way out is to delete the model.
                if history.cut_off(key):
                    cache.unlink(str(Name.from_key(key)))
                    history.forget(key)
                else:
                    found.broken.append(f"{key}: half a manifest that no killed writer has left")
        try:
            cache.prune(age=self.settings.age)
        except OutOfReachError:
            # Without a model a prune stops, as it should: a disk may be missing.
            if views.keys(cache.store):
                raise

        hold, in_flight = self.place.limits(self.settings.hold, self.settings.in_flight)
        lacking = {lack for key in views.keys(cache.store) if (lack := _lacks(cache.store, key))}
        for key, identity, blobs in sorted(lacking | history.lost):
            pull = history.pulls.get(identity, {})
            late = pull.get("spent", 0) > hold
            late = late or max(pull.get("lead", 0), pull.get("silent", 0)) > in_flight
            late = late or history.removed_unseen(identity, blobs.split(","), self.settings.hold)
            line = f"{key}: lacks {blobs} (pull {identity} {json.dumps(pull)})"
            (found.excused if late else found.broken).append(line)
        found.broken += history.compare(self.listed())

        for key, _, _ in lacking:  # if that is excused, or the soak is to go on
            cache.unlink(str(Name.from_key(key)))
        if not (found.broken or found.errors):
            shutil.rmtree(journals)
        found.listed = self.listed()
        return found

    def deleted(self) -> list[str]:
        """Restore all that can be restored, several of one name one after the other."""
        broken = []
        cache = self._cache()
        restorable = Counter(model.name for model in cache.deleted() if model.restorable)
        for model in cache.models():
            self._drop(cache, model.name)
        for name, number in restorable.items():
            for _ in range(number):
                try:
                    cache.restore(name)
                except RegistryError as error:
                    broken.append(f"{name}: cannot be restored: {error}")
                    break
                if lack := _lacks(cache.store, Name.parse(name).key):
                    broken.append(f"{name}: restored, and lacks {lack[2]}")
                if number > 1:
                    self._drop(cache, name)
        return broken

    def _drop(self, cache: ModelCache, name: str) -> None:
        """Take a model out of the list, without a trace."""
        entry = cache.store.discard(Name.parse(name).key, (), time.time())
        if entry is not None:
            cache.store.forget(entry)

    def collected(self) -> list[str]:
        """See that a prune of a quiet store leaves what is needed, and no more."""
        cache = self._cache()
        before = self.listed()
        if self.place.at_work:
            # What killed processes have left holds up what it is about, until a prune removes it.
            time.sleep(self.place.at_work + 1)
            cache.prune(age=0)
        cache.prune(age=0)
        needed: set[str] = set()
        for key in views.keys(cache.store):
            manifest = cache.store.read(key)
            needed |= set(parse_manifest(manifest.data) if manifest else ())
        left = set(cache.store.blobs())
        broken = [f"prune(age=0): lacks {blob}" for blob in sorted(needed - left)]
        broken += [f"prune(age=0): leaves {blob}" for blob in sorted(left - needed)]
        broken += [f"prune(age=0): leaves {thing}" for thing in cache.store.condemned()]
        broken += [f"prune(age=0): leaves {thing}" for thing in cache.store.deleted()]
        broken += [f"prune(age=0): lists {key}, or not" for key in before ^ self.listed()]
        return broken
