"""Untrusted JSON and text: parsing is strict about the syntax and lenient about the content.

This module uses only the standard library: a pydantic model for each document would slow down every
cold start, and the guard reads only a few optional fields.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timezone
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


def shortened(text: str) -> str:
    """Cut an untrusted text so that its `quoted` form has at most 200 characters."""
    if len(text) <= MAX_QUOTE_LENGTH and len(json.dumps(text)) <= MAX_QUOTE_LENGTH:
        return text
    # A binary search, because a payload may contain hundreds of long texts.
    lengths = range(1, MAX_QUOTE_LENGTH)
    kept = bisect_right(lengths, MAX_QUOTE_LENGTH, key=lambda n: len(json.dumps(text[:n] + "...")))
    return text[:kept] + "..."


def quoted(text: str) -> str:
    """Quote an untrusted text for a message: JSON-escaped ASCII, at most 200 characters."""
    return json.dumps(shortened(text))


def plain(text: object) -> str:
    """Escape all but printable ASCII: untrusted text must not control the terminal."""
    return "".join(
        char if char.isascii() and char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def plain_json(value: object, *, indent: int | None = None) -> str:
    """Serialize a value as JSON in printable ASCII, which cannot control the terminal."""
    return json.dumps(value, indent=indent, default=_as_text).replace("\x7f", "\\u007f")


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
