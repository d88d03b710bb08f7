"""JSON that others wrote: strict about what JSON is, lenient about what stands in it.

By hand on the standard library: a model for every document would be loaded by each cold start, for
a few texts of which each may be absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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


def mapping(value: object) -> dict[str, object]:
    """The same, where anything else is as good as absent."""
    return as_object(value) or {}


def folded(document: dict[str, T]) -> dict[str, T]:
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
    for key, value in mapping(place).items():
        found = text_of(value)
        if key.lower() in keys and found:
            yield found
