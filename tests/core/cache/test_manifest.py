"""Manifests: which blobs a model needs, and refusing to guess."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kit.effort import Effort
from kit.requirements import require
from kit.trees import blob, manifest
from registry_wsgi.cache.manifest import (
    _USUAL,
    blob_name,
    mentioned_blobs,
    needed_blobs,
    parse_manifest,
)
from registry_wsgi.errors import InvalidManifestError

HEX = "0123456789abcdef" * 4
OTHER = "f" * 64
NAME, OTHER_NAME = f"sha256-{HEX}", f"sha256-{OTHER}"


def layer(value: object = f"sha256:{HEX}", **fields: object) -> dict[str, Any]:
    """A layer with the digest *value*."""
    return {"digest": value, **fields}


@pytest.mark.parametrize(
    "text", [f"sha256:{HEX}", f"sha256-{HEX}", f"SHA256:{HEX.upper()}", f"Sha256-{HEX.title()}"]
)
def test_a_digest_has_one_form(text: str) -> None:
    """With a colon or a hyphen, in any case, a digest is the name of one blob."""
    assert blob_name(text) == NAME


@pytest.mark.parametrize(
    "value",
    [
        *("", HEX, f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX}\n", f" sha256:{HEX}"),
        *(f"sha256_{HEX}", f"sha512:{HEX}", f"sha256:{'g' * 64}", f"sha256:{'٣' * 64}"),
        *(f"\u017fha256:{HEX}", f"sha256:../../{HEX[6:]}", None, 5, b"", [], {}),
    ],
)
def test_what_is_no_digest_names_no_blob(value: object) -> None:
    """Anything but SHA-256 and 64 hexadecimal digits is no digest."""
    assert blob_name(value) is None


def test_a_manifest_as_ollama_writes_it_is_read() -> None:
    """Layers and config are found, with their sizes."""
    assert parse_manifest(manifest(b"weights", b"template")) == {
        blob(b"weights"): 7,
        blob(b"template"): 8,
        blob(b"{}"): 2,
    }


@pytest.mark.parametrize(
    ("document", "blobs"),
    [
        ({"layers": []}, {}),
        ({"layers": [layer()]}, {NAME: None}),
        ({"layers": [layer(size=None)]}, {NAME: None}),
        ({"layers": [layer(size=0)]}, {NAME: 0}),
        ({"layers": [layer(size=5, mediaType="x", urls=[])], "x": float("nan")}, {NAME: 5}),
        ({"layers": [layer(), layer(f"sha256-{HEX.upper()}", size=5)]}, {NAME: 5}),
        ({"layers": [layer()], "config": layer(f"sha256:{OTHER}")}, {NAME: None, OTHER_NAME: None}),
        ({"layers": [layer()], "config": None}, {NAME: None}),
        ({"layers": [layer()], "config": {}}, {NAME: None}),
        ({"layers": [layer()], "config": {"size": 0}}, {NAME: None}),
        ({"layers": [layer()], "config": layer("")}, {NAME: None}),
        ({"layers": [layer()], "config": layer(f"sha256:{'0' * 64}", size=0)}, {NAME: None}),
        ({"layers": None, "config": layer(size=5)}, {NAME: 5}),
        ({"config": layer(size=5)}, {NAME: 5}),
    ],
)
def test_what_a_model_needs_is_found(document: object, blobs: dict[str, int | None]) -> None:
    """Each layer is a blob, and so is a config that is there and has content."""
    assert parse_manifest(json.dumps(document).encode()) == blobs


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b" ", b"\0" * 100, b"{", b"\xff\xff", b'{"layers":[]', b'{"layers":[]}}'),
        b"[" * 100_000,
        *(b"null", b"5", b'"x"', b"[]", b"{}", b'{"layers":null}', b'{"layers":{}}'),
        b'{"layers":"x"}',
        b'{"layers":[],"manifests":[]}',
        b'{"layers":[],"layers":[]}',
        '{"layers":[]}'.encode("utf-16"),
        b'\xef\xbb\xbf{"layers":[]}',
        b'{"layers":[],"config":{"digest":"","digest":""}}',
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """Data without an object that has layers raises an error, as nobody knows what it needs."""
    with pytest.raises(InvalidManifestError, match=r"^not a manifest: "):
        parse_manifest(data)


@pytest.mark.parametrize(
    "part",
    [
        *(None, 5, [], "x", f"sha256:{HEX}", {}, layer(None), layer(""), layer(5), layer([])),
        *(
            layer("md5:x"),
            layer(f"sha256:{HEX}x"),
            layer(f"../{HEX}"),
            layer(size=-1),
            layer(size=1 << 63),
        ),
        *(layer("\x1b[2J\n" * 100), layer(["x"] * 100), layer(size="\n" * 1_000)),
        *(layer(size="5"), layer(size=5.0), layer(size=True), layer(size=[])),
    ],
    ids=repr,
)
def test_a_layer_that_is_not_understood_is_refused(part: object) -> None:
    """One layer without a usable digest and size makes the whole manifest unusable."""
    document = {"layers": [layer(f"sha256:{OTHER}"), part]}
    with pytest.raises(InvalidManifestError, match=r"\Anot a manifest: [^\n]{1,200}\Z"):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize(
    "config", [5, "x", [layer()], layer("md5:x"), layer(size=-1), layer([])], ids=repr
)
def test_a_config_that_is_not_understood_is_refused(config: object) -> None:
    """A config that may name a blob must name it well."""
    with pytest.raises(InvalidManifestError):
        parse_manifest(json.dumps({"layers": [], "config": config}).encode())


def test_digests_are_found_in_a_broken_manifest() -> None:
    """Every digest that stands anywhere counts, be the rest a manifest or not."""
    data = manifest(b"weights")[:-5] + f'\xff,"SHA256-{OTHER.upper()}" sha256:{HEX[1:]}'.encode()
    assert mentioned_blobs(data) == {blob(b"weights"), blob(b"{}"), OTHER_NAME}
    assert mentioned_blobs(b"") == set()


def test_the_rough_reading_finds_at_least_what_the_exact_one_does(effort: Effort) -> None:
    """For any document that is a manifest, no blob of it is overlooked by `mentioned_blobs`."""
    require("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    hexes = st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)
    digests = st.builds(
        "{}{}{}".format, st.sampled_from(["sha256", "SHA256"]), st.sampled_from(":-"), hexes
    )
    layers = st.builds(layer, digests | st.none() | st.text(), size=st.none() | st.integers(-1))
    documents = st.fixed_dictionaries(
        {"layers": st.lists(layers, max_size=4) | st.none()},
        optional={"config": layers | st.none(), "annotations": st.text()},
    )

    @settings(deadline=None, max_examples=effort.examples(100))
    @given(documents, st.booleans(), st.sampled_from([None, 1]))
    def check(document: object, ascii_only: bool, indent: int | None) -> None:
        data = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
        try:
            blobs = parse_manifest(data)
        except InvalidManifestError:
            return
        assert mentioned_blobs(data) >= set(blobs)

    check()


def test_any_bytes_are_a_manifest_or_an_error_of_ours(effort: Effort) -> None:
    """No file content makes `parse_manifest` raise anything but its own error."""
    require("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.just(f"sha256:{HEX}"),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["digest", "size", "x"]), inner)
        ),
    )
    documents = st.fixed_dictionaries({}, optional={"layers": values, "config": values})

    @settings(deadline=None, max_examples=effort.examples(100))
    @given(st.binary() | (values | documents).map(lambda value: json.dumps(value).encode()))
    def check(data: bytes) -> None:
        try:
            blobs = parse_manifest(data)
        except InvalidManifestError:
            return
        assert all(blob_name(name) == name for name in blobs)

    check()


def test_the_usual_form_is_read_as_any_other(effort: Effort) -> None:
    """What is read without a JSON parser, as it looks as Ollama writes it, comes to the same."""
    require("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    kinds = st.sampled_from(["application/vnd.ollama.image.model", "", "}", ",é:[ ", "\\", "\n"])
    digests = st.sampled_from([HEX, OTHER]) | st.sampled_from(["0" * 64, HEX.upper(), HEX[1:]])
    sizes = st.sampled_from(["0", "7", "9" * 18]) | st.sampled_from(["9" * 19, "00", "-1", "1.0"])
    layers = st.builds(
        '{{"mediaType":"{}","digest":"sha256:{}","size":{}}}'.format, kinds, digests, sizes
    )
    documents = st.builds(
        '{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}'.format,
        kinds,
        layers,
        st.lists(layers, max_size=3).map(",".join),
    )
    pieces = st.sampled_from(
        [*'{}[]",:\\ \n\0\ufeffé0-e', "NaN", '"digest":"sha256:', '"size":1,', '"layers":[],']
    )
    # Where something is put in, how much of what is there it replaces, and what it is.
    edits = st.lists(st.tuples(st.integers(0), st.integers(0, 3), pieces | st.just("")), max_size=2)

    @settings(deadline=None, max_examples=effort.examples(200))
    @given(documents, edits)
    def check(text: str, edits: list[tuple[int, int, str]]) -> None:
        for place, length, piece in edits:
            at = place % (len(text) + 1)
            text = text[:at] + piece + text[at + length :]
        assert outcome(needed_blobs, text) == outcome(parse_manifest, text)

    def outcome(read: Callable[[bytes], Iterable[str]], text: str) -> object:
        try:
            return {*read(text.encode())}
        except InvalidManifestError as error:
            return str(error)

    usual = json.dumps(json.loads(manifest(b"weights", b"template")), separators=(",", ":"))
    assert _USUAL.fullmatch(usual)
    assert {*needed_blobs(usual.encode())} == {*map(blob, (b"weights", b"template", b"{}"))}
    for odd in ("00", "01", "-1", "1.0", "1e1", "9" * 19, "9" * 5_000, "null", '"1"', ""):
        text = usual.replace('"size":7', f'"size":{odd}')
        assert text != usual
        assert outcome(needed_blobs, text) == outcome(parse_manifest, text), odd
    check()
