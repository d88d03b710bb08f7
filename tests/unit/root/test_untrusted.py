"""JSON that others wrote: what is read, what is refused, and what counts as absent."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from encryption_guard.untrusted import (
    MAX_MARKS,
    as_text,
    json_escape,
    loads,
    lowercase_keys,
    object_or_empty,
    parse_time,
    plain,
    plain_json,
    plain_json_text,
    strings,
)
from tests.unit.legible import assert_legible

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


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        (1767323045000, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("soon", None),
        (10**30, None),
        (True, None),
        (1.5, None),
        (None, None),
    ],
)
def test_a_time_is_a_text_or_milliseconds(value: object, at: datetime | None) -> None:
    """Anything else is none."""
    assert parse_time(value) == at


# Text for people.

LANGUAGES = {
    "Chinese": "\u516c\u5f00\u6837\u672c\u6570\u636e\uff0c\u3000\u4e00",
    "Japanese": "\u30c6\u30fc\u30d6\u30eb\u304c \u304b\u3099",
    "Arabic": "\u062c\u062f\u0648\u0644",
    "Thai": "\u0e1b\u0e35\u0e48",
    "Vietnamese": "Vie\u0323\u0302t",
    "emoji": "\U0001f4a3\U0001f600",
    "an ordinary text": "an ordinary text: 100 %!",
}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    """Nobody has to read numbers in place of a language, nor does a program that reads JSON."""
    assert plain(text) == text
    assert plain_json({text: text}) == f'{{"{text}": "{text}"}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\x7f\x9b1m", "\\x7f\\x9b1m"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("a\u200bb\u200dc\ufeff\u00ad", "a\\u200bb\\u200dc\\ufeff\\xad"),
        ("a\u3164b\u115fc\ufe0f\U000e0101", "a\\u3164b\\u115fc\\ufe0f\\U000e0101"),
        ("\ue000\U000f0000", "\\ue000\\U000f0000"),
        ("\u0378\U000e0fff", "\\u0378\\U000e0fff"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\u0e01" + "\u0e49" * 6, "\u0e01" + "\u0e49" * 4 + "\\u0e49" * 2),
        ("\u0301a\u0301", "\\u0301a\u0301"),
        (403, "403"),
        (None, "None"),
    ],
    ids=[
        *("escapes", "line ends", "DEL and CSI", "direction", "zero width", "fillers"),
        *("private use", "unassigned", "separators", "tags", "surrogate", "marks"),
        *("a mark without a letter", "number", "nothing"),
    ],
)
def test_what_steers_or_hides_is_told_by_its_number(text: object, expected: str) -> None:
    """It is escaped as Python would."""
    assert plain(text) == expected


ANY_TEXT = st.text(
    st.characters()
    | st.sampled_from("\x1b\x07\x9b\x7f\r\n\t\0\u202e\ud800\\\u0301\u0e49\u200d\ufe0f\u516c")
)


@given(ANY_TEXT)
@example("e" + "\u0301" * (MAX_MARKS + 1))
def test_plain_text_is_one_line_that_can_be_read(text: str) -> None:
    """Nothing gets through that could steer a terminal, and to be plain is the end of it."""
    told = plain(text)

    assert_legible(told)
    assert plain(told) == told


@given(ANY_TEXT)
def test_plain_json_reads_back(text: str) -> None:
    """JSON can be read by a person too, and says what was meant."""
    told = plain_json({"text": text})

    assert_legible(told)
    assert json.loads(told) == {"text": text}


@given(ANY_TEXT)
def test_every_escape_of_json_reads_back(text: str) -> None:
    """A character beyond the first plane is a pair of escapes."""
    told = json_escape(text)

    assert told.isascii()
    assert json.loads(f'"{told}"') == text


def test_plain_json_knows_times() -> None:
    """A time is told in ISO 8601, with its zone."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, timezone(timedelta(hours=8)))

    assert plain_json({"at": at}) == '{"at": "2026-01-02T03:04:05.678000+08:00"}'


def test_plain_json_knows_whatever_has_a_text() -> None:
    """What JSON has no form for is told as its text."""
    assert plain_json([Path("a/b")]) == '["a/b"]'


def test_plain_json_can_be_on_several_lines() -> None:
    """For a person to copy it is indented."""
    assert plain_json({"a": [1]}, indent=2) == '{\n  "a": [\n    1\n  ]\n}'


def test_the_lines_of_a_json_text_stay_lines() -> None:
    """A line feed between its parts is no part of a text in it."""
    assert plain_json_text('{\n "a": "\u202e"\n}') == '{\n "a": "\\u202e"\n}'
