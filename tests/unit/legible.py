"""What a person can read safely, by the names that Unicode gives to characters."""

from __future__ import annotations

import unicodedata

DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
UNREADABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Of those that show nothing, the names say so.
BLANK = (
    *("VARIATION SELECTOR", "HANGUL CHOSEONG FILLER", "HANGUL JUNGSEONG FILLER"),
    *("HANGUL FILLER", "HALFWIDTH HANGUL FILLER", "COMBINING GRAPHEME JOINER"),
)
MOST_MARKS = 4


def is_legible(char: str) -> bool:
    """Whether a character can be seen, and changes nothing but its own place."""
    if unicodedata.category(char) in UNREADABLE or unicodedata.bidirectional(char) in DIRECTIONS:
        return False
    return not unicodedata.name(char, "").startswith(BLANK)


def assert_legible(text: str, *, lines: bool = False) -> None:
    """Any language, and nothing that steers a terminal, hides itself or runs over other lines."""
    for line in text.split("\n") if lines else [text]:
        assert [char for char in line if not is_legible(char)] == []
        marks = 0
        for char in line:
            marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
            assert marks <= MOST_MARKS
        assert not line or not unicodedata.category(line[0]).startswith("M")
