"""Model names: the grammar, what it fills in, and that no text leads out of ``manifests/``."""

from __future__ import annotations

import os
import string

import pytest

from kit.effort import Effort
from kit.requirements import require
from registry_wsgi import RegistryError
from registry_wsgi.errors import InvalidNameError
from registry_wsgi.names import MAX_LENGTH, Name

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"

# What each part may begin with and go on with, and how long it may be, in the order of a name.
FIRST = string.ascii_letters + string.digits + "_"
PARTS = {
    "host": (FIRST + "-.:", 350),
    "namespace": (FIRST + "-", 80),
    "model": (FIRST + "-.", 80),
    "tag": (FIRST + "-.", 80),
}

# Letters that a careless pattern takes, what ends a line or a string, and every separator.
ODD = "aZ0_-.:/\\@#%?~ \n\r\t\0é٣\u017f\u212a\u2028\ufffd"


def go_parse(text: str) -> tuple[str, ...] | None:
    """Read *text* as the Go code does, step by step, but for a second tag; None: invalid."""
    if text.rpartition("/")[2].count(":") > 1:
        return None
    host = namespace = tag = ""
    rest = text
    while True:
        cut = max(rest.rfind("/"), rest.rfind(":"))
        before, mark, tail = (
            rest[: max(cut, 0)],
            rest[cut : cut + 1] if cut >= 0 else "",
            rest[cut + 1 :],
        )
        rest = before
        if mark != ":":
            break
        tag = tail
    if mark == "/":
        host, _, namespace = rest.rpartition("/")
    parts = (host or HOST, namespace or NAMESPACE, tail, tag or TAG)
    for part, (letters, longest) in zip(parts, PARTS.values(), strict=True):
        if not (0 < len(part) <= longest and part[0] in FIRST and set(part) <= set(letters)):
            return None
    return parts


def parsed(text: str) -> tuple[str, ...] | None:
    """What `Name.parse` makes of *text*; None: invalid."""
    try:
        return tuple(Name.parse(text))
    except InvalidNameError:
        return None


def example(part: str, value: str) -> str:
    """A full name with *value* for *part*."""
    values = dict.fromkeys(PARTS, "x") | {part: value}
    return "{host}/{namespace}/{model}:{tag}".format_map(values)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("smol", (HOST, NAMESPACE, "smol", TAG)),
        ("smol:v2", (HOST, NAMESPACE, "smol", "v2")),
        ("me/smol", (HOST, "me", "smol", TAG)),
        ("me/smol:v2", (HOST, "me", "smol", "v2")),
        ("example.com/me/smol", ("example.com", "me", "smol", TAG)),
        ("localhost:5000/me/smol:v2", ("localhost:5000", "me", "smol", "v2")),
        ("h:/n/m", ("h:", "n", "m", TAG)),
        ("SMOL:Q4_K_M", (HOST, NAMESPACE, "SMOL", "Q4_K_M")),
        ("_/_/_:_", ("_", "_", "_", "_")),
        ("0/0/0:0", ("0", "0", "0", "0")),
        ("m..:t..", (HOST, NAMESPACE, "m..", "t..")),
        ("a../n/m", ("a..", "n", "m", TAG)),
        ("http://smol", ("http:", NAMESPACE, "smol", TAG)),  # a host, not a scheme
        # A habit of the Go code: an empty part is left out.
        ("smol:", (HOST, NAMESPACE, "smol", TAG)),
        ("/smol", (HOST, NAMESPACE, "smol", TAG)),
        ("//smol", (HOST, NAMESPACE, "smol", TAG)),
        ("h//smol", ("h", NAMESPACE, "smol", TAG)),
        ("/n/smol", (HOST, "n", "smol", TAG)),
    ],
)
def test_what_a_name_leaves_out_is_filled_in(text: str, name: tuple[str, ...]) -> None:
    """A name is split at its separators, keeps its case, and gets the defaults for empty parts."""
    assert tuple(Name.parse(text)) == name
    assert go_parse(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "/", "//", ":v2", "n/", "h/n/", "h/n/:t", "a/h/n/m", "///m", "h/n:1/m", "n:1/m"),
        *("..", ".", "../m", "m:..", "m:.", "../../etc/passwd", "h/../m", "h/n/../t", "/../m"),
        *("m\n", "\nm", "m ", " m", "m\0", "m\\x", "m@sha256:00", "https://h/n/m"),
        *("mé", "m\u017f", "m\u212a", "m٣", "h.é/n/m", "m:t\n", "n\n/m", "%2e%2e", "~", "-m"),
        *("m:-t", ".m"),
        # The Go code reads these as m:20b, m:latest and m:t.
        *("m:20b:cloud", "n/m:20b:cloud", "m::t", "m:t:", "m::", "m:t:é\n.."),
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """A text outside the grammar raises an error of ours, a ValueError that has the text."""
    with pytest.raises(InvalidNameError, match=r"^invalid or missing name: ") as caught:
        Name.parse(text)
    assert caught.value.name == text
    assert isinstance(caught.value, RegistryError)
    assert isinstance(caught.value, ValueError)
    assert go_parse(text) is None


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_as_long_as_it_may_be(part: str) -> None:
    """A host has up to 350 characters, the other parts up to 80, and one more is too many."""
    longest = PARTS[part][1]
    assert getattr(Name.parse(example(part, "x" * longest)), part) == "x" * longest
    assert parsed(example(part, "x" * (longest + 1))) is None


@pytest.mark.parametrize("part", PARTS)
def test_each_part_takes_its_characters_and_no_others(part: str) -> None:
    """A part takes the characters of its row, of all up to U+2FFF, first and later."""
    # A separator is not part of a part: those are covered by the comparison with the Go code.
    candidates = set(map(chr, range(0x3000))) - set("/" if part == "host" else "/:")
    first = {c for c in candidates if parsed(example(part, f"{c}x")) is not None}
    later = {c for c in candidates if parsed(example(part, f"x{c}")) is not None}
    assert first == set(FIRST)
    assert later == set(PARTS[part][0])


def test_a_whole_name_has_593_bytes_at_most() -> None:
    """That is the longest there can be, with each part as long as it may be."""
    longest = f"{'h' * 350}/{'n' * 80}/{'m' * 80}:{'t' * 80}"
    assert len(longest) == MAX_LENGTH == 593
    assert str(Name.parse(longest)) == longest
    assert parsed(f"{longest}x") is None


def test_names_are_read_as_the_go_code_reads_them(effort: Effort) -> None:
    """For any text without a second tag, both find the same parts, or both refuse it."""
    require("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    sizes = st.sampled_from([0, 1, 2, 79, 80, 81, 349, 350, 351])
    pieces = st.sampled_from([*ODD, ".."]) | sizes.map(lambda size: "m" * size)
    texts = st.text(ODD) | st.lists(pieces).map("".join) | st.text()
    shaped = st.from_regex(r"\A([a.:_-]*/){0,3}[a._-]*(:[a._-]*){0,3}\Z")

    @settings(deadline=None, max_examples=effort.examples(200))
    @given(texts | shaped)
    def check(text: str) -> None:
        assert parsed(text) == go_parse(text)

    check()


def test_no_text_leads_out_of_the_manifests(effort: Effort) -> None:
    """Whatever the text, a key is four plain components that stay where they are put."""
    require("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    pieces = st.sampled_from(["..", ".", "/", "//", "\\", "\0", "\n", ":", "a", "~", "%2e", "é"])
    texts = st.text() | st.text(st.characters()) | st.lists(pieces).map("".join)

    @settings(deadline=None, max_examples=effort.examples(200))
    @given(texts)
    def check(text: str) -> None:
        for read in (Name.parse, Name.from_key):
            try:
                name = read(text)
            except InvalidNameError:
                continue
            parts = name.key.split("/")
            path = os.path.join("/models/manifests", name.key)
            assert len(parts) == 4
            assert os.path.normpath(path) == path
            assert all(part[0] in FIRST and part.isascii() and part.isprintable() for part in parts)
            if read == Name.from_key:
                assert name.key == text

    check()


@pytest.mark.parametrize(
    "text",
    ["smol", "n/m", "example.com:80/n/m:t", "H/N/M:T", "registry.ollama.ai/n/m", "h/library/m"],
)
def test_keys_and_full_names_can_be_read_back(text: str) -> None:
    """The key, the full name and the short name of a name all give the same name again."""
    name = Name.parse(text)
    assert Name.from_key(name.key) == name
    assert Name.parse(str(name)) == name
    assert Name.parse(name.short) == name


@pytest.mark.parametrize(
    "key",
    [
        *("", "m", "n/m/t", "a/h/n/m/t", "h/n/m/", "/n/m/t", "h//m/t", "h/n//t", "h/n/m/t/"),
        *("h/n/m/../t", "h/n/m/..", "../n/m/t", "h/n/m:t", "h/n/m:t/x", "h/n/m/t:x"),
        "h/n/m/.DS_Store",
    ],
)
def test_a_path_that_no_name_has_is_no_key(key: str) -> None:
    """Only the exact path of a valid name is read as a key: nothing is filled in or dropped."""
    with pytest.raises(InvalidNameError):
        Name.from_key(key)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("smol", "smol:latest"),
        ("library/smol:v2", "smol:v2"),
        ("me/smol", "me/smol:latest"),
        ("example.com/library/smol", "example.com/library/smol:latest"),
        ("example.com/me/smol:v2", "example.com/me/smol:v2"),
    ],
)
def test_the_short_name_leaves_the_defaults_out(text: str, short: str) -> None:
    """The default host, and after it the default namespace, are left out; model and tag never."""
    assert Name.parse(text).short == short
