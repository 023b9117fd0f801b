"""Credentials as people have them: who asks a bucket behind S3, by both of the clients."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import inside, s3
from kit.proxy import Proxy, proxied
from kit.requirements import require
from registry_wsgi import ModelCache, open_cache
from registry_wsgi.errors import ConfigurationError, StoreError

require("obstore", "botocore")

SIGN_ON = """
[profile team]
sso_session = x
sso_account_id = 1
sso_role_name = r
[sso-session x]
sso_region = eu-x
sso_start_url = http://127.0.0.1:9
"""

Write = Callable[..., None]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before moto, which takes any credentials, that tells who has signed."""
    with proxied(s3.conditional().url) as found:
        yield found


@pytest.fixture
def location() -> str:
    """The URL of an empty place, without anything about credentials."""
    return f"s3://{s3.conditional().bucket}/{s3.fresh_prefix()}"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the two files that the AWS command line has."""

    def write(config: str = "", credentials: str = "") -> None:
        for name, text in (("CONFIG", config), ("SHARED_CREDENTIALS", credentials)):
            path = tmp_path / name
            path.write_text(text)
            monkeypatch.setenv(f"AWS_{name}_FILE", str(path))

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return write


@pytest.fixture
def team(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The proxy, as the endpoint, and the profile ``team`` chosen."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_PROFILE", "team")
    return proxy


def work(location: str) -> None:
    """Ask through both clients."""
    cache = open_cache(location)
    cache.prune()
    assert cache.models() == []


def keys(name: str) -> str:
    """The lines of a profile with a key of its own."""
    return f"aws_access_key_id = {name}\naws_secret_access_key = secret\n"


@pytest.mark.parametrize(
    "config",
    [
        "[profile team]\nregion = eu-x\nendpoint_url = URL",
        "[profile team]\nregion = x\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = URL",
    ],
)
def test_a_profile_has_credentials_region_and_endpoint(
    write: Write, proxy: Proxy, location: str, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    """Both clients ask where it says, and are who it says."""
    write(config.replace("URL", proxy.url), f"[default]\n{keys('WRONG')}[team]\n{keys('TEAM')}")
    monkeypatch.setenv("AWS_PROFILE", "team")
    work(location)
    assert proxy.signers == {"TEAM"}
    assert any("uploads" in path for _, path in proxy.requests)


def test_the_environment_goes_before_the_files(
    write: Write, proxy: Proxy, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the credentials and for the endpoint, as with the AWS command line."""
    write("[default]\nendpoint_url = http://127.0.0.1:9", f"[default]\n{keys('FILE')}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    work(location)
    assert proxy.signers == {"ENVIRONMENT"}


def test_a_role_is_assumed(
    write: Write, proxy: Proxy, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials are those that the service for roles gives, for both clients."""
    endpoint = s3.conditional().url
    write(
        "[profile role]\nregion = eu-west-1\nsource_profile = base\nservices = mine\n"
        "role_arn = arn:aws:iam::123456789012:role/models\n"
        f"[services mine]\ns3 =\n endpoint_url = {proxy.url}\nsts =\n endpoint_url = {endpoint}\n",
        f"[base]\n{keys('BASE')}",
    )
    monkeypatch.setenv("AWS_PROFILE", "role")
    work(location)
    assert len(proxy.signers) == 1
    assert proxy.signers.isdisjoint({"BASE", None})


def test_credentials_that_end_are_asked_for_again(
    write: Write, proxy: Proxy, location: str, tmp_path: Path
) -> None:
    """A process gives them for some minutes; each later request is signed with the newest."""
    script = tmp_path / "credentials.py"
    until = datetime.now(UTC) + timedelta(seconds=5)  # sooner than botocore lets them be used
    answer = {"Version": 1, "SecretAccessKey": "s", "Expiration": until.isoformat()}
    script.write_text(
        "import json, pathlib\n"
        "count = pathlib.Path(__file__).with_suffix('.count')\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        f"answer = {json.dumps(answer)}\n"
        "answer['Expiration'] = answer['Expiration'].replace('20', '21', 1) if number > 1 else"
        " answer['Expiration']\n"
        "print(json.dumps(answer | {'AccessKeyId': f'KEY{number}'}))\n"
    )
    command = f"{sys.executable} {script}"
    write(f"[default]\nendpoint_url = {proxy.url}\ncredential_process = {command}\n")
    work(location)
    assert proxy.signers == {"KEY2"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", r"cannot be used: The config profile \(team\) could not be found"),
        ("[profile team\n", "cannot be used: Unable to parse config file"),
        (SIGN_ON, "cannot be used: .*(SSO|token)"),
        ("[profile team]\ncredential_process = false\n", "cannot be used: Error when retrieving"),
        ("[profile team]\naws_access_key_id = A\n", "cannot be used: Partial credentials found"),
        ("[profile team]\nregion = eu-x\n", "no credentials are found, neither in"),
    ],
)
def test_what_is_wrong_with_them_is_one_line(
    write: Write, team: Proxy, location: str, config: str, message: str
) -> None:
    """It is told when the bucket is opened, before a request is sent."""
    write(config)
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_cache(location)
    text = str(caught.value)
    assert text.startswith(f"location: {location}: ")
    assert "\n" not in text
    assert team.requests == []


def test_credentials_that_have_run_out_meanwhile_are_told(
    write: Write,
    proxy: Proxy,
    location: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A single sign-on that ends while a process runs, say: the request says so in one line."""
    until = datetime.now(UTC) + timedelta(minutes=20)
    answer = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s"}
    given = tmp_path / "given"
    given.write_text(json.dumps(answer | {"Expiration": until.isoformat()}))
    write(f"[default]\nendpoint_url = {proxy.url}\ncredential_process = cat {given}\n")
    ended = inside.let_credentials_end(monkeypatch)
    cache = open_cache(location)
    assert cache.models() == []
    given.unlink()
    ended.append(True)
    with pytest.raises(StoreError, match="/: the credentials cannot be used: Error when") as caught:
        cache.models()
    assert "\n" not in str(caught.value)


def test_a_client_with_a_provider_of_its_own_is_asked_alone(proxy: Proxy) -> None:
    """What obstore cannot ask for is not asked for by anybody else."""
    from obstore.store import S3Store

    from registry_wsgi.stores.bucket import ObjectStore

    def provide() -> Any:
        return {"access_key_id": "OWN", "secret_access_key": "s", "expires_at": None}

    storage = S3Store(
        s3.conditional().bucket,
        prefix=s3.fresh_prefix(),
        config={"endpoint": proxy.url, "region": "eu-x"},
        client_options={"allow_http": True},
        credential_provider=provide,
    )
    ModelCache(ObjectStore(storage)).prune()
    assert proxy.signers == {"OWN"}


def test_nobody_signs_where_that_is_asked_for(
    write: Write, proxy: Proxy, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the clients does, whatever credentials there are."""
    write(f"[default]\nendpoint_url = {proxy.url}\n", f"[default]\n{keys('FILE')}")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    work(location)
    assert proxy.signers == {None}
