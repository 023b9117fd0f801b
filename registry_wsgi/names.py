"""
Model names: the grammar, the defaults, and nothing else.

A name is ``[host/][namespace/]model[:tag]``, as in Ollama's ``server/internal/internal/names``:

========= ======= ==================================================================
part      length  characters
========= ======= ==================================================================
host      1 - 350 first a letter, digit or ``_``, then also ``-``, ``.`` and ``:``
namespace 1 - 80  first a letter, digit or ``_``, then also ``-``
model     1 - 80  first a letter, digit or ``_``, then also ``-`` and ``.``
tag       1 - 80  first a letter, digit or ``_``, then also ``-`` and ``.``
========= ======= ==================================================================

Letters and digits are those of ASCII. A part that is left out is that of
``registry.ollama.ai/library/<model>:latest``. There is no scheme, no digest and no second tag. The
case of letters is kept, but names that differ in nothing else are the same name. As no part can
begin with a dot or hold a slash, a valid name is always a path of exactly four components below
``manifests/``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import InvalidNameError

__all__ = ["DEFAULT_HOST", "DEFAULT_NAMESPACE", "DEFAULT_TAG", "MAX_LENGTH", "Name"]

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

#: The longest name there can be: ``<host>/<namespace>/<model>:<tag>``, in bytes.
MAX_LENGTH = 350 + 1 + 80 + 1 + 80 + 1 + 80

# The Go code splits a name from the right. This pattern reads the same, as only a host can hold a
# colon and no part can hold a slash. As in Go, an empty host, namespace or tag ("a//b", "m:")
# counts as left out. In Go "m:20b:cloud" stands for "m:20b", so that a delete takes another model
# than the one that was named. Here a text with a second tag is no name.
_NAME = re.compile(
    r"""
    (?: (?: (?P<host> [A-Za-z0-9_] [A-Za-z0-9_.:-]{0,349} )? / )?
        (?P<namespace> [A-Za-z0-9_] [A-Za-z0-9_-]{0,79} )? / )?
    (?P<model> [A-Za-z0-9_] [A-Za-z0-9_.-]{0,79} )
    (?: : (?P<tag> [A-Za-z0-9_] [A-Za-z0-9_.-]{0,79} )? )?
    """,
    re.VERBOSE,
)


class Name(NamedTuple):
    """A valid, fully qualified model name."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Name:
        """
        Read *text* as a name and fill in what it leaves out.

        Raises:
            InvalidNameError: *text* does not follow the grammar.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise InvalidNameError(text)
        return cls(
            match["host"] or DEFAULT_HOST,
            match["namespace"] or DEFAULT_NAMESPACE,
            match["model"],
            match["tag"] or DEFAULT_TAG,
        )

    @classmethod
    def from_key(cls, key: str) -> Name:
        """
        Read the path of a manifest below ``manifests/``, ``host/namespace/model/tag``.

        Raises:
            InvalidNameError: *key* is not the path of a valid name.
        """
        head, _, tag = key.rpartition("/")
        try:
            name = cls.parse(f"{head}:{tag}")
        except InvalidNameError:
            raise InvalidNameError(key) from None
        if name.key != key:
            raise InvalidNameError(key)
        return name

    @property
    def key(self) -> str:
        """The path of the manifest below ``manifests/``: ``host/namespace/model/tag``."""
        return "/".join(self)

    @property
    def short(self) -> str:
        """The name without the host and namespace that are the defaults, as ``ollama list``."""
        parts = [self.host, self.namespace, f"{self.model}:{self.tag}"]
        if parts[0].lower() == DEFAULT_HOST:
            del parts[0]
            if parts[0].lower() == DEFAULT_NAMESPACE:
                del parts[0]
        return "/".join(parts)

    def __str__(self) -> str:
        """The full name, ``host/namespace/model:tag``."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
