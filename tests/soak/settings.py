"""How much of what a soak is made of."""

from __future__ import annotations

import dataclasses
import functools
import random

from kit import trees

#: The protections that can be taken out, to see that the soak then fails.
PROTECTIONS = ("hold", "put-back", "second-mark")


@dataclasses.dataclass(frozen=True)
class Settings:
    """
    What a soak is made of. Times are in seconds.

    Attributes:
        events: How many events to stop after: pulls, deletes, restores, collections and kills.
        seconds: How long to go on at most.
        committed: How many pulls must have succeeded before that time counts.
        seed: What the random choices begin with. (When processes meet is up to the system.)
        writers: How many processes pull; *deleters*, *restorers*, *forgetters*
            and *pruners* likewise.
        renamers: How many processes rename models; *fetchers*: download slowly in parts;
            *blockers*: leave what nobody can touch, as root.
        models: How many names there are to choose from; *contents*: how many blobs.
        age: The age of some prunes; the others take *retention*.
        in_flight: As for `ModelCache`; *hold* likewise.
        round: How long the processes run from one check of the whole store to the next.
        kills: How many processes are killed a second.
        latency: How long at most a writer that is alone waits for an answer before its download
            begins; of many, a tenth of that.
        calm: How long pulls pause at least; *rest*: in which share of that the pruners pause too.
        still: How long at most there are only pulls of what is in place.
        copied: Which share of models is copied in with ``cp -a``; *rsynced*: with ``rsync -a``;
            *created*: which is made here.
        slow: How long at most a prune waits before and after it reads manifests anew, in a bucket.
        watch: How long the watcher waits from one look to the next.
        keeping: Which share of the writers have the library keep what they have pulled, where the
            place has a way.
        outages: How many outages of a bucket there are a minute.
        in_place: Which share of pulls choose from what is in place, so that nothing shows them.
        at_rest: Let pulls also begin in a store at rest, which is not promised to go well: nothing
            shows the first one before its download begins.
        go_on: After something was found broken, go on (it is deleted) instead of ending there.
        without: Which of `PROTECTIONS` is taken out.
    """

    events: int = 20_000
    seconds: float = 1_500
    committed: int = 0
    seed: int = 0
    writers: int = 10
    deleters: int = 2
    restorers: int = 1
    forgetters: int = 1
    pruners: int = 3
    renamers: int = 1
    fetchers: int = 2
    blockers: int = 1
    models: int = 40
    contents: int = 400
    age: float = 0.3
    retention: float = 2.0
    in_flight: float = 0.5
    hold: float = 4.0
    round: float = 20.0
    kills: float = 5.0
    latency: float = 0.2
    calm: float = 0.9
    rest: float = 0.5
    still: float = 1.0
    copied: float = 0.06
    rsynced: float = 0.02
    created: float = 0.12
    slow: float = 0.1
    watch: float = 0.02
    keeping: float = 1.0
    outages: float = 0.0
    in_place: float = 0.0
    at_rest: bool = False
    go_on: bool = False
    without: str | None = None

    @functools.cached_property
    def keys(self) -> list[str]:
        """The keys of the models: some hosts and namespaces, so that blobs are shared across."""
        places = ("registry.ollama.ai/library", "registry.ollama.ai/someone", "example.com/models")
        return [f"{places[i % 3]}/model-{i // 3}/latest" for i in range(self.models)]

    @functools.cached_property
    def pool(self) -> dict[str, bytes]:
        """The contents that models are made of, by the names of their blobs."""
        rng = random.Random(f"contents {self.seed}")
        pool = (rng.randbytes(rng.randint(20, 3_000)) for _ in range(self.contents))
        return {trees.blob(data): data for data in pool}
