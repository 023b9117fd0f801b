"""A store in a bucket over a network that fails, and between processes that do."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kit import azurite, inside, s3
from kit.clocks import Clock
from kit.kinds import KINDS, AzureKind, BucketKind
from kit.proxy import Proxy, proxied
from kit.trees import blob, manifest
from kit.views import content, state
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

KEY = "registry.ollama.ai/library/smol/latest"
REQUESTS = ["GET /", "GET list", "HEAD", "PUT", "POST"]
FAULTS = ["500", "503", "drop", "lose", "cut", "hang"]


@pytest.fixture
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> BucketKind:
    """An empty store behind S3, or of the kind that the test asks for."""
    kind = KINDS[getattr(request, "param", "s3")](tmp_path, Clock())
    assert isinstance(kind, BucketKind)
    return kind


#: Over Azure, too, where it makes a difference.
either = pytest.mark.parametrize("kind", ["s3", "azure"], indirect=True)


@pytest.fixture
def proxy(kind: BucketKind) -> Iterator[Proxy]:
    """A proxy in front of the endpoint."""
    _, settings = location(kind)
    with proxied(settings["endpoint"]) as proxy:
        yield proxy


def location(kind: BucketKind) -> tuple[str, dict[str, str]]:
    """The URL of the store of *kind*, and the settings that lead to it."""
    if isinstance(kind, AzureKind):
        account = azurite.account()
        return f"az://{account.name}/{account.container}/{kind.client.prefix}", account.config
    endpoint = s3.endpoint()
    return f"s3://{endpoint.bucket}/{kind.client.prefix}", endpoint.config


def through(proxy: Proxy, kind: BucketKind, read_timeout: float = 1) -> Any:
    """The store of *kind*, reached through *proxy*."""
    from registry_wsgi.stores.bucket import ObjectStore

    url, settings = location(kind)
    endpoint = proxy.url + urlsplit(settings["endpoint"]).path
    config: dict[str, Any] = settings | {"endpoint": endpoint}
    return ObjectStore.from_url(url, read_timeout=read_timeout, tuning=kind.tuning, **config)


def lists(path: str) -> bool:
    """Whether a request is for a listing."""
    return "list-type=2" in path or "comp=list" in path


def keys(kind: BucketKind, folder: str) -> list[str]:
    """All that is in *folder* of the bucket."""
    return [meta["path"] for page in kind.client.list(folder) for meta in page]


class Every:
    """
    A plan that lets some of the requests fail.

    Args:
        fault: How.
        which: Whether a request is one of them.
        times: How many of them.
    """

    def __init__(
        self, fault: str, which: Callable[[str, str], bool], times: float = float("inf")
    ) -> None:
        self.fault, self.which, self.times = fault, which, times

    def __call__(self, method: str, path: str) -> str | None:
        if self.times <= 0 or not self.which(method, path):
            return None
        self.times -= 1
        return self.fault


@pytest.mark.parametrize(
    ("kind", "fault", "what"),
    [
        *itertools.product(["s3"], FAULTS, REQUESTS),
        *itertools.product(["azure"], ["503", "lose"], REQUESTS),
    ],
    indirect=["kind"],
)
def test_one_request_that_fails_is_tried_again(
    kind: BucketKind, proxy: Proxy, what: str, fault: str
) -> None:
    """A single failure is not noticed: a delete, a restore and a prune go through."""
    if fault == "cut" and what in ("GET list", "POST"):
        pytest.skip("half a list is an error at once")
    if fault == "hang" and what == "POST":
        pytest.skip("a delete without an answer may have happened, and is not repeated")
    kind.put(KEY, b"weights")
    kind.put_blob("sha256-aa", b"nobody's")
    cache = ModelCache(through(proxy, kind))
    method, _, where = what.partition(" ")

    def which(how: str, path: str) -> bool:
        return how == method and lists(path) == (where == "list")

    steps: list[Callable[[], object]] = [
        lambda: cache.unlink("smol"),
        lambda: cache.restore("smol"),
        lambda: cache.prune(age=0),
    ]
    for number, step in enumerate(steps):
        proxy.plan = Every(fault, which, 1)
        step()
        assert proxy.faults > 0 or number < 1
    now = state(kind.store)
    assert {*now["manifests"]} == {KEY}
    assert {*now["blobs"]} == {blob(b"weights"), blob(b"{}")}
    assert now["deleted"] == {}


@either
@pytest.mark.parametrize("fault", ["500", "cut"])
@pytest.mark.parametrize("folder", ["blobs", "manifests", "trash", "condemned"])
def test_a_listing_that_fails_removes_nothing(
    kind: BucketKind, proxy: Proxy, folder: str, fault: str
) -> None:
    """If any listing breaks off, nothing is removed, the error says which; a retry goes on."""
    kind.put(KEY, b"weights")
    kind.put_blob("sha256-aa", b"nobody's")
    cache = ModelCache(through(proxy, kind))
    before = state(kind.store)
    proxy.plan = Every(fault, lambda how, path: lists(path) and f"{folder}%2F" in path)
    with pytest.raises(StoreError, match=f"/{folder}/: "):
        cache.prune(age=0)
    assert state(kind.store) == before
    proxy.plan = lambda how, path: None
    assert cache.prune(age=0).blobs == 1


@pytest.mark.parametrize("fault", ["500", "cut"])
@pytest.mark.parametrize("folder", ["blobs", "manifests"])
def test_a_second_page_that_fails_removes_nothing(
    kind: BucketKind, proxy: Proxy, folder: str, fault: str
) -> None:
    """What follows the first page of a listing may be what needs the blobs."""
    from concurrent.futures import ThreadPoolExecutor

    data = manifest()
    kind.put_blob(blob(b"{}"), b"{}")
    with ThreadPoolExecutor(16) as pool:
        names = range(1_010)
        if folder == "blobs":
            list(pool.map(lambda number: kind.put_blob(f"sha256-{number:04}", b"x"), names))
        else:
            list(pool.map(lambda number: kind.put_manifest(f"h/n/m{number:04}/t", data), names))
    before = {meta["path"] for page in kind.client.list() for meta in page}
    proxy.plan = Every(fault, lambda how, path: "continuation-token" in path)
    with pytest.raises(StoreError, match=f"/{folder}/: "):
        ModelCache(through(proxy, kind)).prune(age=0)
    assert {meta["path"] for page in kind.client.list() for meta in page} == before


@pytest.mark.parametrize("fault", ["500", "drop", "deny"])
def test_a_removal_that_fails_ends_the_run(kind: BucketKind, proxy: Proxy, fault: str) -> None:
    """After some that cannot be removed no other is; the error says which; a retry goes on."""
    kind.tune(page=2)
    kind.put(KEY, b"weights")
    for number in range(5):
        kind.put_blob(f"sha256-{number:064}", b"x")
    removed: list[str] = []

    def plan(method: str, path: str) -> str | None:
        if method == "DELETE":
            return "blind"  # the store has no deletes on a condition
        if method != "POST":
            return None
        removed.append(path)
        return fault if len(removed) > 3 else None  # the probe, two blobs and their marks go

    proxy.plan = plan
    cache = ModelCache(through(proxy, kind))
    with pytest.raises(StoreError, match=r"/blobs/sha256-0+\d \(or another of 1 with it\): "):
        cache.prune(age=0)
    assert len({*keys(kind, "blobs")}) == 2 + 3
    proxy.plan = lambda how, path: None
    cache.prune(age=0)
    assert len({*keys(kind, "blobs")}) == 2 + 2  # nobody knows whether that delete is still to come
    kind.tune(at_work=-5)
    for _ in range(2):
        ModelCache(kind.another()).prune(age=0)
    assert {*kind.store.blobs()} == {blob(b"weights"), blob(b"{}")}
    assert list(kind.store.condemned()) == []


@either
@pytest.mark.parametrize("fault", ["500", "503", "drop", "hang"])
def test_a_store_that_keeps_failing_is_an_error_and_loses_nothing(
    kind: BucketKind, proxy: Proxy, fault: str
) -> None:
    """However a request fails for good, the model is in place or in the trash, with its blobs."""
    data = kind.put(KEY, b"weights")
    store = through(proxy, kind, read_timeout=0.3)
    store.discard("h/n/m/t", (), 1.0)  # looks at what the store can do
    proxy.plan = Every(fault, lambda how, path: how == "PUT" and "/manifests/" in path)
    started = time.monotonic()
    with pytest.raises(StoreError, match=f"{KEY}: "):
        ModelCache(store).unlink("smol")
    assert time.monotonic() - started < 60
    proxy.plan = lambda how, path: None
    now = state(kind.another())
    assert data in [*now["manifests"].values(), *now["deleted"].values()]
    assert content(kind.store, blob(b"weights")) == b"weights"
    if not now["manifests"]:
        ModelCache(kind.another()).restore("smol")
    assert kind.store.read(KEY) is not None


@either
@pytest.mark.parametrize("fault", ["503", "lose"])
def test_a_delete_is_sent_once_by_whatever_client(
    kind: BucketKind, proxy: Proxy, fault: str
) -> None:
    """A second one may take what has come after the first, also where the client was given."""
    from registry_wsgi.stores.bucket import ObjectStore

    kind.put_blob("sha256-aa", b"x")
    given = inside.client_of(through(proxy, kind))
    bucket = inside.bucket_of(ObjectStore(given, name="bucket", tuning=kind.tuning))
    deletes: list[str] = []

    def plan(method: str, path: str) -> str | None:
        if method not in ("POST", "DELETE"):
            return None
        deletes.append(path)
        return fault

    proxy.plan = plan
    with pytest.raises(StoreError, match=r"^bucket/blobs/sha256-aa: "):
        bucket.delete("blobs/sha256-aa")
    assert len(deletes) == 1


def test_a_blob_that_breaks_off_is_read_on(kind: BucketKind, proxy: Proxy) -> None:
    """An answer cut in the middle of a large blob is not taken for its end."""
    data = random.Random(1).randbytes(3 << 20)
    kind.put_blob(blob(data), data)
    store = through(proxy, kind)
    proxy.plan = Every("cut", lambda how, path: how == "GET" and "/blobs/" in path, 1)
    try:
        found = content(store, blob(data))
    except StoreError:
        found = data  # said so
    assert found == data
    assert proxy.faults == 1


# Several processes

WORKER = """
import json, random, sys
from registry_wsgi import ModelCache
from registry_wsgi.errors import ModelExistsError, ModelNotFoundError, ModelIncompleteError
from registry_wsgi.stores.bucket import ObjectStore

url, config, seed, steps, *names = sys.argv[1:]
store = ObjectStore.from_url(url, **json.loads(config))
cache = ModelCache(store, retention="1h", hold=0, in_flight=0)
choice = random.Random(int(seed))
print("ready", flush=True)
for _ in range(int(steps)):
    name = choice.choice(names)
    what = choice.random()
    try:
        if what < 0.4:
            print("deleted" if cache.unlink(name) else "none", name, flush=True)
        elif what < 0.8:
            cache.restore(name)
            print("restored", name, flush=True)
        else:
            cache.prune()
            print("pruned", flush=True)
    except (ModelExistsError, ModelNotFoundError, ModelIncompleteError) as error:
        print("no", type(error).__name__, flush=True)
"""


def start(kind: BucketKind, seed: int, steps: int, names: list[str]) -> subprocess.Popen[str]:
    """Start a process that deletes, restores and prunes at random."""
    url, config = location(kind)
    arguments = [url, json.dumps(config), str(seed), str(steps), *names]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def check(kind: BucketKind, models: dict[str, bytes]) -> None:
    """Each model is listed or in the trash, once at least, and all blobs are there."""
    store = kind.another()
    ModelCache(store).prune()
    now = state(store)
    for key, data in models.items():
        copies = [found for entry, found in now["deleted"].items() if entry.key == key]
        copies += [now["manifests"][key]] if key in now["manifests"] else []
        assert data in copies, key
        assert {*copies} == {data}
    assert ModelCache(store).verify(deep=True).ok
    assert {*now["manifests"]} <= {*models}
    names = {meta["path"] for page in kind.client.list("blobs") for meta in page}
    assert names == {f"blobs/{blob(d)}" for k in models for d in (k.encode(), b"shared", b"{}")}


def furnish(kind: BucketKind, count: int) -> tuple[dict[str, bytes], list[str]]:
    """Put *count* models; their manifests by key, and their names."""
    keys = [f"registry.ollama.ai/library/m{number}/latest" for number in range(count)]
    models = {key: kind.put(key, key.encode(), b"shared") for key in keys}
    return models, [key.split("/")[2] for key in keys]


@either
def test_processes_that_delete_and_restore_at_once_lose_nothing(kind: BucketKind) -> None:
    """Three processes over the same models: as many deletes of each as restores, or one more."""
    models, names = furnish(kind, 4)
    workers = [start(kind, seed, 60, names) for seed in range(3)]
    events: Counter[str] = Counter()
    for worker in workers:
        out, errors = worker.communicate(timeout=100)
        assert worker.returncode == 0, errors
        events.update(
            line.rpartition("/")[2].removesuffix(":latest") if "restored" in line else line
            for line in out.splitlines()
            if line.startswith(("deleted", "restored"))
        )
    listed = {key.split("/")[2] for key in dict(kind.store.versions())}
    for name in names:
        assert events[f"deleted {name}"] - events[f"restored {name}"] == (name not in listed)
    assert kind.store.deleted() == [e for e in kind.store.deleted() if e.key in models]
    assert len(kind.store.deleted()) == len(names) - len(listed)
    check(kind, models)


def test_processes_that_are_killed_lose_nothing(kind: BucketKind) -> None:
    """Killed at any moment, again and again, they leave each model listed or in the trash."""
    models, names = furnish(kind, 3)
    choice = random.Random(5)
    for number in range(5):
        worker = start(kind, number, 1_000, names)
        assert worker.stdout is not None
        for _ in range(choice.randrange(1, 25)):
            worker.stdout.readline()
        time.sleep(choice.random() / 50)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        check(kind, models)
    kind.tune(at_work=-5)
    store = kind.another()
    ModelCache(store).models()
    store.deleted()
    store.tidy(float("inf"))
    for key in models:
        if store.read(key) is None:
            ModelCache(store).restore(key.split("/")[2])
    assert {*dict(store.versions())} == {*models}


PULLER = """
import random, sys, time
from registry_wsgi import ModelCache
from registry_wsgi.errors import OutOfReachError, RegistryError, StoreError
from registry_wsgi.stores.bucket import ObjectStore
from obstore.store import S3Store
from kit.trees import blob, manifest

prefix, bucket, endpoint, region, key, secret, seed, seconds, what, keeps = sys.argv[1:]
config = dict(endpoint=endpoint, region=region, access_key_id=key, secret_access_key=secret)
client = S3Store(bucket, prefix=prefix, client_options={"allow_http": True}, **config)
store = ObjectStore.from_url(f"s3://{bucket}/{prefix}", **config)
cache = ModelCache(store, retention="1s", hold="1s", in_flight=0)
choice = random.Random(int(seed))
contents = [b"content %d" % number for number in range(12)]
names = [f"m{number}" for number in range(6)]
end = time.monotonic() + float(seconds)
events = 0


def is_there(name):
    try:
        client.head(f"blobs/{name}")
        return True
    except FileNotFoundError:
        return False


def pull():
    layers = choice.sample(contents, 3)
    data = {blob(layer): layer for layer in layers}
    for name, layer in data.items():
        if not is_there(name):
            client.put(f"blobs/{name}", layer)
    time.sleep(choice.random() / 10)
    key = f"manifests/registry.ollama.ai/library/{choice.choice(names)}/latest"
    client.put(key, manifest(*layers[1:], config=layers[0]))
    while keeps == "1":
        try:
            for name in store.keep(data):
                client.put(f"blobs/{name}", data[name])
            break
        except StoreError:
            pass


while time.monotonic() < end:
    try:
        if what == "pull":
            pull()
        elif choice.random() < 0.6:
            cache.unlink(choice.choice(names))
        elif choice.random() < 0.5:
            cache.restore(choice.choice(names))
        else:
            cache.prune(age=choice.choice([0, None]))
        events += 1
    except OutOfReachError:
        # A prune stops where the others have just removed the last model and blobs are left.
        assert what == "other"
    except RegistryError as error:
        assert not isinstance(error, StoreError), error
print(events)
"""


def run_pulls(kind: BucketKind, seconds: float, keeps: str) -> tuple[int, list[str]]:
    """Pull, delete, restore and prune in several processes; the events, and what is broken."""
    endpoint = s3.endpoint()
    workers = []
    for seed, what in enumerate(("pull", "pull", "other", "other")):
        arguments = [kind.client.prefix, endpoint.bucket, *endpoint.config.values()]
        arguments += [str(seed), str(seconds), what, keeps]
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", PULLER, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        )
    events = 0
    for worker in workers:
        out, errors = worker.communicate(timeout=100)
        assert worker.returncode == 0, errors
        events += int(out)
    problems = ModelCache(kind.another()).verify(deep=True).problems
    return events, [str(problem) for problem in problems]


def test_models_that_are_pulled_while_others_prune_are_whole(kind: BucketKind) -> None:
    """Pulls that keep their blobs meet deletes, restores and prunes: no listed model lacks one."""
    events, broken = run_pulls(kind, 8, keeps="1")
    assert events > 20
    assert broken == []
