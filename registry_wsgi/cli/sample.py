"""
A small store to try things on: three models of a few kilobytes, laid out as Ollama does.

Two of them share their weights, as a model and another made from it do. The weights are filler: no
program can run these models, but every digest and size is right.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ..names import Name

__all__ = ["make_sample"]

_CHAT = b"the weights of a model that chats\n" * 60
_EMBED = b"the weights of a model that embeds\n" * 30
_TEMPLATE = b"{{ .System }}\n{{ .Prompt }}\n"

_MODELS = {
    "sample-chat": {"model": _CHAT, "template": _TEMPLATE},
    "sample-chat:terse": {"model": _CHAT, "template": _TEMPLATE, "system": b"Answer in one line."},
    "sample-embed": {"model": _EMBED},
}


def make_sample(root: str | os.PathLike[str]) -> list[str]:
    """
    Put the sample models into the directory *root*, and make it if it is not there.

    Returns:
        The names of the models, ``model:tag``.
    """
    names = [Name.parse(model) for model in _MODELS]
    for name, contents in zip(names, _MODELS.values(), strict=True):
        config = json.dumps({"model_format": "sample", "model_type": name.short}).encode()
        layers = [
            _put_blob(Path(root), data, f"application/vnd.ollama.image.{kind}")
            for kind, data in contents.items()
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": _put_blob(
                Path(root), config, "application/vnd.docker.container.image.v1+json"
            ),
            "layers": layers,
        }
        path = Path(root, "manifests", *name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest))
    return [name.short for name in names]


def _put_blob(root: Path, data: bytes, media_type: str) -> dict[str, str | int]:
    """Store *data* as a blob, and make the entry for it in a manifest."""
    digest = hashlib.sha256(data).hexdigest()
    path = root / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
