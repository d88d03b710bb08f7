"""A sweep that meets the same refusal again writes no second letter about it."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from pathlib import Path

import pytest

from encryption_guard.dead_letters.destinations import append_line
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.errors import Unavailable
from encryption_guard.events.envelopes import Event
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


def acts_on_all(_: Event) -> bool:
    """The guard acts on every event."""
    return True


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


def letters_in(box: LetterBox) -> list[DeadLetter]:
    """What was put into a box."""
    return [DeadLetter.model_validate_json(body) for body in box.letters]


def invocation_with(queue: str, smq: FakeSmq | None = None) -> Invocation:
    """What a sweep asks with, whose letters go to this queue."""
    clock = FakeTime().as_clock()
    return Invocation(
        transport=(smq or FakeSmq()).transport(),
        settings=Settings.from_environment({"GUARD_DEAD_LETTER_QUEUE": queue}),
        read_credentials=lambda: KEY,
        budget=TimeBudget(clock.monotonic() + 60, clock),
        clock=clock,
    )


IN_SMQ = f"acs:mns:{REGION}:{ACCOUNT}:/queues/dlq"


def smq_with(*letters: DeadLetter) -> FakeSmq:
    """A queue in which these letters wait, as the guard sends them."""
    return FakeSmq(b64encode(letter.body()).decode() for letter in letters)


def test_a_letter_like_one_that_waits_in_smq_is_not_put_again() -> None:
    """One bucket, one reason, one letter; looking for it hides none and is done once."""
    smq = smq_with(ONE)
    put = LetterBox()
    put_once = skip_duplicates(
        put.put, invocation_with(IN_SMQ, smq), written={}, acts_on=acts_on_all
    )

    was_put = [put_once(body) for body in (ONE, TWO, ONE, THREE)]

    assert was_put == [False, True, False, True]
    assert letters_in(put) == [TWO, THREE]
    assert [message.receipt_handle for message in smq.messages] == [None]
    assert all("peekonly=true" in str(request.url) for request in smq.requests)
    assert len(smq.requests) == 3


def test_a_letter_like_one_in_the_file_is_not_put_again(path: Path) -> None:
    """The same for letters in a file."""
    put = LetterBox()
    put_once = skip_duplicates(
        put.put, invocation_with(f"file:{path}"), written={}, acts_on=acts_on_all
    )

    put_once(TWO)
    put_once(letter(4))

    assert letters_in(put) == [letter(4)]


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
    put = LetterBox()

    skip_duplicates(put.put, invocation_with(f"file:{path}"), written={}, acts_on=acts_on_all)(
        other
    )

    assert letters_in(put) == [other]


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
    put, path = LetterBox(), tmp_path / "dead-letters.jsonl"
    append_line(path, planted.body())
    queue = IN_SMQ if where == "SMQ" else f"file:{path}"

    was_put = skip_duplicates(
        put.put, invocation_with(queue, smq_with(planted)), written={}, acts_on=acts_on_all
    )(ONE)

    assert was_put
    assert letters_in(put) == [ONE]


@pytest.mark.parametrize(
    "function", ["oss-tables-encryption-sweep", "encryption-guard sweep", "renamed-sweep"]
)
def test_a_letter_of_the_guard_is_known_again(function: str) -> None:
    """A sweep recognizes what either function or a command wrote, and itself by its own name."""
    put, invocation = LetterBox(), invocation_with(IN_SMQ, smq_with(letter(1, function=function)))
    settings = invocation.settings._replace(function_name="renamed-sweep")

    skip_duplicates(
        put.put, invocation._replace(settings=settings), written={}, acts_on=acts_on_all
    )(ONE)

    assert letters_in(put) == []


def test_a_letter_is_put_where_the_queue_cannot_be_looked_at(tmp_path: Path) -> None:
    """A missing right or a missing file is no reason to keep a letter back."""
    refusing = FakeSmq(name="another")
    put = LetterBox()

    for invocation in (
        invocation_with(IN_SMQ, refusing),
        invocation_with(f"file:{tmp_path / 'not-there-yet'}"),
    ):
        skip_duplicates(put.put, invocation, written={}, acts_on=acts_on_all)(ONE)

    assert letters_in(put) == [ONE, ONE]


def test_without_a_queue_there_is_nothing_to_look_at() -> None:
    """What else becomes of a letter is for `put` to say."""
    put = LetterBox()

    skip_duplicates(put.put, invocation_with(""), written={}, acts_on=acts_on_all)(ONE)

    assert letters_in(put) == [ONE]


def test_a_letter_that_was_not_written_is_said_to_be(path: Path) -> None:
    """What `put` raises comes through."""
    put_once = skip_duplicates(
        LetterBox(room=0).put, invocation_with(f"file:{path}"), written={}, acts_on=acts_on_all
    )

    with pytest.raises(Unavailable):
        put_once(letter(4))


def test_a_queue_too_long_for_a_glance_gets_no_letter_twice_within_a_day() -> None:
    """What this process wrote counts where the queue cannot be seen as a whole."""
    smq = smq_with(*(letter(number) for number in range(100, 116)))
    put, written, time = LetterBox(), dict[tuple[str | None, str], datetime](), FakeTime()

    for hours in (0, 1, 23, 24.5, 25):
        time.passed = hours * 3600
        invocation = invocation_with(IN_SMQ, smq)._replace(clock=time.as_clock())
        skip_duplicates(put.put, invocation, written=written, acts_on=acts_on_all)(ONE)

    assert letters_in(put) == [ONE, ONE]


def test_a_letter_that_is_out_of_sight_in_a_short_queue_was_removed() -> None:
    """Whoever discarded it reads of the bucket again, as long as it is refused."""
    put, written = LetterBox(), dict[tuple[str | None, str], datetime]()

    for _ in range(2):
        skip_duplicates(
            put.put, invocation_with(IN_SMQ, smq_with(TWO)), written=written, acts_on=acts_on_all
        )(ONE)

    assert letters_in(put) == [ONE, ONE]


def test_a_letter_that_was_not_put_does_not_count_as_written() -> None:
    """It is tried again in the next sweep."""
    written = dict[tuple[str | None, str], datetime]()
    put_once = skip_duplicates(
        LetterBox(room=0).put,
        invocation_with(IN_SMQ, smq_with()),
        written=written,
        acts_on=acts_on_all,
    )

    with pytest.raises(Unavailable):
        put_once(ONE)

    assert written == {}


def test_a_letter_on_which_the_guard_would_not_act_is_no_duplicate(path: Path) -> None:
    """Its redrive would end as a refusal, and the bucket would stay open without a dead letter."""
    path.write_bytes(ONE.body() + b"\n")
    put = LetterBox()
    invocation = invocation_with(f"file:{path}")

    first = skip_duplicates(put.put, invocation, written={}, acts_on=acts_on_all)
    second = skip_duplicates(put.put, invocation, written={}, acts_on=lambda _: False)

    assert (first(ONE), second(ONE)) == (False, True)
    assert letters_in(put) == [ONE]
