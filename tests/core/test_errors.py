"""Errors: one root, and messages that nobody can forge a line with."""

from __future__ import annotations

import inspect
import pickle

import pytest

from kit.effort import Effort
from kit.requirements import require
from registry_wsgi import RegistryError, errors
from registry_wsgi.errors import (
    InvalidManifestError,
    InvalidNameError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    StoreError,
    escape,
    quote,
)


def test_one_except_clause_is_enough() -> None:
    """Every exception class of the module is listed, and is a RegistryError."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    ours = {value.__name__ for value in classes if value.__module__ == errors.__name__}
    assert ours == {name for name in errors.__all__ if name not in {"escape", "one_line", "quote"}}
    assert all(issubclass(getattr(errors, name), RegistryError) for name in ours)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (InvalidNameError, ValueError),
        (errors.InvalidDurationError, ValueError),
        (ModelNotFoundError, LookupError),
        (InvalidManifestError, StoreError),
    ],
)
def test_errors_are_also_what_python_calls_them(
    error: type[Exception], base: type[Exception]
) -> None:
    """Where Python has a class for the kind of error, ours is one of it too."""
    assert issubclass(error, base)


def test_errors_name_what_is_at_fault() -> None:
    """The message and the attributes hold the name, the model or the digests."""
    assert str(InvalidNameError("a\nb")) == r'invalid or missing name: "a\nb"'
    assert InvalidNameError("a\nb").name == "a\nb"
    assert str(ModelExistsError("h/n/m:t")).startswith("h/n/m:t: ")
    assert ModelExistsError("h/n/m:t").name == "h/n/m:t"
    incomplete = ModelIncompleteError("h/n/m:t", iter(["sha256:0", "sha256:1"]))
    assert incomplete.missing == ("sha256:0", "sha256:1")
    assert str(incomplete).startswith("h/n/m:t: ")
    assert str(incomplete).endswith("sha256:0, sha256:1")


@pytest.mark.parametrize(
    "error", [InvalidNameError("x"), ModelExistsError("x"), ModelIncompleteError("m", ["d"])]
)
def test_errors_cross_processes(error: Exception) -> None:
    """An error that was pickled says the same, and is equal in its attributes."""
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text, 'quoted', é 模型", "plain text, 'quoted', é 模型"),
        ("a\r\nb\tc\0", r"a\r\nb\tc\x00"),
        ("\x1b[31mred\x9b", r"\x1b[31mred\x9b"),
        ("\\n", r"\\n"),
        ("\u202egpj.exe\u2028", r"\u202egpj.exe\u2028"),
        ("\xa0\xad\ufeff\U000e0001", r"\xa0\xad\ufeff\U000e0001"),
        ("\ud800", r"\ud800"),
        ("x" * 600, "x" * 600),
        ("x" * 601, "x" * 600 + "…"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, escaped: str) -> None:
    """Line ends, terminal sequences and marks of direction are escaped, and long texts are cut."""
    assert escape(text) == escaped


@pytest.mark.parametrize(
    ("text", "quoted"), [("", '""'), ('a"b', r'"a\"b"'), ("a\\", r'"a\\"'), ('\\"', r'"\\\""')]
)
def test_quotes_cannot_be_left(text: str, quoted: str) -> None:
    """Quotes and backslashes in a quoted text are escaped."""
    assert quote(text) == quoted


def test_any_text_becomes_one_printable_line_of_limited_length(effort: Effort) -> None:
    """Whatever the text, what is made of it prints, can be encoded, and is short."""
    require("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(deadline=None, max_examples=effort.examples(100))
    @given(st.text(st.characters()) | st.text(st.characters(), min_size=590, max_size=620))
    def check(text: str) -> None:
        for made in (escape(text), quote(text)):
            assert made.isprintable()
            assert len(made.encode()) <= 6_100

    check()


def test_a_character_that_only_looks_right_is_named() -> None:
    """A hyphen that does not break prints like one that does."""
    message = str(InvalidNameError("granite4:tiny\N{NON-BREAKING HYPHEN}h"))
    assert message.endswith('h", which has U+2011 (NON-BREAKING HYPHEN)')
    assert "which" not in str(InvalidNameError("granite4 tiny"))
