"""The documents that a user of the guard reads, and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").glob("*.md"),
        *(REPOSITORY / "events").glob("*.md"),
        *(REPOSITORY / "findings").glob("*.md"),
    ]
)


def commands_in(document: Path) -> list[str]:
    """The lines of each block of commands of a document, in order."""
    blocks = re.findall(r"```console\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def commands() -> list[str]:
    """The lines of each block of commands of every document."""
    return [line for document in DOCUMENTS for line in commands_in(document)]


def prose_of(document: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
