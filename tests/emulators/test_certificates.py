"""Buckets behind a server whose certificate is from a private authority."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kit import azurite, s3
from kit.certificates import Authority
from kit.proxy import Proxy, proxied
from kit.requirements import require
from registry_wsgi import open_cache
from registry_wsgi.errors import ConfigurationError

require("obstore", "botocore")


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """A private authority, on a machine where nothing says what is to be trusted."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return Authority(tmp_path)


@pytest.fixture
def proxy(authority: Authority) -> Iterator[Proxy]:
    """A proxy before moto, by TLS."""
    with proxied(s3.conditional().url, tls=authority.server()) as found:
        yield found


@pytest.fixture
def location(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in the bucket behind the proxy."""
    for name, value in (s3.conditional().environment | {"AWS_ENDPOINT_URL": proxy.url}).items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.conditional().bucket}/{s3.fresh_prefix()}"


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "profile"])
def test_one_setting_makes_both_clients_trust_an_authority(
    location: str,
    proxy: Proxy,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """Each of those that people know; what is listed, written, deleted and asked for works."""
    if variable == "profile":
        config = authority.file.with_name("config")
        config.write_text(f"[default]\nca_bundle = {authority.file}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    else:
        monkeypatch.setenv(variable, str(authority.file))
    cache = open_cache(location)
    cache.protect("a")
    assert cache.unprotect("a")
    cache.prune()
    assert any("uploads" in path for _, path in proxy.requests)  # botocore's
    assert any(method == "DELETE" for method, _ in proxy.requests)


def test_an_authority_that_is_not_trusted_is_told(location: str, proxy: Proxy) -> None:
    """The message names the certificate, and the variable that is to be set."""
    said = f"the certificate of {proxy.url} is from an authority that is not trusted: set SSL_CERT"
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        open_cache(location)
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (lambda authority: authority.server("127.0.0.9"), "is for another name"),
        (lambda authority: authority.server(lasting=timedelta(days=-1)), "has expired"),
    ],
)
def test_a_certificate_that_does_not_hold_is_told(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    context: Callable[[Authority], ssl.SSLContext],
    said: str,
) -> None:
    """Though its authority is trusted; the same for other clouds."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    with proxied("http://127.0.0.1:9", tls=context(authority)) as proxy:
        for location in ("s3://models/x", "gs://models/x"):
            with pytest.raises(ConfigurationError, match=f"certificate of {proxy.url} {said}"):
                open_cache(f"{location}?endpoint={proxy.url}")


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_file_without_certificates_is_told(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Rather than that the store is not trusted."""
    file = tmp_path / "none.pem"
    monkeypatch.setenv(variable, str(file))
    for why in ("No such file or directory", "no certificate"):
        said = f"the certificates in {file} cannot be used: {why}"
        with pytest.raises(ConfigurationError, match=said):
            open_cache(location)
        file.write_text("nothing")


def test_azure_goes_by_the_variable_that_is_not_of_amazon(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read for each kind of store."""
    account = azurite.account()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", account.key)
    with proxied(account.url, tls=authority.server()) as proxy:
        place = f"az://{account.name}/{account.container}/{azurite.fresh_prefix()}"
        place += f"?endpoint={proxy.url}/{account.name}"
        with pytest.raises(ConfigurationError, match="not trusted: set SSL_CERT_FILE"):
            open_cache(place)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert open_cache(place).models() == []
