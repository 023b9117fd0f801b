"""
Who asks a bucket behind S3, and where the bucket is, as the AWS command line finds these out.

botocore knows all the ways: variables, profiles in ``~/.aws``, single sign-on, roles to assume, the
machine. obstore knows some, and another order. So botocore alone is asked, for both clients: they
are never two identities.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import StoreError, one_line

if TYPE_CHECKING:
    from obstore.store import S3Credential

__all__ = ["Identity"]

# The credentials that botocore gives last at least as long.
_LASTING = timedelta(minutes=10)


class Identity:
    """
    The credentials, the region and the endpoint of this environment.

    It is what obstore takes for a provider of credentials.

    Attributes:
        session: The session of botocore that has found them.
        certificates: The file with the authorities that are trusted; None: as usual.

    Raises:
        StoreError: botocore is not installed, or its files cannot be used.
    """

    def __init__(self) -> None:
        # Not imported above: that takes its time, and other clouds do not need it.
        try:
            import botocore.session  # noqa: PLC0415
        except ModuleNotFoundError:
            raise StoreError(
                "S3 needs the package botocore: pip install 'registry-wsgi[buckets]'"
            ) from None
        self.session: Any = botocore.session.get_session()
        with _told():
            found = self.session.get_config_variable("ca_bundle")
        self.certificates: str | None = found or os.environ.get("SSL_CERT_FILE")
        self.session.set_config_variable("ca_bundle", self.certificates)

    def __call__(self) -> S3Credential:
        """
        Give credentials that last for some minutes.

        Raises:
            StoreError: There are none, or they cannot be had any more.
        """
        with _told():
            found = self._credentials and self._credentials.get_frozen_credentials()
        if not found:
            raise StoreError(
                "no credentials are found, neither in the environment nor with this machine"
            )
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _LASTING,
        }

    @cached_property
    def _credentials(self) -> Any:
        return self.session.get_credentials()

    def place(self) -> dict[str, str]:
        """
        Tell the region and, where one is set, the endpoint, under the names that obstore has.

        Raises:
            StoreError: The profile, or the file with it, cannot be used.
        """
        with _told():
            profile = self.session.get_scoped_config()
            services = self.session.full_config.get("services", {})
            mine = services.get(profile.get("services"), {}).get("s3", {})
            endpoint = mine.get("endpoint_url") or profile.get("endpoint_url")
            if self.session.get_config_variable("ignore_configured_endpoint_urls"):
                endpoint = None
            region = profile.get("region")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or region
        found = {"region": region, "endpoint": endpoint}
        return {name: value for name, value in found.items() if value}


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error of botocore about the credentials or their files into a StoreError."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StoreError(f"the credentials cannot be used: {one_line(str(error))}") from None
