"""An event without what it tells of an account: names, numbers and keys become made-up ones.

The same value becomes the same made-up value wherever it stands, so that fields which agreed still
do. Every string is read in one pass: what was replaced is never read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# As in the samples of events/.
MADE_UP_ACCOUNT = "1234567890123456"
# A shorter text is part of too many words to be looked for in others.
SHORTEST_SUFFIX, SHORTEST_NAME, SHORTEST_NUMBER = 6, 3, 5

# A number of such a field is an instant, if it is one of this century: in seconds or milliseconds.
_EPOCH = r"[1-4]\d{9}(?:\d{3})?"
_TIMES = re.compile("time|date", re.IGNORECASE)
_SECRETS = re.compile("token|secret|signature|password|credential|authorization", re.IGNORECASE)
# By lower-case name of the field: what its value is.
_PEOPLE = re.compile("(?:user|login|display|role|session)name", re.IGNORECASE)
_IDS = re.compile(
    "(?:event|request|principal|accesskey|role|user|vpc|trace)?id|sourceipaddress|clientip",
    re.IGNORECASE,
)
# Who is nobody in particular, and words that are parts of every ARN.
_NOBODY = frozenset({"root", "Internal"})
_OF_EVERY_ARN = re.compile(
    "acs|oss|osstables|bucket|table|role|user|ram|assumed-role|cn", re.IGNORECASE
)
_SERVICE = re.compile(r"[a-z0-9.-]+\.aliyuncs\.com")

_IPV6 = (
    r"(?<![0-9A-Za-z:.])(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}"
    r"|(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]{1,4}){1,6})(?![0-9A-Za-z:])"
)
# In this order: what an earlier one takes is not looked at by a later one.
_FORMS = (
    (
        "time",
        r"(?<!\d)\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
        r"(?:Z|PRC|[+-]\d{2}:?\d{2})?(?!\d)|(?<!\d)\d{8}T\d{6}Z",
    ),
    ("email", r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"),
    ("uuid", r"(?i:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"),
    ("key", r"(?:LTAI|STS\.|TMP\.)[A-Za-z0-9]{4,}"),
    ("secret", r"(?i:(?<=signature=)|(?<=token=)|(?<=password=)|(?<=secret=))[^&\s\"',;]+"),
    ("ipv4", r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
    ("ipv6", _IPV6),
    ("digits", r"(?<![A-Za-z0-9])\d{8,}(?![A-Za-z0-9])"),
    ("hex", r"(?<![A-Za-z0-9])(?=[A-Fa-f]*\d)(?:[0-9a-f]{8,}|[0-9A-F]{8,})(?![A-Za-z0-9])"),
    # Capitals, small letters and digits together make no word; neither do three digits in one run.
    ("opaque", r"(?=[A-Za-z0-9+/_]*\d)(?=[A-Za-z0-9+/_]*[A-Z])(?=[A-Za-z0-9+/_]*[a-z])"
     r"[A-Za-z0-9+/_]{20,}={0,2}"),
    ("opaque", r"(?=(?:[A-Za-z]*\d){3})[A-Za-z0-9]{12,}={0,2}"),
    ("opaque", r"[A-Za-z0-9+/]{32,}={0,2}"),
    ("digits", r"\d{8,}"),
)  # fmt: skip


@dataclass(frozen=True)
class Scrubbed:
    """The event as it may be shown, and the fields in which something was replaced."""

    text: str
    replaced: tuple[str, ...]


def scrubbed(event: bytes, *, account: str, bucket: str, region: str) -> Scrubbed:
    """The event as a sample of events/ could have it.

    Raises ValueError if it is no JSON object.
    """
    parsed = json.loads(event)
    if not isinstance(parsed, dict):
        raise ValueError("the event is no JSON object")  # noqa: TRY004  as any other bad JSON
    names = _Names()
    names.know(account, MADE_UP_ACCOUNT)
    suffix = bucket.rpartition("-")[2]
    names.know(bucket, bucket.removesuffix(suffix) + names.like("hex", suffix))
    if len(suffix) >= SHORTEST_SUFFIX:
        names.know(suffix, names.like("hex", suffix))
    names.know(region, region)
    # Before people and things are met: those stand in values, and no field is called after them.
    of_keys = names.pattern()
    _meet(parsed, names)
    scrubber = _Scrubber(names, names.pattern(), of_keys)
    cleaned = scrubber.value(parsed, "")
    text = json.dumps(cleaned, indent=2) + "\n"
    return Scrubbed(text, tuple(dict.fromkeys(scrubber.replaced)))


@dataclass
class _Names:
    """Every original that was met, and what stands for it from then on."""

    known: dict[str, str] = field(default_factory=dict)
    everywhere: list[str] = field(default_factory=list)
    made: dict[tuple[str, str], str] = field(default_factory=dict)

    def know(self, original: str, made_up: str) -> None:
        """Replace this text wherever it stands, in the middle of others too."""
        if original and original not in self.known:
            self.known[original] = made_up
            self.everywhere.append(original)

    def meet(self, kind: str, original: str) -> None:
        """Replace this text as a word of any other text, if it can be told from common words."""
        shortest = SHORTEST_NUMBER if original.isdecimal() else SHORTEST_NAME
        if original in self.known or _OF_EVERY_ARN.fullmatch(original) or len(original) < shortest:
            return
        parts = original.split(":")
        if len(parts) == 1 or re.fullmatch(_IPV6, original):
            self.known[original] = self.like(kind, original)
            return
        for part in parts:
            self.meet(kind, part)
        self.known[original] = ":".join(
            self.known.get(part) or self.like(kind, part) for part in parts
        )

    def like(self, kind: str, original: str) -> str:
        """A made-up value of the same form, always the same for the same original."""
        made = self.made.get((kind, original))
        if made is None:
            number = 1 + sum(each == kind for each, _ in self.made)
            made = self.made[kind, original] = _MAKERS[kind](original, number)
        return made

    def pattern(self) -> re.Pattern[str]:
        """All that is to be found: what is known first, the longest first, then the forms."""
        longest_first = sorted(self.known, key=len, reverse=True)
        known = [self._literal(original) for original in longest_first]
        forms = [f"(?P<{kind}_{n}>{form})" for n, (kind, form) in enumerate(_FORMS)]
        return re.compile("|".join([f"(?P<known>{'|'.join(known)})", *forms]))

    def _literal(self, original: str) -> str:
        literal = re.escape(original)
        if original.isdecimal():
            return rf"(?<!\d){literal}(?!\d)"
        if original in self.everywhere:
            return literal
        return rf"(?<![A-Za-z0-9]){literal}(?![A-Za-z0-9])"


@dataclass
class _Scrubber:
    """Goes through a JSON value and notes where something was replaced."""

    names: _Names
    pattern: re.Pattern[str]
    of_keys: re.Pattern[str]
    replaced: list[str] = field(default_factory=list)

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            keys = {key: self.of_keys.sub(self._made_up, key) for key in value}
            return {
                keys[key]: self.value(item, f"{path}.{keys[key]}".lstrip("."))
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.value(item, f"{path}[]") for item in value]
        cleaned = self._leaf(value, path)
        if cleaned != value:
            self.replaced.append(path)
        return cleaned

    def _leaf(self, value: Any, path: str) -> Any:
        name = path.rpartition(".")[2].removesuffix("[]")
        if isinstance(value, str):
            return self._string(value, name, path)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        digits = str(int(value)) if value == value // 1 else str(value)
        is_time = _TIMES.search(name) and re.fullmatch(_EPOCH, digits)
        if is_time and digits not in self.names.known:
            return value
        cleaned = self._text(digits)
        if cleaned == digits:
            return value
        return int(cleaned) if cleaned.isdecimal() else cleaned

    def _string(self, text: str, name: str, path: str) -> str:
        if text.lstrip()[:1] in ("{", "["):
            try:
                inner = json.loads(text)
            except ValueError:
                return self._text(text)
            separators = (", ", ": ") if ": " in text else (",", ":")
            cleaned = self.value(inner, path)
            return json.dumps(cleaned, separators=separators, ensure_ascii=False)
        if text and _SECRETS.search(name) and text.lower() not in ("true", "false"):
            return self.names.like("secret", text)
        kind = _kind_of_field(name, text)
        if kind and text not in self.names.known:
            return self.names.like(kind, text)
        return self.names.known.get(text) or self._text(text)

    def _text(self, text: str) -> str:
        return self.pattern.sub(self._made_up, text)

    def _made_up(self, match: re.Match[str]) -> str:
        kind = (match.lastgroup or "").rpartition("_")[0]
        if match["known"] is not None:
            return self.names.known[match["known"]]
        return match[0] if kind == "time" else self.names.like(kind, match[0])


def _meet(value: Any, names: _Names) -> None:
    """Learn the values of the fields that name people and things, to find them elsewhere too."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, list):
        for item in value:
            _meet(item, names)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        kind = _kind_of_field(key, item) if isinstance(item, str) else None
        if kind:
            names.meet(kind, item)
        _meet(item, names)


def _kind_of_field(name: str, text: str) -> str | None:
    """What the value of such a field is, if that alone is a reason to replace it."""
    if not text or text in _NOBODY or _SERVICE.fullmatch(text):
        return None
    if _PEOPLE.fullmatch(name):
        return "user"
    return "id" if _IDS.fullmatch(name) else None


def _digits(original: str, number: int) -> str:
    # Not a zero in front: where it was a number it has to stay one.
    return ("1" + str(number).zfill(len(original) - 1))[-max(len(original), 1) :]


def _hex(original: str, number: int) -> str:
    letter = "A" if original.upper() == original else "a"
    return letter + str(number).zfill(max(len(original) - 1, 1))


def _uuid(_original: str, number: int) -> str:
    return f"a0000000-0000-4000-8000-{number:012}"


def _id(original: str, number: int) -> str:
    """An id of the form that it has, if it has one of those that are known."""
    for kind, form in _FORMS:
        if kind != "time" and re.fullmatch(form, original):
            return _MAKERS[kind](original, number)
    return _digits(original, number) if original.isdecimal() else f"made-up-{number}"


_MAKERS: dict[str, Callable[[str, int], str]] = {
    "email": lambda _, number: f"someone-{number}@example.com",
    "uuid": _uuid,
    "key": lambda original, number: (
        original[:4] + str(number).rjust(max(len(original) - 4, 1), "X")
    ),
    "secret": lambda _, number: f"removed-{number}",
    # Of the addresses that are for documentation: RFC 5737 and RFC 3849.
    "ipv4": lambda _, number: f"192.0.2.{number % 255}",
    "ipv6": lambda _, number: f"2001:db8::{number}",
    "hex": _hex,
    "opaque": lambda original, number: "X" + str(number).zfill(max(len(original) - 1, 1)),
    "digits": _digits,
    "user": lambda _, number: f"user-{number}",
    "id": _id,
}
