"""The drawing of the rooms in docs/design.md is that of the imports."""

from __future__ import annotations

import re

from tests.emulators.cloud import REPOSITORY
from tests.unit.test_structure import FILES, IMPORTED, room_of


def test_the_drawing_has_each_arrow_and_no_other() -> None:
    """An import that comes or goes is drawn."""
    text = (REPOSITORY / "docs" / "design.md").read_text("utf-8")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", text, re.MULTILINE))

    imported = {
        (room_of(name), room_of(word))
        for name, file in FILES.items()
        for word in IMPORTED.findall(file.read_text("utf-8"))
    }

    assert drawn == {(importer, room) for importer, room in imported if importer != room}
