"""An ID names one letter of the whole queue, whose lease lasts until its turn comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from encryption_guard.arn import Scope
from encryption_guard.cli.dead_letter_ids import AmbiguousId, Lookup
from encryption_guard.dead_letters.destinations import LEASE_SECONDS, QueuedMessage
from encryption_guard.errors import Unavailable
from tests.unit.cli.waiting_messages import letter
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    FakeLetterQueue,
    FakeTime,
    creation_of,
    dead_letter_of,
    waiting_of,
)

ID = letter().message.summary.id


@dataclass
class Search:
    """A search in a queue, which takes so many seconds for each letter it reads."""

    letters: list[QueuedMessage]
    seconds_each: float = 0.0
    keep: bool = True
    silent: bool = False
    time: FakeTime = field(default_factory=FakeTime)
    kept: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = FakeLetterQueue(self.letters, scope=Scope(ACCOUNT, REGION))

    def run(self, *words: str, stop_after: int | None = None) -> list[str]:
        """The keys of the letters found; each of them takes a minute of work."""
        keep = self.queue.keep

        def note(key: str) -> bool:
            self.kept.append((key, self.time.passed))
            if self.silent:
                raise Unavailable("no answer")
            return keep(key)

        self.queue.keep = note  # type: ignore[method-assign]
        self.lookup = Lookup(words, self.queue, keep=self.keep, monotonic=self.time.monotonic)
        read = iter(range(1000))
        found = []
        for queued in self.lookup.find(
            self._read(), lambda: stop_after is not None and next(read) >= stop_after
        ):
            assert queued == next(one for one in self.letters if one.key == queued.key)
            found.append(queued.key)
            self.time.passed += 60
        return found

    def _read(self) -> Iterator[QueuedMessage]:
        for queued in self.queue.read():
            self.time.passed += self.seconds_each
            yield queued


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        (ID, True),
        (ID[:8], True),
        (ID[:35], True),
        ("event-1", True),
        ("message-1", True),
        (ID[:7], False),
        (ID[:8].upper() if ID[:8] != ID[:8].upper() else "x", False),
        (ID + "0", False),
        ("event-", False),
        ("message-10", False),
        ("message-", False),
        ("", False),
    ],
    ids=[
        *("ID", "8 characters", "35 characters", "event id", "message id", "7 characters"),
        *("other case", "more than the ID", "part of the event id", "more than the message id"),
        *("part of the message id", "nothing"),
    ],
)
def test_a_word_names_a_letter(word: str, meant: bool) -> None:
    """A letter is called by its ID, 8 characters of it or more, its event's id or its message's."""
    search = Search([letter(), letter(2)])

    assert search.run(word) == (["message-1"] if meant else [])
    assert search.lookup.missing == ([] if meant else [word])


def test_an_empty_word_names_nothing() -> None:
    """Not even the letter of an event that has no id."""
    without_id = waiting_of(dead_letter_of(creation_of(ARN, event_id=None)), key="message-1")

    search = Search([without_id, waiting_of(b"hello", key="message-2")])

    assert search.run("") == []
    assert search.lookup.missing == [""]


def test_nothing_is_found_before_all_was_read() -> None:
    """A twin may be the last letter of the queue."""
    search = Search([letter(), letter(2), letter(1, key="twin")])

    with pytest.raises(AmbiguousId) as raised:
        search.run(ID, "event-2")

    (matches,) = raised.value.ambiguous
    assert (matches.word, matches.total) == (ID, 2)
    assert [match.key for match in matches.listed] == ["message-1", "twin"]


def test_a_message_id_counts_before_what_a_letter_says() -> None:
    """Whoever calls an event by the message id of another letter does not make it ambiguous."""
    rider = waiting_of(dead_letter_of(creation_of(ARN, event_id="message-1")), key="rider")

    assert Search([letter(), rider]).run("message-1") == ["message-1"]
    assert Search([rider, letter()]).run("message-1") == ["message-1"]


def test_a_letter_is_kept_as_long_as_the_queue_is_read() -> None:
    """Its lease is renewed in time, and so are those of letters that wait for their turn."""
    letters = [letter(number) for number in range(200)]
    search = Search(letters, seconds_each=3.0)

    found = search.run("event-0", "event-1", "event-199")

    assert found == ["message-0", "message-1", "message-199"]
    for key, turn in zip(found, (600, 660, 720), strict=True):
        times = [at for kept, at in search.kept if kept == key]
        gaps = [late - early for early, late in zip(times, [*times[1:], turn], strict=True)]
        assert max(gaps) < LEASE_SECONDS
    assert {key for key, _ in search.kept} == set(found)


def test_a_plan_keeps_nothing() -> None:
    """What is only looked at needs no longer lease than any other letter."""
    search = Search([letter(), letter(2)], seconds_each=100.0, keep=False)

    assert search.run("event-1") == ["message-1"]
    assert search.kept == []


def test_a_lease_that_cannot_be_renewed_stops_no_search() -> None:
    """Before its turn the letter is made sure of once more, and left if that fails."""
    search = Search([letter()], silent=True)

    assert search.run("event-1") == ["message-1"]
    assert len(search.kept) == 1


def test_a_search_that_is_stopped_finds_nothing() -> None:
    """What was not read could be a twin; nothing is said to be missing either."""
    search = Search([letter(), letter(2), letter(3)])

    assert search.run("event-1", "event-3", stop_after=2) == []
    assert search.lookup.missing == []
