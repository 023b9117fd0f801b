"""A bucket as the place of the models: what opens it, and what is said when it does not open."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from kit import azurite, s3
from kit.proxy import proxied
from kit.requirements import require
from registry_wsgi import ModelCache, create_app, open_cache
from registry_wsgi.errors import ConfigurationError, StoreError

NO_BUCKETS = "import sys; sys.modules['obstore'] = None\n"


@pytest.fixture
def endpoint() -> s3.Endpoint:
    """An S3 endpoint."""
    return s3.endpoint()


@pytest.fixture
def location(endpoint: s3.Endpoint, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in a bucket, with all else in the environment."""
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{endpoint.bucket}/{s3.fresh_prefix()}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_bucket_is_opened_by_its_url(
    location: str, endpoint: s3.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument and the variable take it; credentials and endpoint come from the environment."""
    prefix = location.removeprefix(f"s3://{endpoint.bucket}/")
    endpoint.client(prefix).put("manifests/h/n/m/t", b'{"layers": []}')
    assert [str(model) for model in open_cache(location).models()] == ["h/n/m:t"]
    assert open_cache(f"{location}/").unlink("h/n/m:t") is True
    monkeypatch.setenv("OLLAMA_MODELS", location)
    cache = open_cache(retention="2w")
    assert [str(model) for model in cache.deleted()] == ["h/n/m:t"]
    assert repr(cache) == f"ModelCache(<ObjectStore {location}>)"
    create_app()


def test_an_endpoint_can_be_given_in_the_url(
    location: str, endpoint: s3.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wins over the environment, and the time limits can be set there too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    where = f"endpoint={quote(endpoint.url)}&region=us-east-1&connect_timeout=2s&read_timeout=5s"
    assert open_cache(f"{location}?{where}").models() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "n0-such-secret"}, "credentials are wrong"),
        ({"AWS_ACCESS_KEY_ID": "n0-such-key"}, "credentials are wrong"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not answer: Connection refused"),
        ({"AWS_ENDPOINT_URL": "http://nowhere.invalid"}, "does not answer: failed to lookup"),
        ({"bucket": "no-such-bucket-here"}, "there is no such bucket"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_and_soon(
    location: str,
    endpoint: s3.Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    message: str,
) -> None:
    """The message names the place and the reason, and never a secret."""
    if "credentials" in message and not endpoint.real:
        pytest.skip("moto takes any credentials")
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    if "bucket" in change:
        location = f"s3://{change['bucket']}/x"
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_cache(location)
    assert time.monotonic() - started < 10
    text = str(caught.value)
    assert text.startswith(f"location: {location}/")
    assert "\n" not in text
    assert len(text) < 300
    for secret in (endpoint.secret, *change.values()):
        assert secret not in text or secret in location or secret.startswith("http")


def test_a_store_that_says_nothing_is_given_up(
    location: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time limit of each try, the message says that no answer came."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    with pytest.raises(ConfigurationError, match=f"{silent} does not answer: no answer in time"):
        open_cache(f"{location}?read_timeout=1s")


def test_opening_does_not_wait_as_long_as_later_requests_do(
    location: str, silent: str, endpoint: s3.Endpoint
) -> None:
    """A store that accepts and never answers is given up, whatever the time limits are."""
    from registry_wsgi.stores.bucket import ObjectStore, Tuning

    config: dict[str, Any] = endpoint.config | {"endpoint": silent}
    with pytest.raises(StoreError, match=f"{silent} does not answer: no answer in time"):
        ObjectStore.from_url(location, tuning=Tuning(opening=0.3), read_timeout=600, **config)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://key:hunter2@bucket/x", "credentials belong in the environment"),
        ("s3://bucket/x?secret_access_key=hunter2", 'option "secret_access_key": only endpoint'),
        ("s3://bucket/x?read_timeout=hunter2", "invalid duration"),
        ("s3://", "s3://"),
        ("s3://bucket/x?endpoint=minio:9000", "the endpoint minio:9000 has no https:// before it"),
        ("az://account/models/x?endpoint=127.0.0.1", "the endpoint 127.0.0.1 has no https://"),
        ("s3://bucket/x?endpoint=ftp://minio", "the endpoint ftp://minio has no https:// before"),
        ("s3://bucket/x?endpoint=http://key:hunter2@minio", "environment, not in the endpoint"),
        ("s3://my bucket/x", "no bucket can have this name"),
        ("az://account", "az://account: not az://account/container/prefix"),
        ("az://account//x", "az://account//x: not az://account/container/prefix"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(location: str, message: str) -> None:
    """The message says what is wrong with it."""
    require("obstore")
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_cache(location)
    assert "hunter2" not in str(caught.value) or "duration" in message


@pytest.mark.parametrize(
    "server",
    [
        *("", "/x", "exa mple", "a:", "a:99999", "a:b", "a?b", "a#b", "a\nb", "ä:9", "xn--", "[x]"),
        *("999.1.1.1", "1.2.3", "0x", "%41"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
@pytest.mark.parametrize("location", ["s3://b/x", "az://a/b/x", "gs://b/x"])
def test_an_endpoint_that_names_no_server_is_refused(
    location: str, scheme: str, server: str
) -> None:
    """In one line of ours, before the client of the store sees it: there it ends the process."""
    require("obstore")
    with pytest.raises(ConfigurationError, match="is no URL of a server") as caught:
        open_cache(f"{location}?endpoint={scheme}://{quote(server)}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("server", ["127.0.0.1:9", "[::1]:9", "127.0.0.1:9/some/path"])
def test_an_endpoint_may_be_an_address_or_have_a_path(
    location: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheme may be in capitals."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"HTTP://{server}")
    with pytest.raises(ConfigurationError, match="does not answer"):
        open_cache(location)


@pytest.mark.parametrize(
    ("absent", "there"),
    [
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_half_of_the_credentials_is_told(
    location: str, absent: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable that is there, and the one that is not."""
    monkeypatch.delenv(absent)
    with pytest.raises(ConfigurationError, match=f"incomplete: there is {there}, and no {absent}"):
        open_cache(location)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ExpiredToken", "the credentials have expired"),
        ("TokenRefreshRequired", "the credentials have expired"),
        ("InvalidToken", "the credentials are wrong: check the session token"),
        ("InvalidBucketName", "no bucket can have this name"),
        ("PermanentRedirect", "the region or the endpoint is wrong: set AWS_REGION"),
    ],
)
def test_what_only_real_stores_answer_is_told_too(
    location: str, endpoint: s3.Endpoint, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    """Through a proxy, as the emulators take any token and any name."""
    with proxied(endpoint.url) as proxy:
        proxy.plan = lambda _method, _path: f"400 {code}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(ConfigurationError, match=rf"{message} \({code}\)") as caught:
            open_cache(location)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        *("team#2", "team?2", "#team", "team#", "x/../team", "x/%2e%2e/team", "./team", "team/."),
        *("te\tam", "te\nam", "team ", "x//team", "//team", "team?region=us-east-1#2"),
    ],
)
@pytest.mark.parametrize("bucket", ["s3://models", "gs://models", "az://account/models"])
def test_a_url_that_would_lead_elsewhere_is_refused(
    bucket: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that is read in another way neither lists nor removes another team's models."""
    require("obstore")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    said = r"would (open|cut)|empty path segment|option .+: only endpoint"
    with pytest.raises(ConfigurationError, match=said):
        open_cache(f"{bucket}/{place}")


@pytest.mark.parametrize("url", ["s3://models:80/x", "https://models.s3.amazonaws.com/x"])
def test_a_client_is_made_for_what_the_url_says_and_no_other(url: str) -> None:
    """Also where the library is used without `open_cache`."""
    require("obstore")
    from registry_wsgi.stores.bucket import ObjectStore

    with pytest.raises(StoreError, match=r"would open models/x|not s3://, gs:// or az://"):
        ObjectStore.from_url(url)


def test_odd_characters_in_a_prefix_are_taken_as_they_are(
    location: str, endpoint: s3.Endpoint
) -> None:
    """Written as a URL has them, they name that prefix."""
    prefix = location.removeprefix(f"s3://{endpoint.bucket}/")
    for name in ("team#2", "a b", "ä", "50%", "a+b", "q?x"):
        endpoint.client(f"{prefix}/{name}").put("manifests/h/n/m/t", b'{"layers": []}')
        cache = open_cache(f"{location}/{quote(name)}")
        assert [str(model) for model in cache.models()] == ["h/n/m:t"]
    assert open_cache(f"{location}/team").models() == []


def test_without_the_extra_the_message_says_how_to_get_it() -> None:
    """Who has no obstore reads what to install, and the other stores work."""
    script = (
        f"{NO_BUCKETS}from registry_wsgi import open_cache\n"
        "open_cache('memory:')\n"
        "try: open_cache('s3://bucket/x')\n"
        "except Exception as error: print(error)\n"
        "try: import registry_wsgi.stores.bucket\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'registry-wsgi[buckets]'" in line for line in lines)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> azurite.Account:
    """An account of Azure, with all but its name in the environment."""
    account = azurite.account()
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    return account


def test_a_container_is_opened_by_its_url(
    account: azurite.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL has account, container and prefix, in this order; an endpoint can follow."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "another")  # the URL says which
    prefix = azurite.fresh_prefix()
    location = f"az://{account.name}/{account.container}/{prefix}"
    account.client(prefix).put("manifests/h/n/m/t", b'{"layers": []}')
    cache = open_cache(location)
    assert [str(model) for model in cache.models()] == ["h/n/m:t"]
    assert repr(cache) == f"ModelCache(<ObjectStore {location}>)"
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9")
    cache = open_cache(f"{location}?endpoint={quote(account.url)}&connect_timeout=2s")
    assert cache.unlink("h/n/m:t") is True
    # Without a prefix the models lie in the container itself.
    whole = f"az://{account.name}/{account.container}?endpoint={quote(account.url)}"
    assert open_cache(whole).models() == []


def test_the_command_line_works_on_a_container(account: azurite.Account) -> None:
    """What is deleted is restored, and what is pruned is gone, each by a process of its own."""
    require("click", "rich")
    prefix = azurite.fresh_prefix()
    client = account.client(prefix)
    for name in ("one", "other"):
        client.put(f"manifests/registry.ollama.ai/library/{name}/latest", b'{"layers": []}')

    def run(*arguments: str) -> str:
        location = f"az://{account.name}/{account.container}/{prefix}"
        command = [sys.executable, "-m", "registry_wsgi", "--models", location, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("rm", "--yes", "one", "other")
    assert "other" in run("deleted")
    run("restore", "one")
    assert "one" in run("list")
    run("prune", "--age", "0")
    assert "other" not in run("deleted")
    left = [meta["path"] for page in client.list() for meta in page]
    left = [path for path in left if path.startswith(("manifests/", "trash/"))]
    assert left == ["manifests/registry.ollama.ai/library/one/latest"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AZURE_STORAGE_ACCOUNT_KEY": "bjAtc3VjaC1zZWNyZXQ="}, "these credentials are wrong"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "n0-such-secret!"}, "the key is not in Base64"),
        ({"sas": "rwd"}, r"may not do this \(AuthorizationPermissionMismatch\)"),
        ({"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9"}, "not answer: Connection refused"),
        ({"account": "no-such-account"}, "these credentials are wrong"),
        ({"container": "no-such-container"}, r"no such container \(ContainerNotFound\)"),
    ],
)
def test_what_is_wrong_with_a_container_is_said_too(
    account: azurite.Account,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    message: str,
) -> None:
    """As with S3: the place and the reason, and no secret."""
    secret = account.key
    for name, value in change.items():
        if name.startswith("AZURE_"):
            monkeypatch.setenv(name, value)
            secret = value
        elif name == "sas":
            secret = account.sas(value)
            monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", secret)
            monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    place = f"{change.get('account', account.name)}/{change.get('container', account.container)}"
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_cache(f"az://{place}/x")
    text = str(caught.value)
    assert text.startswith(f"location: az://{place}/x")
    assert "\n" not in text
    assert len(text) < 200
    for part in (secret, *secret.split("&")):
        assert part not in text or part.startswith("http")


@pytest.mark.parametrize(
    "location", ["s3://models/x?region=us-east-1", "gs://models/x", "az://account/models/x"]
)
def test_who_has_no_credentials_is_told_so(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    """Clients then ask the network of a cloud for some: here none answers."""
    require("obstore")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    for variable in ("no_proxy", "http_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigurationError, match="no credentials are found, neither in"):
        open_cache(location)


def test_an_endpoint_can_be_given_for_gcs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called otherwise there, and here the same."""
    require("obstore")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    for location in ("gs://models/x?endpoint=http://127.0.0.1:9", "gs://models/x"):
        with pytest.raises(ConfigurationError, match=r"at http://127\.0\.0\.1:9 does not answer"):
            open_cache(location)
        monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:9")


def test_models_of_a_bucket_are_served(location: str, endpoint: s3.Endpoint) -> None:
    """A delete through the middleware moves the model to the trash of the bucket."""
    from webtest import TestApp

    from registry_wsgi import LocalRegistry

    prefix = location.removeprefix(f"s3://{endpoint.bucket}/")
    endpoint.client(prefix).put("manifests/registry.ollama.ai/library/m/latest", b'{"layers": []}')
    cache: ModelCache = open_cache(location)
    app = TestApp(LocalRegistry(cache=cache))
    app.delete_json("/api/delete", {"model": "m"}, status=200)
    app.delete_json("/api/delete", {"model": "m"}, status=404)
    assert [str(model) for model in cache.deleted()] == ["registry.ollama.ai/library/m:latest"]
