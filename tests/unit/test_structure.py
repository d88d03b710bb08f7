"""A room imports only rooms before it."""

import re
from pathlib import Path

import pytest

from tests.emulators.cloud import REPOSITORY

PACKAGE = REPOSITORY / "layers" / "encryption_guard" / "python" / "encryption_guard"
FILES = {str(file.relative_to(PACKAGE)): file for file in sorted(PACKAGE.rglob("*.py"))}
ROOMS = "root", "http", "services", "events", "dead_letters", "enforcement", "sweep", "cli"
IMPORTED = re.compile(r"^\s*(?:from|import) encryption_guard\.?(\w*)", re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_only_rooms_before_it(name: str) -> None:
    """What stands beside the rooms is root, the first one, but for what starts the last one."""
    imported = {room_of(word) for word in IMPORTED.findall(read(FILES[name]))}

    assert imported <= {*ROOMS[: ROOMS.index(room_of(name)) + 1]}


def room_of(name: str) -> str:
    """The room of a file or a module, by its path within the package."""
    first = "cli" if name == "__main__.py" else Path(name).parts[0]
    return first if first in ROOMS else "root"


def read(file: Path) -> str:
    return file.read_text("utf-8")
