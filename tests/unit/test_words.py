"""Words that do not come back: nobody searches for them, and a sentence with them is a riddle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS
from tests.emulators.cloud import REPOSITORY

REFUSED = re.compile(
    r"(?<![\w-])(whoever|lest|amiss|by\s+lot|anew|thereof|wherefrom|told|doors?)(?![\w-])",
    re.IGNORECASE,
)
# Beside "dead letter" and "dead-letter", a letter is a sign of the alphabet.
LETTER_ALONE = re.compile(r"(?<![\w-])(?<!dead )(?<!dead-)letters?(?![\w-])", re.IGNORECASE)
PRODUCT = sorted(
    path
    for folder in ("layers", "functions")
    for path in (REPOSITORY / folder).rglob("*")
    if path.suffix in {".py", ".html"} or path.name == ".fcignore"
)
SOURCES = [*PRODUCT, REPOSITORY / "template.yaml", REPOSITORY / "Makefile", *DOCUMENTS]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_word_that_was_given_up_comes_back(source: Path) -> None:
    """Neither in a name nor in a sentence of the product, the README or the docs."""
    lines = enumerate(source.read_text("utf-8").splitlines(), start=1)
    found = [
        (number, line.strip()) for number, line in lines if REFUSED.search(line.replace("_", " "))
    ]

    assert found == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_letter_in_the_docs_is_a_dead_letter(document: Path) -> None:
    """A document says which kind of letter it means."""
    text = " ".join(document.read_text("utf-8").split())

    assert [text[m.start() - 40 : m.end()] for m in LETTER_ALONE.finditer(text)] == []
