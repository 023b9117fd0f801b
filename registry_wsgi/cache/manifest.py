"""
Manifests: which blobs a model needs.

A manifest is a small JSON document, ``{"config": {"digest": …, "size": …}, "layers": [{…}, …]}``,
as Docker's image manifest version 2. Digests are written ``sha256:<hex>`` or ``sha256-<hex>`` in
any case; here they have one form, ``sha256-<lower-case hex>``, also the name of the blob's file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress

from ..errors import InvalidManifestError

__all__ = [
    "blob_name",
    "is_blob_name",
    "mentioned_blobs",
    "mentioned_sizes",
    "needed_blobs",
    "parse_manifest",
    "unambiguous",
]

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})", re.IGNORECASE | re.ASCII)
_BLOB_NAME = re.compile(r"sha256-[0-9a-f]{64}")
_USUAL_DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
_ZEROS = f"sha256:{'0' * 64}"
_NO_DIGEST = (None, "", _ZEROS)
_MENTIONED = re.compile(rb"sha256[:-]([0-9a-f]{64})", re.IGNORECASE)

# A manifest as Ollama writes it, to the character. It has no escapes, so that each `"` begins or
# ends a text, and whatever follows _BEFORE_DIGEST is the digest of a layer or of the config.
_TEXT = r'"[^"\\\x00-\x1f]*"'
_BEFORE_DIGEST = '"digest":"sha256:'
_LAYER = (
    rf'\{{"mediaType":{_TEXT},{_BEFORE_DIGEST}[0-9a-f]{{64}}","size":(?:0|[1-9][0-9]{{0,17}})'
    rf'(?:,"from":{_TEXT})?\}}'
)
_USUAL = re.compile(
    rf'\{{"schemaVersion":2,"mediaType":{_TEXT},"config":{_LAYER},'
    rf'"layers":\[{_LAYER}(?:,{_LAYER})*\]\}}'
)

# Ollama reads a size as an integer of 64 bits, and takes no manifest with a larger one.
_SIZE_LIMIT = 1 << 63

_DOCUMENT_KEYS = ("layers", "config", "manifests")
_LAYER_KEYS = ("digest", "size")
_USUAL_KEYS = {"mediaType", "digest", "size"}


def blob_name(digest: object) -> str | None:
    """Bring *digest* into its one form, ``sha256-<hex>``; None if it is no SHA-256 digest."""
    if not isinstance(digest, str):
        return None
    if _USUAL_DIGEST.fullmatch(digest):  # the quick way, for nearly all of a million digests
        return "sha256-" + digest[7:]
    match = _DIGEST.fullmatch(digest)
    return f"sha256-{match[1].lower()}" if match else None


def is_blob_name(name: str) -> bool:
    """Tell whether *name* is that of a blob, in its one form."""
    return _BLOB_NAME.fullmatch(name) is not None


def parse_manifest(data: bytes) -> dict[str, int | None]:
    """
    Read a manifest.

    Returns:
        The name of each blob that the model needs, with its size in bytes (None if not stated).

    Raises:
        InvalidManifestError: *data* is no manifest, or names a blob in a way that is not
            understood. Nobody may remove blobs on the strength of such a manifest.
    """
    try:
        document = _decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidManifestError(f"not a manifest: {error}") from error
    if not isinstance(document, dict):
        raise InvalidManifestError("not a manifest: not a JSON object")
    _refuse_other_case(document, _DOCUMENT_KEYS)
    layers, config = document.get("layers"), document.get("config")
    # Ollama writes an absent list as null; a list of manifests ("manifests") names more blobs
    # than stand in it, so it must not be taken for a model without layers.
    if "manifests" in document or not (isinstance(layers, list) or (layers is None and config)):
        raise InvalidManifestError("not a manifest: no layers")
    blobs: dict[str, int | None] = {}
    for layer in layers or ():
        _add(layer, blobs)
    # A model without a config has an empty one, or one whose digest is empty or all zeros.
    if config and not (isinstance(config, dict) and config.get("digest") in _NO_DIGEST):
        _add(config, blobs)
    return blobs


def _add(layer: object, blobs: dict[str, int | None]) -> None:
    if not isinstance(layer, dict):
        raise InvalidManifestError("not a manifest: a layer is not a JSON object")
    if layer.keys() != _USUAL_KEYS:
        _refuse_other_case(layer, _LAYER_KEYS)
    digest, size = layer.get("digest"), layer.get("size")
    name = blob_name(digest)
    if name is None:
        raise InvalidManifestError(f"not a manifest: invalid digest {digest!r:.100}")
    if size is not None and (type(size) is not int or not 0 <= size < _SIZE_LIMIT):
        raise InvalidManifestError(f"not a manifest: invalid size {size!r:.100} of {name}")
    blobs[name] = size


def unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """
    Make a JSON object of its pairs, for the ``object_pairs_hook`` of `json`.

    Raises:
        ValueError: A key stands there twice. Python would take the last value, Go merges objects.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields


_decode = json.JSONDecoder(object_pairs_hook=unambiguous).decode


def _refuse_other_case(fields: Iterable[str], names: tuple[str, ...]) -> None:
    # Ollama would take "Layers" for "layers". Nobody writes that, so it need not be understood. But
    # to overlook it would lose the blobs of those layers.
    for key in fields:
        if key not in names and key.casefold() in names:
            raise InvalidManifestError(f"not a manifest: {key!r:.100} is not in lower case")


def needed_blobs(data: bytes) -> Collection[str]:
    """
    Name the blobs that `parse_manifest` finds, in less than half the time.

    Raises:
        InvalidManifestError: As `parse_manifest`.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    # Nearly all manifests are of this form, and there may be a hundred thousand of them. (One that
    # `ollama create` writes ends with a newline, one that a pull writes does not.)
    if _USUAL.fullmatch(text.rstrip("\n")) and _ZEROS not in text:
        return ["sha256-" + rest[:64] for rest in text.split(_BEFORE_DIGEST)[1:]]
    return parse_manifest(data)


def mentioned_blobs(data: bytes) -> set[str]:
    """
    Name every blob whose digest stands anywhere in *data*, be it a manifest or not.

    This errs on the side of keeping: it finds at least the blobs that `parse_manifest` finds, and
    still finds some where `parse_manifest` fails.
    """
    return set(mentioned_sizes(data))


def mentioned_sizes(data: bytes) -> dict[str, int | None]:
    """Name the blobs of `mentioned_blobs`, each with its size in bytes (None if not known)."""
    names = (f"sha256-{match[1].decode().lower()}" for match in _MENTIONED.finditer(data))
    blobs: dict[str, int | None] = dict.fromkeys(names)
    with suppress(InvalidManifestError):  # which also reads digests that are written with escapes
        blobs.update(parse_manifest(data))
    return blobs
