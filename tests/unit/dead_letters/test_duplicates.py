"""A sweep that meets the same refusal again writes no second letter about it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from encryption_guard.dead_letters.destinations import append_line
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Invocation, TimeBudget
from encryption_guard.settings import Settings
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    KEY,
    REGION,
    FakeSmq,
    FakeTime,
    LetterBox,
    creation_of,
    dead_letter_of,
)


def letter(number: int, **fields: object) -> DeadLetter:
    """A refusal of a bucket that is another one for each number."""
    body = dead_letter_of(creation_of(f"{ARN}-{number}"), **fields)
    return DeadLetter.model_validate_json(body)


ONE, TWO, THREE = letter(1), letter(2), letter(3)
ELSEWHERE = creation_of(f"{ARN._replace(region='cn-shanghai')}-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three letters."""
    path = tmp_path / "dead-letters.jsonl"
    for waiting in (ONE, TWO, THREE):
        append_line(path, waiting.body())
    return path


@dataclass
class Sweeper:
    """What a sweep asks with, whose letters go to this queue: `put` is about one refusal."""

    queue: str
    smq: FakeSmq = field(default_factory=FakeSmq)
    box: LetterBox = field(default_factory=LetterBox)
    written: dict[tuple[str | None, str], datetime] = field(default_factory=dict)
    time: FakeTime = field(default_factory=FakeTime)
    acts: bool = True
    function_name: str | None = None

    def open(self) -> Callable[[DeadLetter], bool | None]:
        """Where one sweep puts its letters."""
        clock = self.time.as_clock()
        settings = Settings.from_environment({"GUARD_DEAD_LETTER_QUEUE": self.queue})
        if self.function_name:
            settings = settings._replace(function_name=self.function_name)
        invocation = Invocation(
            transport=self.smq.transport(),
            settings=settings,
            read_credentials=lambda: KEY,
            budget=TimeBudget(clock.monotonic() + 60, clock),
            clock=clock,
        )
        return skip_duplicates(
            self.box.put, invocation, written=self.written, acts_on=lambda _: self.acts
        )

    def put(self, dead_letter: DeadLetter) -> bool | None:
        """Put a letter in a sweep of its own; returns whether it was written."""
        return self.open()(dead_letter)

    def letters(self) -> list[DeadLetter]:
        """What was put into the queue."""
        return [DeadLetter.model_validate_json(body) for body in self.box.letters]


IN_SMQ = f"acs:mns:{REGION}:{ACCOUNT}:/queues/dlq"


def smq_with(*letters: DeadLetter) -> FakeSmq:
    """A queue in which these letters wait, as the guard sends them."""
    return FakeSmq(b64encode(letter.body()).decode() for letter in letters)


def test_a_letter_like_one_that_waits_in_smq_is_not_put_again() -> None:
    """One bucket, one reason, one letter; looking for it hides none and is done once."""
    sweeper = Sweeper(IN_SMQ, smq_with(ONE))
    put = sweeper.open()

    was_put = [put(body) for body in (ONE, TWO, ONE, THREE)]

    assert was_put == [False, True, False, True]
    assert sweeper.letters() == [TWO, THREE]
    assert [message.receipt_handle for message in sweeper.smq.messages] == [None]
    assert all("peekonly=true" in str(request.url) for request in sweeper.smq.requests)
    assert len(sweeper.smq.requests) == 3


@pytest.mark.parametrize(
    "other",
    [
        ONE.model_copy(update={"reason": "conflict"}),
        letter(9),
        letter(1, event=json.dumps(ELSEWHERE), arn=ELSEWHERE["data"]["responseElements"]["arn"]),
    ],
    ids=["another reason", "another bucket", "another region"],
)
def test_a_letter_about_something_else_is_put(path: Path, other: DeadLetter) -> None:
    """Only the same bucket with the same reason is the same letter."""
    sweeper = Sweeper(f"file:{path}")

    assert [sweeper.put(each) for each in (TWO, other)] == [False, True]
    assert sweeper.letters() == [other]


NOTHING = {"event": "", "event_encoding": "utf-8"}
PLANTED = {
    "about another bucket": letter(9, arn=ONE.arn),
    "without an event": letter(1, **NOTHING),
    "redriven too often": letter(1, redrives=3),
    "of another function": letter(1, function="payroll"),
    "of a service": letter(1, function="guard$oss-tables-encrypt-on-create"),
    "of a failed call": letter(1, event=json.dumps(creation_of(ARN, eventName="GetTableBucket"))),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("where", ["SMQ", "file"])
def test_a_letter_that_cannot_be_redriven_holds_none_back(
    where: str, planted: DeadLetter, tmp_path: Path
) -> None:
    """Whoever may write to the queue does not keep the sweep from writing about a bucket."""
    path = tmp_path / "dead-letters.jsonl"
    append_line(path, planted.body())
    sweeper = Sweeper(IN_SMQ if where == "SMQ" else f"file:{path}", smq_with(planted))

    assert sweeper.put(ONE)
    assert sweeper.letters() == [ONE]


@pytest.mark.parametrize(
    "function", ["oss-tables-encryption-sweep", "encryption-guard sweep", "renamed-sweep"]
)
def test_a_letter_of_the_guard_is_known_again(function: str) -> None:
    """A sweep recognizes what either function or a command wrote, and itself by its own name."""
    waiting = smq_with(letter(1, function=function))

    assert not Sweeper(IN_SMQ, waiting, function_name="renamed-sweep").put(ONE)


def test_a_letter_is_put_where_the_queue_cannot_be_looked_at(tmp_path: Path) -> None:
    """A missing right, a missing file or no queue is no reason to keep a letter back."""
    for sweeper in (
        Sweeper(IN_SMQ, FakeSmq(name="another")),
        Sweeper(f"file:{tmp_path / 'not-there-yet'}"),
        Sweeper(""),
    ):
        sweeper.put(ONE)

        assert sweeper.letters() == [ONE]


def test_a_queue_too_long_for_a_glance_gets_no_letter_twice_within_a_day() -> None:
    """What this process wrote counts where the queue cannot be seen as a whole."""
    sweeper = Sweeper(IN_SMQ, smq_with(*(letter(number) for number in range(100, 116))))

    for hours in (0, 1, 23, 24.5, 25):
        sweeper.time.passed = hours * 3600
        sweeper.put(ONE)

    assert sweeper.letters() == [ONE, ONE]


def test_a_letter_that_is_out_of_sight_in_a_short_queue_was_removed() -> None:
    """Whoever discarded it reads of the bucket again, as long as it is refused."""
    sweeper = Sweeper(IN_SMQ, smq_with(TWO))

    for _ in range(2):
        sweeper.put(ONE)

    assert sweeper.letters() == [ONE, ONE]


def test_a_letter_that_was_not_put_does_not_count_as_written() -> None:
    """What `put` raises comes through, and the letter is tried again in the next sweep."""
    sweeper = Sweeper(IN_SMQ, box=LetterBox(room=0))

    with pytest.raises(Unavailable):
        sweeper.put(ONE)

    assert sweeper.written == {}


def test_a_letter_on_which_the_guard_would_not_act_is_no_duplicate(path: Path) -> None:
    """Its redrive would end as a refusal, and the bucket would stay open without a dead letter."""
    path.write_bytes(ONE.body() + b"\n")

    assert not Sweeper(f"file:{path}").put(ONE)
    assert Sweeper(f"file:{path}", acts=False).put(ONE)
