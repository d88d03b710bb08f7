"""Untrusted JSON and text: parsing is strict about the syntax and lenient about the content.

This module uses only the standard library: a pydantic model for each document would slow down every
cold start, and the guard reads only a few optional fields.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii  # what `json.dumps` does for a string, but faster
from typing import Any, TypeVar

T = TypeVar("T")

# An escaped surrogate: it is unpaired or half of a valid pair.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str | bytes) -> Any:
    r"""Parse a JSON text in UTF-8.

    Raises ValueError for any other input, for JSON that is nested too deeply, and for an unpaired
    surrogate (`"\ud800"`), which UTF-8 cannot encode again.
    """
    decoded = text.decode() if isinstance(text, bytes) else text
    # Some producers start their text with a byte order mark.
    decoded = decoded.removeprefix("\ufeff")
    try:
        value = json.loads(decoded)
        if _SURROGATE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def as_object(value: object) -> dict[str, object] | None:
    """Return an object, parsed if it is a JSON text; None for any other value."""
    if isinstance(value, (str, bytes)):
        try:
            value = loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def object_or_empty(value: object) -> dict[str, object]:
    """Return an object as `as_object` does, but an empty one instead of None."""
    return as_object(value) or {}


def lowercase_keys(document: dict[str, T]) -> dict[str, T]:
    """Return the document with lower-case keys; the first of two keys that become equal counts."""
    return {key.lower(): value for key, value in reversed(document.items())}


def as_text(value: object) -> str | None:
    """Return a string, or a whole number as a string; None for any other value.

    Some producers leave out the quotes of a string of digits. An empty string counts as None.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def strings(document: object, *keys: str) -> Iterator[str]:
    """Yield the texts of an object whose lower-case key is one of `keys`."""
    for key, value in object_or_empty(document).items():
        text = as_text(value)
        if key.lower() in keys and text:
            yield text


# Times, and text for messages and terminals.


def read_time(value: str | None) -> datetime | None:
    """Parse an ISO 8601 time or 13 digits of milliseconds since 1970; return None otherwise.

    A time without a zone counts as UTC.

    >>> str(read_time("2026-01-02T03:04:05Z"))
    '2026-01-02 03:04:05+00:00'
    """
    text = value or ""
    if text.isascii() and text.isdigit() and len(text) == 13:
        return datetime.fromtimestamp(int(text) / 1000, timezone.utc)
    try:
        # Python 3.10 does not accept the Z.
        at = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def parse_time(value: object) -> datetime | None:
    """Parse a text as `read_time` does, or a number of milliseconds since 1970."""
    if isinstance(value, str):
        return read_time(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    try:
        return datetime.fromtimestamp(value / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


MAX_QUOTE_LENGTH = 200


def shortened(text: str, limit: int = MAX_QUOTE_LENGTH) -> str:
    """Cut an untrusted text so that its `quoted` form has at most `limit` characters."""
    if len(text) <= limit and len(encode_basestring_ascii(text)) <= limit:
        return text
    # A binary search, because a payload may contain hundreds of long texts.
    lengths = range(1, limit)
    kept = bisect_right(lengths, limit, key=lambda n: len(json.dumps(text[:n] + "...")))
    return text[:kept] + "..."


def quoted(text: str) -> str:
    """Quote an untrusted text for a message: JSON-escaped ASCII, at most 200 characters."""
    return json.dumps(shortened(text))


def as_word(text: str, limit: int) -> str:
    """Return an untrusted text as one word: as it is, or quoted if it has blanks or other signs.

    It is ASCII, and has at most `limit` characters, also within a JSON string.

    >>> as_word("alice", 20), as_word("alice of 42", 40)
    ('alice', '"alice of 42"')
    """
    if re.fullmatch(r"[!#-\[\]-~]+", text):
        return shortened(text, limit)
    # JSON escapes the quotes and backslashes of the word once more.
    return json.dumps(shortened(text, limit // 2))


# What a reader can see, in any language. This is a string, because `re` compiles it on first use,
# and no event that is encrypted uses it.
_NOT_ASCII = "[^\x20-\x7e]+"
# Letters and marks that show nothing: the rest of what Unicode calls default-ignorable.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0" + "".join(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
# Categories of Unicode: controls, formats (text direction, zero width), surrogates, private use,
# unassigned, and the separators of lines and of paragraphs.
_STEERING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# No language stacks more marks on one character; many more would cover the lines around it.
MAX_MARKS = 4


def plain(text: object) -> str:
    r"""Return a text of any language, with escapes for what steers a terminal or cannot be seen.

    That is controls, text direction, zero width, private use and unassigned characters, and more
    than MAX_MARKS combining marks in a row.

    >>> plain("公开 \x1b[31m")
    '公开 \\x1b[31m'
    """
    return re.sub(_NOT_ASCII, lambda run: _escaped(run, _python_escape), str(text))


def plain_json(value: object, *, indent: int | None = None) -> str:
    """Serialize a value as JSON for people, with escapes for what `plain` escapes."""
    text = json.dumps(value, indent=indent, default=_as_text, ensure_ascii=False)
    return plain_json_text(text)


def plain_json_text(text: str) -> str:
    """Escape what `plain` escapes in a JSON text, except its line feeds; it stays valid JSON."""
    if text.isascii() and text.isprintable():  # most are, and this is faster
        return text
    lines = (
        re.sub(_NOT_ASCII, lambda run: _escaped(run, json_escape), line)
        for line in text.split("\n")
    )
    return "\n".join(lines)


def json_escape(text: str) -> str:
    r"""Return each character as JSON escapes it, such as `\u516c`; some need a pair of escapes."""
    units = text.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    return "".join(f"\\u{unit}" for unit in units)


def _python_escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _escaped(run: re.Match[str], escape: Callable[[str], str]) -> str:
    from unicodedata import category  # for the reason of _NOT_ASCII

    # At the start of a text, a mark would join what is printed before it.
    marks = 0 if run.start() else MAX_MARKS
    pieces = []
    for char in run[0]:
        kind = category(char)
        marks = marks + 1 if kind.startswith("M") else 0
        is_hidden = kind in _STEERING or char in _INVISIBLE
        pieces.append(escape(char) if is_hidden or marks > MAX_MARKS else char)
    return "".join(pieces)


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
