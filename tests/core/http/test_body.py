"""The body of a request: read within its bound, and understood as Go's decoder does."""

from __future__ import annotations

import io
import json
import unicodedata
from typing import Any

import pytest
from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge

from kit.effort import Effort
from kit.requirements import require
from registry_wsgi.http.body import read_body, read_model

LIMIT = 64 << 10


def body(**rest: str) -> str:
    """The text of a body with a model and further keys, whose values are JSON texts."""
    return '{"model":"smol"' + "".join(f',"{key}":{rest[key]}' for key in rest) + "}"


def outcome(data: bytes) -> str | None:
    """What `read_model` finds; None: refused."""
    try:
        return read_model(data)
    except BadRequest:
        return None


# JSON


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('{"model":"smol"}', "smol"),
        (' \t\r\n{ "model"\n:\t"smol" \r} \n', "smol"),
        ("{}", ""),
        ('{"name":"smol"}', "smol"),
        ('{"name":"absent","model":"smol"}', "smol"),
        ('{"model":"smol","name":"absent"}', "smol"),
        ('{"model":"","name":"smol"}', "smol"),
        ('{"model":null,"name":"smol"}', "smol"),
        ('{"model":" ","name":"smol"}', " "),
        # The last of several equal keys wins, in whatever case; a null changes nothing.
        ('{"model":"absent","model":"smol"}', "smol"),
        ('{"model":"absent","MODEL":"smol"}', "smol"),
        ('{"Model":"absent","model":"smol"}', "smol"),
        ('{"model":"smol","model":null}', "smol"),
        ('{"model":"absent","model":"","name":"smol"}', "smol"),
        ('{"mODEl":"smol"}', "smol"),
        ('{"NAME":"smol"}', "smol"),
        ('{"\\u006dodel":"smol"}', "smol"),
        # Unknown keys, and known ones deeper down, say nothing.
        (body(x='{"model":"absent","stream":5}', y='[{"name":5}]', models="5"), "smol"),
        ('{"":"a","model ":"a","модель":"a","mode\\u006c\\u0000":"a"}', ""),
        (body(stream="true", insecure="false"), "smol"),
        (body(stream="null", insecure="null"), "smol"),
        # Only the first value is read, and what follows it is not even looked at.
        ('{"model":"smol"}{"model":"absent"}', "smol"),
        ('{"model":"smol"}}', "smol"),
        ('{"model":"smol"} garbage \0 "', "smol"),
        ('{"model":"smol"}/*comment*/', "smol"),
        # Strings
        ('{"model":"\\u0073mol"}', "smol"),
        ('{"model":"\\"\\\\\\/\\b\\f\\n\\r\\t"}', '"\\/\b\f\n\r\t'),
        ('{"model":"\\ud83d\\ude00é😀\x7f"}', "😀é😀\x7f"),
        ('{"model":"\\ud800"}', "\ufffd"),
        ('{"model":"\\ude00\\ud83d"}', "\ufffd\ufffd"),
        ('{"model":"\\ud800\\ud83d\\ude00"}', "\ufffd😀"),
        ('{"mod\\ud800el":"a","model":"smol"}', "smol"),
        # Numbers of any size and form that JSON has
        (body(x="[0,-0,10,0.5,-1.5e10,1E+5,1e-5,0e0,1e999,-1e999]"), "smol"),
        (body(x="9" * 5_000), "smol"),
        (body(x=f"-0.{'0' * 5_000}e{'9' * 5_000}"), "smol"),
    ],
)
def test_the_model_is_found(text: str, model: str) -> None:
    """What names the model is found as Go finds it, whatever else the object holds."""
    assert read_model(text.encode()) == model


@pytest.mark.parametrize(
    ("key", "is_stream"),
    [
        *(("stream", True), ("STREAM", True), ("sTrEaM", True), ("\u017ftream", True)),
        *(("\\u017FTREAM", True), ("stream ", False), ("streams", False), ("", False)),
        # A ligature of two letters is not two letters.
        *(("\ufb06ream", False), ("\ufb05ream", False), ("str\u00e9am", False)),
    ],
)
def test_keys_are_compared_letter_by_letter_without_regard_to_case(
    key: str, is_stream: bool
) -> None:
    """The long s is an s, as in Go, and a ligature is itself: only a known key is type-checked."""
    text = f'{{"model":"smol","{key}":"yes"}}'.encode()
    if is_stream:
        with pytest.raises(BadRequest, match="stream must be a boolean, not string"):
            read_model(text)
    else:
        assert read_model(text) == "smol"


def test_no_letter_but_the_long_s_stands_for_another() -> None:
    """Of all letters that have to do with ASCII, s, S and the long s alone are the s of a key."""
    # The only other letter that folds into ASCII is the Kelvin sign, and no known key has a k.
    related = {
        letter
        for letter in map(chr, range(0x110000))
        if any(c.isascii() for c in unicodedata.normalize("NFKD", letter) + letter.casefold())
    }
    assert related > {"\u212a", "\u017f", "\ufb06", "\uff53", "\u24e2", "\U0001d42c"}
    bodies = {letter: json.dumps({f"{letter}tream": 5}).encode() for letter in related}
    assert {letter for letter in related if outcome(bodies[letter]) is None} == {"s", "S", "\u017f"}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("model", ["5", "-0.5", "true", "false", "{}", "[]", '["smol"]', '{"model":"smol"}']),
        ("name", ["5", "-0.5", "true", "false", "{}", "[]", '["smol"]', '{"name":"smol"}']),
        ("stream", ['"true"', '""', "0", "1", "{}", "[]", "[true]"]),
        ("insecure", ['"true"', '""', "0", "1", "{}", "[]", "[true]"]),
    ],
)
def test_wrong_types_are_refused(key: str, values: list[str]) -> None:
    """A value of a wrong type is refused, first or last, alone or before one that is right."""
    right = '"smol"' if key in ("model", "name") else "true"
    for value in values:
        for pairs in (
            f'"{key}":{value}',
            f'"{key}":{value},"{key}":{right}',
            f'"{key}":{right},"{key.upper()}":{value}',
            f'"{key}":{value},"{key}":null',
        ):
            with pytest.raises(BadRequest, match=f"^400 Bad Request: {key} must be a "):
                read_model(f'{{"x":1,{pairs},"y":{{}}}}'.encode())


@pytest.mark.parametrize("text", ["", " ", "\n", " \t\r\n" * 1_000])
def test_a_body_of_whitespace_is_empty(text: str) -> None:
    """No bytes, or only those that JSON calls whitespace, are an empty body."""
    with pytest.raises(BadRequest, match="empty request body"):
        read_model(text.encode())


@pytest.mark.parametrize(
    "text", ["null", "true", "false", "5", '"smol"', "[]", '[{"model":"smol"}]']
)
def test_the_body_must_be_an_object(text: str) -> None:
    """Any other value is refused, a null too."""
    with pytest.raises(BadRequest, match="must be a JSON object"):
        read_model(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        # Truncated
        *("{", '{"', '{"model', '{"model"', '{"model":', '{"model":"sm', '{"model":"smol"', "["),
        '"',
        *('{"model":"smol",', '{"model":"\\', '{"model":"\\u00', '{"model":tru', '{"model":-'),
        # Values that only Python or JavaScript have
        *(body(x=x) for x in ("NaN", "Infinity", "-Infinity", "undefined", "None", "True", "nul")),
        *(body(x=x) for x in ("+1", "01", "-01", "1.", ".5", "-.5", "-", "1e", "1e+", "0x1")),
        *(body(x=x) for x in ("'a'", "1a", "\u0661", "tru", "truex", "nullnull", '"a""b"', "")),
        # Punctuation
        *("}", "!", ",", "{]", '{"model":"smol"]', '{"model":"smol",}', '{,"model":"smol"}'),
        *('{"model" "smol"}', '{"model"}', '{model:"smol"}', "{'model':'smol'}"),
        '{"model"::"smol"}',
        *('{"model":"smol";"x":1}', '{"model":"smol" "x":1}', "{5:5}", "{null:5}", "{{}:5}"),
        *(body(x=x) for x in ("[1,]", "[,1]", "[1 2]", "[1}", "[1:2]", "[[]", "{1}", '{"a":1,}')),
        # Comments, and spaces that are none for JSON
        *("/*x*/{}", "//x\n{}", '{/*x*/"model":"smol"}', "#\n{}", "\v{}", "\f{}", "\xa0{}", "\0{}"),
        *("\v", "\f", "\x1c", "\x85", "\xa0", "\u2028", "\ufeff", "\0"),
        *("\u2028{}", "\u3000{}", '\ufeff{"model":"smol"}', '{"model":\xa0"smol"}'),
        # Strings
        *(f'{{"model":"sm{chr(code)}ol"}}' for code in range(0x20)),
        *(f'{{"model":"\\{c}"}}' for c in ("x41", "'", "0", "a", "U0041", "\n", "u00g0", "u+041")),
        *('{"a\nb":1,"model":"smol"}', '{"\\x":1,"model":"smol"}'),
        "model=smol",
        "<xml/>",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    """Everything outside the grammar is refused, and the reason given on one printable line."""
    with pytest.raises(BadRequest) as caught:
        read_model(text.encode())
    assert str(caught.value.description).isprintable()
    assert "empty" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"model":5', '{"stream":"x","model":"smol"', '{"model":5,}'])
def test_no_json_is_worse_than_a_wrong_type(text: str) -> None:
    """A body that has both faults is refused for not being JSON."""
    with pytest.raises(BadRequest, match="invalid JSON"):
        read_model(text.encode())


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (b'{"model":"smol","x":"\xff\xfe\xc0\xaf"}', "smol"),
        (b'{"\xff":1,"model":"smol"}', "smol"),
        (b'{"model":"sm\xffol"}', "sm\ufffdol"),
        (b'{"model":"\xed\xa0\x80"}', "\ufffd\ufffd\ufffd"),
        (b'{"mod\xffel":"absent","model":"smol"}', "smol"),
        (b'{"model":"smol"}\xff', "smol"),
        (b'\xff{"model":"smol"}', None),
        (b'{\xff"model":"smol"}', None),
        (b'{"model":\xc3\x28"smol"}', None),
        (b"\xff", None),
        ('{"model":"smol"}'.encode("utf-16"), None),
        ('{"model":"smol"}'.encode("utf-16-le"), None),
        ('{"model":"smol"}'.encode("utf-32"), None),
    ],
)
def test_bytes_that_are_no_utf8_are_one_character_inside_a_string(
    data: bytes, model: str | None
) -> None:
    """Inside a string they are U+FFFD, and outside of one they are refused."""
    if model is not None:
        assert read_model(data) == model
    else:
        with pytest.raises(BadRequest, match="invalid JSON"):
            read_model(data)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
@pytest.mark.parametrize(("depth", "fine"), [(100, True), (500, True), (30_000, False)])
def test_values_may_be_nested_as_deep_as_python_reads_them(
    opened: str, closed: str, depth: int, fine: bool
) -> None:
    """Some hundred levels are read, and what is deeper than the decoder goes is refused."""
    levels = depth // len(closed)
    text = body(x=opened * levels + "0" + closed * levels)
    if fine:
        assert read_model(text.encode()) == "smol"
    else:
        with pytest.raises(BadRequest, match="invalid JSON: nested too deep"):
            read_model(text.encode())


@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_the_depth_that_the_handler_reads_is_no_fault_of_ours(opened: str) -> None:
    """3,000 levels, closed or not, are read or refused; what is not closed is refused."""
    closed = "]" if opened == "[" else "}"
    whole = body(x=opened * 3_000 + "0" + closed * 3_000)
    assert outcome(whole.encode()) in ("smol", None)
    assert outcome(body(x=opened * 3_000).encode()) is None


@pytest.mark.timeout(20)  # what is not linear in the length takes far longer
@pytest.mark.parametrize(
    "data",
    [
        *(b"{", b"[", b'"', b" ", b"\\", b"-", b"0", b"9", b"\xff", b"\0", b"}", b",", b":", b"t"),
        *(b'{"', b'{"a":', b"[{", b'"\\', b'{"model":', b'{"":0,', b"[0,", b"1e", b"1."),
        b"\\u0000",
    ],
)
@pytest.mark.parametrize("before", [b"", b"{", b'{"model":"', b'{"x":', b'{"model":"smol","x":['])
def test_no_body_takes_long(before: bytes, data: bytes) -> None:
    """64 KiB of one thing over and over name no model, found without trying every reading."""
    assert not outcome((before + data * LIMIT)[:LIMIT])


class Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs."""


def oracle(data: bytes) -> str | None:
    """The model, by way of Python's own decoder; None: refused."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    decoder = json.JSONDecoder(object_pairs_hook=Pairs, parse_constant=refuse, parse_int=float)
    values = {"model": "", "name": ""}
    wrong = False
    try:
        document, _ = decoder.raw_decode(data.decode("utf-8", "replace").lstrip(" \t\r\n"))
    except (RecursionError, ValueError):
        return None
    if not isinstance(document, Pairs):
        return None
    for name, value in document:
        key = name.replace("\u017f", "s").lower()
        if key in values and isinstance(value, str):
            values[key] = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
        elif key in values or (key in ("stream", "insecure") and not isinstance(value, bool)):
            wrong = wrong or value is not None
    return None if wrong else values["model"] or values["name"]


def test_any_body_is_read_as_by_python_with_the_rules_of_go(effort: Effort) -> None:
    """For documents, fragments and noise, the outcome is that of `json` with Go's rules added."""
    require("hypothesis")
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from kit.strategies import bodies

    @settings(
        deadline=None,
        max_examples=effort.examples(200),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.one_of(*bodies().values()))
    def check(data: bytes) -> None:
        assert outcome(data) == oracle(data)

    check()


# Reading


class Trickle(io.RawIOBase):
    """A stream that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        byte = self._data.read(1)
        buffer[: len(byte)] = byte
        return len(byte)


class Minimal:
    """A stream with the ``read`` that a server must have, and nothing else."""

    def __init__(self, data: bytes, error: Exception | None = None) -> None:
        self._data = io.BytesIO(data)
        self._error = error

    def read(self, size: int) -> bytes:
        if self._error is not None and self._data.tell() == len(self._data.getvalue()):
            raise self._error
        return self._data.read(min(size, 1_000))


class Untouchable:
    """A stream that nobody may read: the client has sent nothing, and reading would wait for it."""

    def __getattribute__(self, name: str) -> Any:
        raise Touched(name)


class Touched(BaseException):
    """Is no Exception, as those count as the client's fault."""


STREAMS = [io.BytesIO, Trickle, Minimal]
TERMINATED = {"wsgi.input_terminated": True}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("terminated", [{}, TERMINATED])
@pytest.mark.parametrize("data", [b"", b"x", b"0123456789" * 300])
def test_a_body_is_read_to_its_length(data: bytes, terminated: Any, stream: Any) -> None:
    """With a Content-Length, all of it is read, however few bytes come at a time."""
    length = {"CONTENT_LENGTH": str(len(data))}
    assert read_body({"wsgi.input": stream(data), **length, **terminated}, LIMIT) == data


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    "length", [{}, {"CONTENT_LENGTH": ""}, {"HTTP_TRANSFER_ENCODING": "chunked"}]
)
def test_a_chunked_body_is_read_to_its_end(length: dict[str, str], stream: Any) -> None:
    """Without a Content-Length, a stream that the server ends is read to that end."""
    data = b"0123456789" * 300
    assert read_body({"wsgi.input": stream(data), **length, **TERMINATED}, LIMIT) == data


@pytest.mark.parametrize("environ", [{"CONTENT_LENGTH": str(LIMIT)}, TERMINATED])
def test_a_body_may_be_as_long_as_the_limit(environ: dict[str, Any]) -> None:
    """64 KiB are read, with and without a Content-Length."""
    data = b"x" * LIMIT
    assert read_body({"wsgi.input": io.BytesIO(data), **environ}, LIMIT) == data


@pytest.mark.parametrize("excess", [1, 2, 1_000_000])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_over_the_limit_is_refused(excess: int, chunked: bool) -> None:
    """One byte more is too much, and no more than that byte is read."""
    stream = io.BytesIO(b"x" * (LIMIT + excess))
    length = TERMINATED if chunked else {"CONTENT_LENGTH": str(LIMIT + excess)}
    with pytest.raises(RequestEntityTooLarge, match="larger than 65536 bytes"):
        read_body({"wsgi.input": stream, **length}, LIMIT)
    assert stream.tell() <= LIMIT + 1


def test_a_length_far_over_the_limit_is_refused_unread() -> None:
    """Who announces too much is refused before anything is sent."""
    for terminated in ({}, TERMINATED):
        environ = {"wsgi.input": Untouchable(), "CONTENT_LENGTH": "10000000000", **terminated}
        with pytest.raises(RequestEntityTooLarge):
            read_body(environ, LIMIT)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("terminated", [{}, TERMINATED])
@pytest.mark.parametrize("data", [b"", b"{}", b'{"model":"smol"}'])
def test_a_body_shorter_than_its_length_is_refused(
    data: bytes, terminated: Any, stream: Any
) -> None:
    """A client that went away, or lied, is answered 400, even if what came is whole JSON."""
    environ = {"wsgi.input": stream(data), "CONTENT_LENGTH": str(len(data) + 1), **terminated}
    with pytest.raises(BadRequest):
        read_body(environ, LIMIT)


@pytest.mark.parametrize("environ", [{"CONTENT_LENGTH": "100"}, TERMINATED])
@pytest.mark.parametrize(
    "error",
    [
        *(OSError("gone"), ConnectionResetError(), TimeoutError(), ValueError("chunk"), EOFError()),
        *(RuntimeError("server"), AssertionError(), type("InvalidChunkSize", (Exception,), {})()),
    ],
    ids=repr,
)
@pytest.mark.parametrize("data", [b"", b'{"model":"smol"}'])
def test_a_stream_that_fails_is_the_clients_fault(
    environ: dict[str, Any], error: Exception, data: bytes
) -> None:
    """Whatever a server raises for a broken connection, it is 400, with the cause kept."""
    with pytest.raises(BadRequest, match="cannot be read") as caught:
        read_body({"wsgi.input": Minimal(data, error), **environ}, LIMIT)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "length",
    [
        *("abc", "-1", "-99999999999", "1.5", "0x10", "+5", "1_0", "1 0", "\u0661", "NaN", "", "0"),
        pytest.param("9" * 5_000, id="5000 digits"),
        None,
    ],
)
def test_without_a_length_there_is_no_body(length: str | None) -> None:
    """Where neither the length nor the server says where the body ends, it is empty and unread."""
    environ = {"wsgi.input": Untouchable()} | ({} if length is None else {"CONTENT_LENGTH": length})
    assert read_body(environ, LIMIT) == b""


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "gzip, chunked"])
@pytest.mark.parametrize("length", [{}, {"CONTENT_LENGTH": ""}])
@pytest.mark.parametrize("terminated", [{}, {"wsgi.input_terminated": False}])
def test_a_chunked_body_that_the_server_does_not_pass_on_is_refused_unread(
    coding: str, length: dict[str, str], terminated: dict[str, Any]
) -> None:
    """With the reason: where it would end nobody says, so that it cannot be read."""
    environ = {"wsgi.input": Untouchable(), "HTTP_TRANSFER_ENCODING": coding}
    with pytest.raises(LengthRequired, match="does not pass on a chunked body"):
        read_body(environ | length | terminated, LIMIT)


@pytest.mark.parametrize("terminated", [{}, {"wsgi.input_terminated": False}])
def test_a_length_beside_chunked_is_that_of_the_body(terminated: dict[str, Any]) -> None:
    """A proxy that has put the chunks together passes both headers on; its length has a limit."""
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", **terminated}
    stream = io.BytesIO(b"0123456789")
    assert read_body({"wsgi.input": stream, "CONTENT_LENGTH": "5", **environ}, LIMIT) == b"01234"
    assert stream.tell() == 5
    with pytest.raises(BadRequest):
        read_body({"wsgi.input": io.BytesIO(b"0"), "CONTENT_LENGTH": "5", **environ}, LIMIT)
    with pytest.raises(RequestEntityTooLarge):
        read_body({"wsgi.input": Untouchable(), "CONTENT_LENGTH": "99999", **environ}, LIMIT)


def test_where_the_server_ends_a_chunked_body_a_length_beside_it_says_nothing() -> None:
    """As HTTP has it: of the two the coding counts."""
    environ = {"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": "chunked", **TERMINATED}
    assert read_body({"wsgi.input": io.BytesIO(b"0123456789"), **environ}, LIMIT) == b"0123456789"


@pytest.mark.parametrize("terminated", [{}, TERMINATED, {"wsgi.input_terminated": False}])
def test_the_environ_stays_as_it_is(terminated: dict[str, Any]) -> None:
    """Reading a body changes nothing for what else looks at the request."""
    environ = {"wsgi.input": io.BytesIO(b"{}"), "CONTENT_LENGTH": "2", **terminated}
    copy = dict(environ)
    assert read_body(environ, LIMIT) == b"{}"
    assert environ == copy


def test_a_body_is_not_read_further_than_its_length() -> None:
    """What follows on a connection that is kept alive stays there."""
    stream = io.BytesIO(b'{"model":"smol"}DELETE /api/delete')
    assert read_body({"wsgi.input": stream, "CONTENT_LENGTH": "16"}, LIMIT) == b'{"model":"smol"}'
    assert stream.read() == b"DELETE /api/delete"
