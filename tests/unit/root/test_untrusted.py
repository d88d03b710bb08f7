"""JSON that others wrote: what is read, what is refused, and what counts as absent."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from encryption_guard.untrusted import as_text, loads, lowercase_keys, object_or_empty, strings

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_json_is_read(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Whatever has a meaning as JSON is read as that, as bytes and as text."""
    written = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    assert loads(written) == value
    assert loads(written.encode()) == value


PIECES = ["{", "}", "[", "]", ",", ":", '"', '"a"', "1", "-", "0", ".5", "e3", "null", "true", " "]
PIECES += ["\\", "\\u", "d83d", "\\ud83d", "\\ude00", "\\n", "\n", "\0", "\ufeff", "ü", "😀", "NaN"]


@given(
    raw=st.lists(st.sampled_from(PIECES), max_size=6).map("".join).map(str.encode)
    | st.binary(max_size=8)
)
@example(b'"\\ud83d\\ude00"')
@example(b'"\\ude00\\ud83d"')
@example(b'"\\\\ud83d"')
@example(b'{"a": "\\uDFFF"}')
@example(b'{"\\ud800": 1}')
@example("{}".encode("utf-16"))
@example(b'{"a": 1, "a": 2}')
def test_another_reader_agrees_on_what_is_json(raw: bytes) -> None:
    """What pydantic's reader refuses is refused, and what it reads means the same."""
    assume(not raw.startswith(BOM_UTF8))
    try:
        expected = from_json(raw)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  whatever the words
            loads(raw)
    else:
        assert repr(loads(raw)) == repr(expected)


@pytest.mark.parametrize("raw", [b'\xef\xbb\xbf{"a": 1}', '\ufeff{"a": 1}'], ids=["bytes", "text"])
def test_a_byte_order_mark_is_no_part_of_json(raw: bytes | str) -> None:
    """Some editors and writers mark their text as UTF-8."""
    assert loads(raw) == {"a": 1}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[" * 200_000, id="arrays"),
        pytest.param(b'{"a":' * 200_000, id="objects"),
        pytest.param(b"[" * 200_000 + b'"\\ud800"' + b"]" * 200_000, id="with half a character"),
        pytest.param(b"9" * 5000, id="a number of 5000 digits"),
    ],
)
def test_what_cannot_be_read_is_a_value_error(raw: bytes) -> None:
    """Nesting without end and numbers without end are refused like anything that is no JSON."""
    with pytest.raises(ValueError):  # noqa: PT011  whatever the words
        loads(raw)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        (b'{"a": 1}', {"a": 1}),
        ("[1]", {}),
        ("not JSON", {}),
        (b"\xff", {}),
        ("", {}),
        (None, {}),
        ([{"a": 1}], {}),
        (17, {}),
    ],
)
def test_an_object_may_be_its_text(value: object, expected: dict[str, object]) -> None:
    """An object, or the JSON text of one; anything else is an empty one."""
    assert object_or_empty(value) == expected


def test_keys_count_in_any_casing() -> None:
    """Of a key in two casings the first one counts."""
    assert lowercase_keys({"eventName": 1, "EVENTNAME": 2, "id": 3}) == {"eventname": 1, "id": 3}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        ("", None),
        (17, "17"),
        (0, "0"),
        (True, None),
        (1.5, None),
        (None, None),
        (["a"], None),
        ({"a": "b"}, None),
    ],
)
def test_a_text_may_have_lost_its_quotes(value: object, expected: str | None) -> None:
    """Strings and whole numbers are texts; anything else, and an empty string, is absent."""
    assert as_text(value) == expected


def test_texts_are_found_under_any_casing() -> None:
    """All the texts under the keys, in the order in which they stand."""
    place = {"Name": "one", "other": "two", "bucketName": "", "NAME": 3, "bucketname": "four"}

    assert list(strings(place, "name", "bucketname")) == ["one", "3", "four"]
    assert list(strings(json.dumps(place), "name")) == ["one", "3"]
    assert list(strings(None, "name")) == []
