"""Letters in a file: each line one, removed by blanking, while others may append."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.dead_letters.destinations import (
    FileDestination,
    QueuedMessage,
    append_line,
    leased,
)
from encryption_guard.dead_letters.messages import open_message
from encryption_guard.errors import ConfigurationError
from tests.unit.fakes import ARN, creation_of, dead_letter_of


def letter(number: int, *, padding: str = "") -> bytes:
    """A dead letter about a bucket that is another one for each number."""
    event = creation_of(f"{ARN}-{number}", event_id=f"event-{number}") | {"more": padding}
    return dead_letter_of(event, detail=f"Letter {number}.")


ONE, TWO, THREE = letter(1), letter(2), letter(3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three letters."""
    path = tmp_path / "dead-letters.jsonl"
    path.write_bytes(ONE + b"\n" + TWO + b"\n" + THREE + b"\n")
    return path


def bodies(path: Path) -> list[bytes]:
    """What somebody who looks now is given."""
    return [waiting.body for waiting in FileDestination(path).read()]


# Reading.

FILES = {
    "nothing": (b"", []),
    "several lines": (ONE + b"\n" + TWO + b"\n", [ONE, TWO]),
    "blank lines": (b"\n" + ONE + b"\n\n   \n\t\n" + TWO + b"\n\n", [ONE, TWO]),
    "lines of Windows": (ONE + b"\r\n\r\n" + TWO + b"\r\n", [ONE + b"\r", TWO + b"\r"]),
    "no newline at the end": (ONE + b"\n" + TWO, [ONE, TWO]),
    "a torn line in the middle": (TWO[:50] + b"\n" + ONE + b"\n", [TWO[:50], ONE]),
    "no text": (b"\xff\x00\n" + ONE + b"\n", [b"\xff\x00", ONE]),
    "a carriage return in a line": (b"a\rb\x0bc\n", [b"a\rb\x0bc"]),
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES)
def test_each_line_is_a_letter(tmp_path: Path, content: bytes, expected: list[bytes]) -> None:
    """Lines that are not blank come oldest first, byte for byte, readable or not."""
    path = tmp_path / "dead-letters.jsonl"
    path.write_bytes(content)

    found = bodies(path)

    assert found == expected
    assert path.read_bytes() == content


def test_a_letter_of_the_file_is_opened(path: Path) -> None:
    """It tells what it holds, and waits since it was written."""
    first, _, third = FileDestination(path).read()

    assert first.message == open_message(ONE)
    assert [delivery.event_id for delivery in first.message.events] == ["event-1"]
    assert third.message.summary.arn == f"{ARN}-3"
    assert first.since == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def test_a_line_that_is_no_letter_is_shown_as_such(tmp_path: Path) -> None:
    """A torn line is of no known kind, was put there at no known time, and can be removed."""
    path = tmp_path / "dead-letters.jsonl"
    path.write_bytes(ONE[:50])
    letters = FileDestination(path)

    (waiting,) = letters.read()
    removed = letters.remove(waiting.key)

    assert (waiting.message.summary.kind, waiting.since, removed) == ("unknown", None, True)
    assert path.read_bytes() == b" " * 50


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("{folder}/absent.jsonl", "No such file or directory"),
        ("{folder}", "Is a directory"),
        ("{folder}/file/letters.jsonl", "Not a directory"),
        # It would be read without end.
        ("/dev/full", "it is a device"),
        ("{folder}/circle", "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read_is_the_operators_affair(
    tmp_path: Path, place: str, why: str
) -> None:
    """The sentence names the file, what is wrong with it and the variable; nothing is created."""
    (tmp_path / "file").write_bytes(ONE)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    path = Path(place.format(folder=tmp_path))

    with pytest.raises(ConfigurationError) as caught:
        list(FileDestination(path).read())

    assert str(caught.value) == (
        f"The dead letters in {path} cannot be used ({why}); check GUARD_DEAD_LETTER_QUEUE."
    )
    assert not (tmp_path / "absent.jsonl").exists()


@pytest.mark.parametrize(
    "call", [FileDestination.keep, FileDestination.remove], ids=["keep", "remove"]
)
def test_a_file_that_went_away_is_the_operators_affair(
    path: Path, call: Callable[[FileDestination, str], bool]
) -> None:
    """What was read cannot be removed any more, and is not made up again."""
    letters = FileDestination(path)
    first, *_ = letters.read()
    path.unlink()

    with pytest.raises(ConfigurationError, match=r"No such file or directory"):
        call(letters, first.key)

    assert not path.exists()


def test_many_letters_take_little_memory(tmp_path: Path) -> None:
    """Of a letter that was given away only its place is kept: a file of 32 MB fits in 2 MB."""
    path = tmp_path / "dead-letters.jsonl"
    with path.open("wb") as file:
        for number in range(700):
            file.write(letter(number, padding="x" * 46_000) + b"\n")
    letters = FileDestination(path)
    # What the first letter brings along once, modules for instance, does not count.
    next(letters.read())

    tracemalloc.start()
    try:
        keys = [waiting.key for waiting in letters.read()]
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(keys) == 700
    assert held < 1_000_000
    assert peak < 2_000_000
    assert letters.remove(keys[-1]) is True


# Removing.


@pytest.mark.parametrize("removed", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_removed_letter_leaves_a_blank_line_of_its_length(path: Path, removed: int) -> None:
    """No other byte changes, and the letter does not come again."""
    letters = FileDestination(path)
    found = list(letters.read())

    gone = letters.remove(found[removed].key)

    lines = [ONE, TWO, THREE]
    left = [line for line in lines if line is not lines[removed]]
    lines[removed] = b" " * len(lines[removed])
    assert gone is True
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines)
    assert bodies(path) == left
    assert [waiting.body for waiting in letters.read()] == left


def test_letters_are_removed_while_the_file_is_read(path: Path) -> None:
    """Removing each letter before the next one is read leaves nothing."""
    size = path.stat().st_size
    letters = FileDestination(path)

    removed = [letters.remove(waiting.key) for waiting in letters.read()]

    assert removed == [True, True, True]
    assert (bodies(path), path.stat().st_size) == ([], size)


def test_a_line_of_windows_keeps_its_newline(tmp_path: Path) -> None:
    """Its carriage return goes with it."""
    path = tmp_path / "dead-letters.jsonl"
    path.write_bytes(ONE + b"\r\n" + TWO + b"\r\n")
    letters = FileDestination(path)
    first, _ = letters.read()

    letters.remove(first.key)

    assert path.read_bytes() == b" " * len(ONE) + b" \n" + TWO + b"\r\n"


def test_what_is_appended_meanwhile_stays(path: Path) -> None:
    """A letter that is written between the reading and the removing is there afterwards."""
    letters = FileDestination(path)
    found = list(letters.read())
    append_line(path, letter(4))

    removed = [letters.remove(waiting.key) for waiting in found]
    append_line(path, letter(5))

    assert removed == [True, True, True]
    assert bodies(path) == [letter(4), letter(5)]


@pytest.mark.parametrize("appended_first", [True, False], ids=["appended, removed", "the reverse"])
def test_what_follows_a_torn_line_stays(tmp_path: Path, appended_first: bool) -> None:
    """A letter after a line without its newline is on a line of its own, removed or not."""
    path = tmp_path / "dead-letters.jsonl"
    path.write_bytes(ONE + b"\n" + TWO)
    letters = FileDestination(path)
    _, torn = letters.read()

    if appended_first:
        append_line(path, THREE)
    removed = letters.remove(torn.key)
    if not appended_first:
        append_line(path, THREE)

    assert removed is True
    assert path.read_bytes() == ONE + b"\n" + b" " * len(TWO) + b"\n" + THREE + b"\n"


def test_what_is_appended_during_the_reading_is_given_too(path: Path) -> None:
    """A redrive of a file ends with what its own events wrote there."""
    found = []

    for waiting in FileDestination(path).read():
        found.append(waiting.body)
        if len(found) < 3:
            append_line(path, letter(len(found) + 3))

    assert found == [ONE, TWO, THREE, letter(4), letter(5)]


def test_nothing_is_lost_between_many_hands(path: Path) -> None:
    """While some append, others remove: afterwards every new letter is there, and no old one."""
    for number in range(4, 104):
        append_line(path, letter(number))
    letters = FileDestination(path)
    old = [waiting.key for waiting in letters.read()]
    new = [letter(number) for number in range(200, 300)]

    with ThreadPoolExecutor(8) as hands:
        appended = [hands.submit(append_line, path, line) for line in new]
        removed = list(hands.map(letters.remove, old))
        for future in appended:
            future.result()

    assert removed == [True] * len(old)
    assert sorted(bodies(path)) == sorted(new)


def grown(content: bytes) -> bytes:
    # The one who was writing it goes on.
    return content.removesuffix(b"\n") + b" and more\n"


def changed(content: bytes) -> bytes:
    return content.replace(b'"Letter 3."', b'"Letter 4."')


def cut(content: bytes) -> bytes:
    return content[: -len(THREE)]


def emptied(_content: bytes) -> bytes:
    return b""


def moved(content: bytes) -> bytes:
    return b"\n" + content


@pytest.mark.parametrize("change", [grown, changed, cut, emptied, moved], ids=lambda f: f.__name__)
@pytest.mark.parametrize("newline", [b"\n", b""], ids=["a whole line", "a torn line"])
def test_a_line_that_changed_meanwhile_is_left_alone(
    path: Path, change: Callable[[bytes], bytes], newline: bytes
) -> None:
    """What stands there now was not read: it is neither kept nor removed."""
    path.write_bytes(ONE + b"\n" + TWO + b"\n" + THREE + newline)
    letters = FileDestination(path)
    *_, third = letters.read()
    content = change(path.read_bytes())
    path.write_bytes(content)

    held = letters.keep(third.key), letters.remove(third.key)

    assert held == (False, False)
    assert path.read_bytes() == content


def test_a_letter_is_removed_once(path: Path) -> None:
    """Removing it again, or keeping it, says that there is nothing of ours any more."""
    letters, others = FileDestination(path), FileDestination(path)
    first, *_ = letters.read()
    same, *_ = others.read()

    removed = letters.remove(first.key)

    assert removed is True
    assert [letters.remove(first.key), letters.keep(first.key)] == [False, False]
    assert [others.remove(same.key), others.keep(same.key)] == [False, False]


def test_keeping_and_releasing_change_nothing(path: Path) -> None:
    """In a file nothing is hidden: whoever leaves it has nothing to give back."""
    before = path.read_bytes()
    letters = FileDestination(path)
    kept: list[Any] = []

    def work(found: list[QueuedMessage]) -> None:
        kept.extend(letters.keep(waiting.key) for waiting in found)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), leased(letters) as waiting:
        work(list(waiting))

    assert kept == [True, True, True]
    assert path.read_bytes() == before
    assert bodies(path) == [ONE, TWO, THREE]
