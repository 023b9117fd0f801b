"""
The exceptions that this library raises.

Each is a `RegistryError`, so that one ``except`` clause is enough. A message names the thing that
is at fault (the name, the file, the setting) and is meant for the operator: the middleware logs it,
and never sends a message about storage to an HTTP client.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = [
    "BusyError",
    "ConfigurationError",
    "InvalidDurationError",
    "InvalidManifestError",
    "InvalidNameError",
    "InvalidSizeError",
    "ModelExistsError",
    "ModelIncompleteError",
    "ModelNotFoundError",
    "ModelProtectedError",
    "NoRoomError",
    "OutOfReachError",
    "RegistryError",
    "StoreError",
    "UntouchableError",
    "escape",
    "one_line",
    "quote",
]

_LONGEST = 600  # a little over the longest valid name


def one_line(text: str) -> str:
    """
    Escape whatever in *text* does not print: line ends, terminal escapes, marks of direction.

    As it was, such a text could forge a line of a log, or drive a terminal. Backslashes stay, as a
    whole message may have parts that were escaped before.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """
    Make *text* fit to be a part of a message or of a log line: `one_line`, and more.

    Backslashes are escaped too, so that an escape can be told from a text that looks like one. A
    very long text is cut, so that nobody can flood a log.
    """
    shown = one_line(text[:_LONGEST].replace("\\", "\\\\"))
    return shown if len(text) <= _LONGEST else f"{shown}…"


def quote(text: str) -> str:
    """`escape` *text* and put it in double quotes."""
    return '"' + escape(text).replace('"', '\\"') + '"'


class RegistryError(Exception):
    """The root of all exceptions that this library raises."""


class InvalidNameError(RegistryError, ValueError):
    """
    A model name does not follow the grammar of `registry_wsgi.names`.

    Attributes:
        name: The name as it was given.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        message = f"invalid or missing name: {quote(self.name)}"
        # It may only look like a character of a name: a hyphen that does not break, say.
        strange = next((c for c in self.name if not c.isascii() and c.isprintable()), None)
        if strange is None:
            return message
        return f"{message}, which has U+{ord(strange):04X} ({unicodedata.name(strange, 'unnamed')})"


class InvalidDurationError(RegistryError, ValueError):
    """A duration is not of the form ``0``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``."""


class InvalidSizeError(RegistryError, ValueError):
    """A size is not of the form ``0``, ``500MB``, ``200GB`` or ``50GiB``."""


class ConfigurationError(RegistryError):
    """A setting (an environment variable, a location, an option) cannot be used."""


class BusyError(RegistryError):
    """Another process does long work on the store, beside which this cannot be done."""


class StoreError(RegistryError):
    """The storage failed: the message names the path, the cause is chained."""


class NoRoomError(StoreError):
    """The storage is full, or has no place on the same file system to set something aside."""


class UntouchableError(StoreError):
    """
    One file cannot be moved or removed: it is immutable, busy or another user's.

    The message names it. Whatever else was asked for in the same call can be asked for again.
    """


class InvalidManifestError(StoreError):
    """
    A file under ``manifests/`` cannot be read as a manifest: the message names it.

    Attributes:
        model: The full name of the model because of which no blob is removed; None if that is not
            known, or another call has failed.
    """

    model: str | None = None


class OutOfReachError(StoreError):
    """
    Part of ``manifests/`` cannot be reached: a link leads nowhere, a directory cannot be entered.

    Nobody knows which models are there, so no blob may be removed. The message names the place.

    Attributes:
        model: As that of `InvalidManifestError`; None for a whole folder, too.
    """

    model: str | None = None


class ModelNotFoundError(RegistryError, LookupError):
    """There is no model (or no deleted model) of this name."""


class ModelExistsError(RegistryError):
    """
    A model of this name is in place, and a restore never overwrites one.

    Attributes:
        name: The model that is in place.
    """

    def __init__(self, name: object) -> None:
        super().__init__(str(name))
        self.name = str(name)

    def __str__(self) -> str:
        return f"{self.name}: there is a model of this name; delete or rename it first"


class ModelProtectedError(RegistryError):
    """
    A model is protected, so that it cannot be deleted.

    Attributes:
        name: The model.
        pattern: The name or pattern that was given to ``protect``.
    """

    def __init__(self, name: object, pattern: str) -> None:
        super().__init__(str(name), pattern)
        self.name = str(name)
        self.pattern = pattern

    def __str__(self) -> str:
        return f"{self.name}: is protected, by {quote(self.pattern)}"


class ModelIncompleteError(RegistryError):
    """
    A deleted model cannot be restored: some of its blobs are gone.

    Attributes:
        name: The deleted model.
        missing: The digests of the blobs that are gone or have another size, ``sha256:<hex>``.
    """

    def __init__(self, name: object, missing: Iterable[str]) -> None:
        self.name = str(name)
        self.missing = tuple(missing)
        super().__init__(self.name, self.missing)

    def __str__(self) -> str:
        blobs = ", ".join(self.missing)
        return f"{self.name}: cannot be restored, these blobs are gone: {blobs}"
