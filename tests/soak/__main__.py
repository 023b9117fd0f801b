"""
A soak of the collector: pulls, deletes, restores and prunes in many processes, killed at random.

::

    cd tests
    python -m soak --events 200000 --seed 1
    python -m soak --s3 http://key:secret@host:port/bucket --events 50000

It keeps a store, in a directory or in a bucket, busy with processes of its own:

- **writers** pull models as Ollama does: for each layer, a blob that is in its place is used as it
  is (every other writer touches it, as newer versions do), and what is not there is downloaded bit
  by bit into ``blobs/sha256-<hex>-partial`` and renamed. What was downloaded is verified, and the
  manifest is written last, in place, often in two writes, so that readers meet half of one. Some
  pulls are given up half-way. Models share blobs, and what was left behind is referenced again.
  In a bucket a blob is there or not, and a manifest is written at once; before it a writer has the
  library keep the blobs, and uploads those that are gone. With ``--keeping 0`` none does: then a
  pull that ends while a run removes what it has found may break, as is documented (*excused*).
- Some models are not pulled but **created** (by way of a temporary file, with a manifest that ends
  in a newline), or **copied in** by ``cp -a`` or ``rsync -a``, with the times that they had. Half
  of the blobs are downloaded in parts, and what was stopped goes on from there.
- **renamers** copy a manifest and remove the old one, a few in a row.
- **fetchers** pull slowly and in parts, so that it shows all the while: what such a pull has found
  must stay in its place, and no file of its download may go.
- **blockers** leave blobs and downloads that nobody can touch for some time. (As root.)
- **deleters** and **restorers** go through the library. So do **forgetters**, which remove a single
  deleted model for good.
- **pruners** collect all the time, with durations of the order of a second instead of days.
- **the watcher** looks for a model with a blob that is neither in its place nor set aside. No run
  of the collector can heal that, only a download of the same blob by luck: it must never happen.
- **the parent** kills the others with SIGKILL at random moments and starts them anew. Now and then
  it lets the store fall still, so that prunes meet no pull, and then a single one. At the end of
  each round it stops all of them: then one prune must leave every listed model whole, by SHA-256,
  and the models listed must be those that the journals of all processes say. At the very end each
  deleted model that counts as restorable is restored and must be whole, and a prune with ``age=0``
  must leave nothing but what the models need.

If root runs the soak, the store belongs to another user, who runs all of these but the blockers and
some of those that go through the library. What cannot be done here (without root, or without
``rsync``) is left out, and the first lines say so; with ``REGISTRY_WSGI_REQUIRE_LIVE=1`` the soak
does not begin.

With ``--outages`` the way to a bucket fails now and then, for all: a proxy drops, delays, refuses
and cuts off what it is asked, or the gateway is stopped. Then an error is no harm (*told*), but a
loss is.

The last line has the figures. The exit status is 1 if anything was broken: then the store is kept,
and the lines before say what was found and where.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kit import s3
from kit.outages import Gateway, Storm, Weather
from soak.disk import Disk
from soak.parent import Soak
from soak.places import Bucket, Place
from soak.settings import PROTECTIONS, Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak over a directory or a bucket, print what it came to; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description="Soak the collector: pulls, deletes, restores and prunes in many processes,"
        " killed at random, after which every model must be whole.",
        epilog="The last line has the figures; the exit status is 1 if anything was broken, and"
        " then the store and the journals are kept.",
    )
    default = Settings()
    for name, kind, unit, text in _OPTIONS:
        usual = f"{getattr(default, name)}"
        if name in Bucket.usual:
            usual += f"; in a bucket {Bucket.usual[name]}"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=unit, help=f"{text} ({usual})"
        )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--store", type=Path, help="the directory of the store (a temporary one)")
    where.add_argument(
        "--s3",
        metavar="URL",
        help="a bucket instead, http://key:secret@host:port/bucket (and /prefix, else one that is"
        " removed in the end)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep what would be removed in the end, in any case"
    )
    parser.add_argument(
        "--go-on", action="store_true", help="after something was broken, delete it and go on"
    )
    parser.add_argument(
        "--at-rest", action="store_true", help="let pulls begin in a store at rest too"
    )
    parser.add_argument(
        "--gateway",
        metavar="PATH",
        help="the ceph.conf of a Ceph that is running: an outage is that of a gateway of its own",
    )
    parser.add_argument("--without", choices=PROTECTIONS, help=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    store, url, always_keep = (options.pop(name) for name in ("store", "s3", "keep"))
    gateway = options.pop("gateway")

    logging.getLogger("registry_wsgi").setLevel(logging.CRITICAL)
    work = Path(tempfile.mkdtemp(prefix="soak-", dir=store and store.parent))
    weather: Weather | None = None
    if url and options["outages"]:
        weather = Gateway(gateway) if gateway else Storm(s3.given(url).url)
    place = _bucket(url, weather) if url else Disk(store or work / "models", work)
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings(**{**place.usual, **given})
    keep = False
    try:
        settings, left_out = _possible(settings, place)
        for line in left_out:
            print(f"left out: {line}", file=sys.stderr)
        if left_out and os.environ.get("REGISTRY_WSGI_REQUIRE_LIVE") == "1":
            return 2
        keep = True
        outcome = Soak(settings, place, work, weather).run()
        keep = outcome.failed or always_keep
        for found, lines in outcome.lines.items():
            for line in lines[:50]:
                print(f"{found}: {line}")
        if keep:
            print(f"the store is in {place}, the journals are in {work}")
        print(outcome)
        return int(outcome.failed)
    except KeyboardInterrupt:
        keep = always_keep
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        if not keep:
            place.remove()
            shutil.rmtree(work)
        if weather is not None:
            weather.end()


def _possible(settings: Settings, place: Place) -> tuple[Settings, list[str]]:
    """Leave out of *settings* what cannot be done in *place*, and say what that is and why."""
    missed = {name: why for name, why in place.left_out().items() if getattr(settings, name, True)}
    none: dict[str, Any] = {name: 0 for name in missed if hasattr(settings, name)}
    return dataclasses.replace(settings, **none), [f"{name}: {why}" for name, why in missed.items()]


def _bucket(url: str, weather: Weather | None) -> Bucket:
    endpoint = s3.given(url)
    bucket, _, prefix = endpoint.bucket.partition("/")
    endpoint = dataclasses.replace(endpoint, bucket=bucket)
    if weather is not None:
        endpoint = dataclasses.replace(endpoint, url=weather.url)
    return Bucket(
        endpoint,
        prefix or f"soak-{uuid.uuid4().hex[:12]}",
        temporary=not prefix,
        # Among outages it takes some time to try again and again.
        at_work=15 if weather else 4,
    )


_OPTIONS: list[tuple[str, Callable[[str], int | float], str, str]] = [
    ("events", int, "N", "stop after so many events"),
    ("seconds", float, "SECONDS", "stop after this time"),
    ("committed", int, "N", "but not before so many pulls have succeeded"),
    ("seed", int, "N", "what the random choices begin with"),
    ("writers", int, "N", "how many processes pull"),
    ("deleters", int, "N", "how many delete"),
    ("restorers", int, "N", "how many restore"),
    ("forgetters", int, "N", "how many remove deleted models for good, one by one"),
    ("pruners", int, "N", "how many collect"),
    ("renamers", int, "N", "how many rename models"),
    ("fetchers", int, "N", "how many pull slowly and in parts"),
    ("blockers", int, "N", "how many leave what nobody can touch"),
    ("models", int, "N", "how many names of models there are"),
    ("contents", int, "N", "how many blobs there are to make models of"),
    ("age", float, "SECONDS", "the age of most prunes"),
    ("retention", float, "SECONDS", "how long deleted models are kept by the others"),
    ("in_flight", float, "SECONDS", "how recent a change means a pull under way"),
    ("hold", float, "SECONDS", "how long pulls hold back what is set aside"),
    ("round", float, "SECONDS", "the time from one check of the whole store to the next"),
    ("kills", float, "N", "how many processes are killed a second"),
    ("latency", float, "SECONDS", "the longest wait of a single writer before its download begins"),
    ("calm", float, "SECONDS", "how long pulls pause at least, now and then"),
    ("rest", float, "SHARE", "the share of that in which the pruners pause too"),
    ("still", float, "SECONDS", "how long at most there are only pulls of what is in place"),
    ("slow", float, "SECONDS", "how long at most a prune waits between its steps, in a bucket"),
    ("watch", float, "SECONDS", "how long the watcher waits from look to look"),
    ("copied", float, "SHARE", "the share of models that are copied in with cp"),
    ("rsynced", float, "SHARE", "the share of models that are copied in with rsync"),
    ("created", float, "SHARE", "the share of models that are made here"),
    ("keeping", float, "SHARE", "the share of writers that have their blobs kept, in a bucket"),
    ("outages", float, "N", "how many outages of a bucket there are a minute"),
    ("in_place", float, "SHARE", "the share of pulls that choose from what is in place"),
]


if __name__ == "__main__":
    sys.exit(main())
