"""JSON that others wrote: strict about what JSON is, lenient about what stands in it.

By hand on the standard library: a model for every document would be loaded by each cold start, for
a few texts of which each may be absent.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, TypeVar

T = TypeVar("T")

# The first half of a character, alone or with the second one after it.
_MAYBE_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str | bytes) -> Any:
    """What a JSON text in UTF-8 means.

    Raises ValueError for anything else, also for what is nested too deeply to be read, and for half
    a character (`"\\ud800"`), which nobody could write down again.
    """
    decoded = text.decode() if isinstance(text, bytes) else text
    # Some writers mark their text as UTF-8.
    decoded = decoded.removeprefix("\ufeff")
    try:
        value = json.loads(decoded)
        if _MAYBE_HALF.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def as_object(value: object) -> dict[str, object] | None:
    """An object, or the JSON text of one; None for anything else."""
    if isinstance(value, (str, bytes)):
        try:
            value = loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def object_or_empty(value: object) -> dict[str, object]:
    """The same, where anything else is as good as absent."""
    return as_object(value) or {}


def lowercase_keys(document: dict[str, T]) -> dict[str, T]:
    """The same with its keys in lower case; of a key in two casings, the first one counts."""
    return {key.lower(): value for key, value in reversed(document.items())}


def text_of(value: object) -> str | None:
    """A string, or a number where a lenient writer left out the quotes; anything else is absent."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def strings(place: object, *keys: str) -> Iterator[str]:
    """The texts under these keys (given in lower case), in whatever casing they stand."""
    for key, value in object_or_empty(place).items():
        found = text_of(value)
        if key.lower() in keys and found:
            yield found


# Times, and text for a sentence or a terminal.


def read_time(value: str | None) -> datetime | None:
    """The instant that an ISO 8601 text means, if it does; in UTC where it tells no zone.

    So do 13 digits: milliseconds since 1970.
    """
    text = value or ""
    if text.isascii() and text.isdigit() and len(text) == 13:
        return datetime.fromtimestamp(int(text) / 1000, timezone.utc)
    try:
        # Python 3.10 does not know the Z.
        at = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def instant(value: object) -> datetime | None:
    """The time that an ISO text or a number of milliseconds means, if it does."""
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
    """A foreign value, cut so that its JSON-escaped ASCII form is at most 200 characters."""
    if len(text) <= MAX_QUOTE_LENGTH and len(json.dumps(text)) <= MAX_QUOTE_LENGTH:
        return text
    # Found by halves: a payload may hold hundreds of these.
    lengths = range(1, MAX_QUOTE_LENGTH)
    kept = bisect_right(lengths, MAX_QUOTE_LENGTH, key=lambda n: len(json.dumps(text[:n] + "...")))
    return text[:kept] + "..."


def quoted(text: str) -> str:
    """A foreign value as it may stand in a sentence: JSON-escaped ASCII, at most 200 characters."""
    return json.dumps(shortened(text))


def plain(text: object) -> str:
    """Printable ASCII: what an event or a service says must not steer the terminal."""
    return "".join(
        char if char.isascii() and char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def plain_json(value: object, *, indent: int | None = None) -> str:
    """JSON in printable ASCII, for the same reason."""
    return json.dumps(value, indent=indent, default=_as_text).replace("\x7f", "\\u007f")


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
