"""Which letters are acted on, in which way, and what is left of the queue afterwards."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from encryption_guard.arn import TableBucketArn
from encryption_guard.cli.redrive import (
    Action,
    NotDone,
    Result,
    Selection,
    Sender,
    Skip,
    Target,
    execute,
    process_locally,
)
from encryption_guard.dead_letters.destinations import WORKERS, QueuedMessage
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.dead_letters.redrivable import Obstacle, obstacle_of
from encryption_guard.enforcement import (
    AlreadyEncrypted,
    DeadLettered,
    Detected,
    Encrypted,
    Outcome,
    Skipped,
)
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.events.envelopes import Event
from encryption_guard.settings import FunctionArn
from tests.unit.cli.waiting_messages import letter
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    FakeLetterQueue,
    creation_of,
    dead_letter_of,
    destination_record_of,
    waiting_of,
)

PLACE = f"acs:fc:{REGION}:{ACCOUNT}:"
TARGET = Target(None, REGION, ACCOUNT)
# Only a test that fails waits as long.
FOREVER = 20.0


def letters(number: int) -> list[QueuedMessage]:
    return [letter(n) for n in range(1, number + 1)]


def every(messages: Iterator[QueuedMessage]) -> Iterator[QueuedMessage]:
    """The selection of all messages."""
    return messages


# Which letters are meant.

ONE = letter()
ID = ONE.message.summary.id


@pytest.mark.parametrize(
    ("selection", "covered"),
    [
        (Selection(), True),
        (Selection(reason="rejected"), True),
        (Selection(reason=""), False),
        (Selection(bucket="my-table-bucket"), True),
        (Selection(bucket="[mn]y-table-bucke?"), True),
        (Selection(bucket="my-"), False),
        (Selection(bucket="My-*"), False),
        (Selection(bucket=""), False),
        (Selection("rejected", "*"), True),
        (Selection("conflict", "*"), False),
    ],
    ids=str,
)
def test_a_selection_covers_what_meets_every_condition(selection: Selection, covered: bool) -> None:
    """No condition is met by every letter; of several, all have to be met."""
    assert selection.matches(ONE) is covered


@pytest.mark.parametrize(
    ("selection", "covered"),
    [
        (Selection(bucket="*"), True),
        (Selection(bucket="my-*"), False),
        (Selection(reason="unknown"), True),
    ],
    ids=str,
)
def test_a_letter_without_a_bucket_can_be_selected(selection: Selection, covered: bool) -> None:
    """A letter about no bucket is about none whose name begins with anything."""
    assert selection.matches(waiting_of(b"hello")) is covered


@pytest.mark.parametrize(
    ("bucket", "covered"), [("orders-*", True), ("orders-1", False), ("decoy", False), ("*", True)]
)
def test_a_letter_of_several_buckets_is_about_each(bucket: str, covered: bool) -> None:
    """Nobody who names one bucket discards what is also about another."""
    arns = [ARN._replace(name=f"orders-{number}") for number in range(2)]
    waiting = waiting_of(destination_record_of([creation_of(arn) for arn in arns]))

    assert Selection(bucket=bucket).matches(waiting) is covered


def test_a_letters_word_about_its_bucket_selects_nothing() -> None:
    """Without an event that says so, it is about no bucket."""
    waiting = waiting_of(dead_letter_of(creation_of(ARN), event=""))

    assert not Selection(bucket=ARN.name).matches(waiting)


# Where its events go.


def about(function: str | None, kind: Any = "dead_letter") -> MessageSummary:
    """A letter that tells this function."""
    return MessageSummary(
        id=ID, kind=kind, reason="rejected", detail="", events=1, function=function
    )


CREATION, SWEEP = "oss-tables-encrypt-on-create", "oss-tables-encryption-sweep"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (CREATION, CREATION),
        (SWEEP, SWEEP),
        (f"functions/{CREATION}", CREATION),
        (f"{PLACE}functions/{CREATION}", CREATION),
        (f"{PLACE}functions/{SWEEP}", SWEEP),
        ("encryption-guard enforce", CREATION),
        ("encryption-guard sweep", SWEEP),
    ],
    ids=["name", "sweep", "path", "ARN", "ARN of the sweep", "enforce", "sweep command"],
)
def test_an_event_goes_to_the_guards_function_that_wrote_the_letter(
    told: str, expected: str
) -> None:
    """What a command wrote goes to the function that does the same work."""
    function = TARGET.of(about(told))

    assert function == FunctionArn(expected, REGION, ACCOUNT)


@pytest.mark.parametrize("told", [None, "payroll", f"{PLACE}functions/payroll"])
def test_an_undelivered_event_goes_to_the_creation_function(told: str | None) -> None:
    """EventBridge delivers events of the audit trail to this function alone."""
    assert TARGET.of(about(told, "cloud_event")) == FunctionArn(CREATION, REGION, ACCOUNT)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("payroll-delete-everything", "functions/payroll-delete-everything"),
        (f"guard${CREATION}", f"services/guard/functions/{CREATION}"),
        (
            f"{PLACE}services/guard.LATEST/functions/{CREATION}",
            f"{PLACE}services/guard.LATEST/functions/{CREATION}",
        ),
        (
            f"acs:fc:cn-shanghai:{ACCOUNT}:functions/{CREATION}",
            f"acs:fc:cn-shanghai:{ACCOUNT}:functions/{CREATION}",
        ),
        (
            f"acs:fc:{REGION}:99999:functions/{CREATION}",
            f"acs:fc:{REGION}:99999:functions/{CREATION}",
        ),
        (CREATION.upper(), f"functions/{CREATION.upper()}"),
    ],
    ids=[
        "another function",
        "our name in a service",
        "a version",
        "another region",
        "another account",
        "another casing",
    ],
)
def test_a_letter_does_not_choose_a_function(told: str, named: str) -> None:
    """Whoever may write to the queue does not choose where the operator's rights are used."""
    step = TARGET.of(about(told))

    assert step == Obstacle(
        f'the message names "{named}", which is not one of the guard\'s functions {CREATION} and'
        f" {SWEEP} in region {REGION} of account {ACCOUNT}: if it is correct, pass it with"
        " --function"
    )


@pytest.mark.parametrize(
    "told",
    [
        *(None, "", "a function", "acs:fc:cn-hangzhou::functions/f", f"{CREATION}.LATEST"),
        *(f"{PLACE}functions/{CREATION}/versions/1", f"{CREATION}:prod", "encryption-guards sweep"),
    ],
)
def test_a_letter_that_tells_no_function_is_left(told: str | None) -> None:
    """What is no name of a function does not say who wrote it."""
    step = TARGET.of(about(told))

    assert step == Obstacle("the message names no valid function: pass --function")


@pytest.mark.parametrize(
    "told", [None, "other", "acs:fc:cn-shanghai:99999:functions/other"], ids=str
)
def test_the_operator_names_the_function_for_all(told: str | None) -> None:
    """With --function it does not matter what a letter names."""
    function = Target(FunctionArn("mine"), REGION, ACCOUNT).of(about(told))

    assert function == FunctionArn("mine", REGION, ACCOUNT)


def test_the_operator_may_name_a_function_elsewhere() -> None:
    """An operator who gives an ARN means it."""
    elsewhere = FunctionArn("mine", "cn-shanghai", "99999")

    assert Target(elsewhere, REGION, ACCOUNT).of(about("other")) == elsewhere


@pytest.mark.parametrize(
    "named", [None, FunctionArn("mine")], ids=["by the letter", "by --function"]
)
@pytest.mark.parametrize("known", [(None, None), (REGION, None), (None, ACCOUNT)], ids=str)
def test_a_name_alone_does_not_tell_where(
    named: FunctionArn | None, known: tuple[str | None, str | None]
) -> None:
    """Without a queue in the cloud nobody knows the region or the account of a name."""
    step = Target(named, *known).of(about(CREATION))

    assert isinstance(step, Obstacle)
    assert step.reason.endswith("has no region or account: pass --function as an ARN")


# What speaks against it, and what is sent.


@dataclass
class Functions:
    """What was handed to which function."""

    invoked: list[tuple[str, bytes]] = field(default_factory=list)

    def invoke(self, function: FunctionArn, payload: bytes) -> str:
        self.invoked.append((str(function), payload))
        return f"FC-{len(self.invoked)}"

    def sender(self) -> Sender:
        """Who hands it there."""
        return Sender(TARGET, self.invoke)


def sent(body: bytes) -> Any:
    """What the function that a letter names gets of it."""
    functions = Functions()
    act = functions.sender().plan(waiting_of(body))
    assert isinstance(act, Action)
    assert functions.invoked == []
    assert act.description == f"would be sent to {PLACE}functions/{CREATION}"
    assert act.run() == f"accepted by {CREATION}, request FC-1"
    ((function, payload),) = functions.invoked
    assert function == f"{PLACE}functions/{CREATION}"
    return json.loads(payload)


@pytest.mark.parametrize(
    ("body", "redrives"),
    [
        (dead_letter_of(creation_of(ARN)), 1),
        (dead_letter_of(creation_of(ARN), redrives=2), 3),
        (destination_record_of(creation_of(ARN) | {"guardredrives": 4}), 5),
        (destination_record_of(creation_of(ARN)), 1),
    ],
    ids=["letter", "letter that was sent twice", "record that was sent 4 times", "record"],
)
def test_what_is_sent_is_counted(body: bytes, redrives: int) -> None:
    """The function gets the event as it was, with one redrive more than the letter tells."""
    assert sent(body) == creation_of(ARN) | {"guardredrives": redrives}


def test_all_events_of_a_letter_are_sent_together() -> None:
    """An array goes as an array, each of its events counted."""
    events = [creation_of(ARN, event_id=f"event-{n}") for n in range(2)]

    assert sent(destination_record_of(events)) == [event | {"guardredrives": 1} for event in events]


def test_what_has_no_function_of_the_guard_is_not_sent() -> None:
    """The plan says why, and that it may be another time."""
    waiting = waiting_of(dead_letter_of(creation_of(ARN), function="payroll"))

    step = Functions().sender().plan(waiting)

    assert isinstance(step, Skip)
    assert (step.state, "not one of the guard's functions" in step.reason) == ("left", True)


def test_what_is_too_large_to_be_sent_is_left() -> None:
    """An event that fits into no asynchronous invocation, packed or not, is left with advice."""
    noise = "".join(random.Random(1).choices([chr(0x4E00 + n) for n in range(20_000)], k=60_000))
    record = json.loads(destination_record_of({})) | {
        "requestPayload": creation_of(ARN) | {"noise": noise}
    }
    waiting = waiting_of(json.dumps(record, ensure_ascii=False).encode())
    assert obstacle_of(waiting.message) is None

    step = Functions().sender().plan(waiting)

    assert step == Skip(
        "the event is larger than 128 KiB, the limit of an asynchronous invocation: use --local"
    )


# Processing on the spot.

OUTCOMES: dict[str, Outcome] = {
    "encrypted": Encrypted(reason="created", arn=ARN),
    "already_encrypted": AlreadyEncrypted(reason="AES256", arn=ARN),
    "skipped": Skipped(reason="exempt: samples", arn=ARN),
    "detected": Detected(reason="would_encrypt", arn=ARN),
    "dead_lettered": DeadLettered(reason="rejected", arn=ARN),
}


def two_events() -> QueuedMessage:
    return waiting_of(
        destination_record_of([creation_of(ARN, event_id=f"event-{n}") for n in range(2)])
    )


def one_after_the_other(outcomes: Iterable[Outcome]) -> Callable[[Event], Outcome]:
    left = iter(outcomes)
    return lambda _: next(left)


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (("encrypted", "encrypted"), "encrypted (created), encrypted (created)"),
        (("already_encrypted", "skipped"), "already_encrypted (AES256), skipped (exempt: samples)"),
    ],
    ids=["encrypted", "nothing to do"],
)
def test_events_that_came_to_their_end_here_are_done(outcomes: tuple[str, ...], told: str) -> None:
    """What became of each event of the letter is told."""
    process = one_after_the_other(OUTCOMES[outcome] for outcome in outcomes)

    assert process_locally(two_events(), process=process) == told


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (("encrypted", "dead_lettered"), "encrypted (created), dead_lettered (rejected)"),
        (("dead_lettered", "encrypted"), "dead_lettered (rejected), encrypted (created)"),
        (("detected", "encrypted"), "detected (would_encrypt), encrypted (created)"),
    ],
    ids=["last refused", "first refused", "only looked at"],
)
def test_one_event_that_is_not_done_keeps_the_letter(outcomes: tuple[str, ...], told: str) -> None:
    """Every event has its turn, and the letter stays for the one that would be a letter again."""
    process = one_after_the_other(OUTCOMES[outcome] for outcome in outcomes)

    with pytest.raises(NotDone) as raised:
        process_locally(two_events(), process=process)

    assert str(raised.value) == f"{told}; the message stays in the queue"
    assert (raised.value.fault, raised.value.retryable) == ("service", False)


@pytest.mark.parametrize(
    ("arns", "told"),
    [
        ((ARN._replace(name="decoy"),), "decoy"),
        ((ARN, ARN._replace(name="decoy")), f"decoy and {ARN}"),
        ((ARN, None), f"{ARN} and no bucket"),
    ],
    ids=["another", "one more", "none"],
)
def test_what_was_done_for_another_bucket_is_not_done(
    arns: tuple[TableBucketArn | None, ...], told: str
) -> None:
    """The letter stays until the bucket that it is about was dealt with."""
    outcomes = [Encrypted(reason="created", arn=arn) for arn in arns]
    events = [creation_of(ARN, event_id=f"event-{n}") for n in range(len(arns))]
    waiting = waiting_of(destination_record_of(events))

    with pytest.raises(NotDone) as raised:
        process_locally(waiting, process=one_after_the_other(outcomes))

    assert told in str(raised.value)
    assert str(raised.value).endswith(
        f"and the message is about {ARN}; the message stays in the queue"
    )


# Acting on letters.


Plan = Callable[[QueuedMessage], Action | Skip]


def accepted(_: QueuedMessage) -> str:
    return "accepted"


def doing(act: Callable[[QueuedMessage], str]) -> Plan:
    """The plan to do this with every letter."""
    return lambda waiting: Action("would be done", partial(act, waiting))


def run(
    queue: FakeLetterQueue,
    act: Callable[[QueuedMessage], str] = accepted,
    *,
    plan: Plan | None = None,
    selection: Selection | None = None,
    apply: bool = True,
    **options: Any,
) -> list[Result]:
    """What is reported of a run that comes to its end."""
    results: list[Result] = []
    select = partial(filter, (selection or Selection()).matches)
    execute(queue, select, plan or doing(act), apply=apply, report=results.append, **options)
    return results


def states(results: list[Result]) -> dict[str, str]:
    """The state of each letter, every one of which is reported once."""
    found: dict[str, str] = {result.key: result.state for result in results}
    assert len(found) == len(results)
    return found


def test_without_apply_the_plan_is_told() -> None:
    """Nothing is done, every letter is released, and each result says what would be."""
    queue = FakeLetterQueue(letters(2))

    results = run(queue, apply=False)

    assert [(r.key, r.state, r.detail) for r in results] == [
        ("message-1", "planned", "would be done"),
        ("message-2", "planned", "would be done"),
    ]
    assert queue.log == [("released", "message-1"), ("released", "message-2")]


def test_what_is_done_is_removed() -> None:
    """An act that returns is the end of its letter, and its sentence is the result."""
    queue = FakeLetterQueue(letters(3))

    results = run(queue)

    assert states(results) == dict.fromkeys(("message-1", "message-2", "message-3"), "done")
    assert {result.detail for result in results} == {"accepted"}
    assert {result.summary.event_id for result in results} == {"event-1", "event-2", "event-3"}
    assert queue.leased == set()
    assert queue.told("released") == []


def test_a_letter_is_removed_only_after_its_act() -> None:
    """First it is made sure of, then acted on, and removed when that is done."""
    queue = FakeLetterQueue(letters(1))

    def act(waiting: QueuedMessage) -> str:
        queue.note("acted on", waiting.key)
        return "accepted"

    run(queue, act)

    assert queue.log == [
        ("kept", "message-1"),
        ("acted on", "message-1"),
        ("removed", "message-1"),
    ]


@pytest.mark.parametrize(
    "error",
    [Unavailable("no answer"), ConfigurationError("no credentials"), NotDone("refused")],
    ids=lambda error: type(error).__name__,
)
def test_what_fails_stays(error: Exception) -> None:
    """A letter whose act raises a fault is released, and the others are acted on."""
    queue = FakeLetterQueue(letters(3))

    def act(waiting: QueuedMessage) -> str:
        if waiting.key == "message-2":
            raise error
        return "accepted"

    results = run(queue, act)

    assert states(results) == {"message-1": "done", "message-2": "failed", "message-3": "done"}
    assert {r.detail for r in results if r.state == "failed"} == {str(error)}
    assert queue.told("released") == ["message-2"]


def test_what_is_left_is_told_and_stays() -> None:
    """A letter that the plan leaves alone is reported with the reason, and released."""
    queue = FakeLetterQueue(letters(2))

    results = run(
        queue, plan=lambda w: Skip("not now") if w.key == "message-1" else doing(accepted)(w)
    )

    assert states(results) == {"message-1": "left", "message-2": "done"}
    assert [r.detail for r in results if r.state == "left"] == ["not now"]
    assert queue.told("released") == ["message-1"]


def test_what_is_not_selected_is_not_told() -> None:
    """Other letters are neither planned for nor reported, and are released."""
    others = [waiting_of(b"hello", key="message-1"), letter(2), waiting_of(b"", key="message-3")]
    queue = FakeLetterQueue(others)
    planned: list[str] = []

    def plan(waiting: QueuedMessage) -> Action | Skip:
        planned.append(waiting.key)
        return doing(accepted)(waiting)

    results = run(queue, plan=plan, selection=Selection(reason="rejected"))

    assert states(results) == {"message-2": "done"}
    assert planned == ["message-2"]
    assert queue.told("released") == ["message-1", "message-3"]


def test_a_letter_of_somebody_else_is_not_acted_on() -> None:
    """When it cannot be made sure of, another command has it: doing it twice helps nobody."""
    queue = FakeLetterQueue(letters(2), taken=frozenset({"message-1"}))
    acted: list[str] = []

    def act(waiting: QueuedMessage) -> str:
        acted.append(waiting.key)
        return "accepted"

    results = run(queue, act)

    assert states(results) == {"message-1": "left", "message-2": "done"}
    assert "the lease could not be renewed: another command may hold the message" in {
        result.detail for result in results
    }
    assert acted == ["message-2"]


@pytest.mark.parametrize(
    ("queue", "why"),
    [
        (FakeLetterQueue(letters(1), late=frozenset({"message-1"})), "the lease was lost"),
        (FakeLetterQueue(letters(1), silent=frozenset({"message-1"})), "The queue gave no answer."),
    ],
    ids=["lease over", "no answer"],
)
def test_what_was_done_but_not_removed_is_told_as_that(queue: FakeLetterQueue, why: str) -> None:
    """The operator learns that it was done, and that it is still in the queue."""
    (result,) = run(queue)

    assert result.state == "done_not_removed"
    assert result.detail == f"accepted, but the message may still be in the queue: {why}"
    assert queue.told("released") == ["message-1"]


def test_a_queue_that_fails_while_it_is_made_sure_of_leaves_the_letter() -> None:
    """Without an answer about the lease nothing is done."""

    class Silent(FakeLetterQueue):
        def keep(self, key: str) -> bool:
            raise Unavailable(f"No answer about {key}.")

    queue = Silent(letters(1))

    (result,) = run(queue)

    assert (result.state, result.detail) == ("failed", "No answer about message-1.")
    assert queue.told("released") == ["message-1"]


# Letters that come back.


def test_a_letter_that_comes_back_is_not_sent_again() -> None:
    """What fails at once is in the queue again before the run is over; once is enough."""
    sent = threading.Event()

    def with_the_one_that_returns() -> Iterator[QueuedMessage]:
        yield letter()
        assert sent.wait(FOREVER)
        yield letter(redrives=1, key="returned")
        yield letter(2)

    def invoke(_: FunctionArn, payload: bytes) -> str:
        if b"event-1" in payload:
            sent.set()
        return "FC-1"

    queue = FakeLetterQueue(with_the_one_that_returns())

    results = run(queue, plan=Sender(TARGET, invoke).plan)

    assert states(results) == {"message-1": "done", "returned": "returned", "message-2": "done"}
    (returned,) = (result for result in results if result.state == "returned")
    assert returned.detail == "the event failed again: OSS Tables answered 403."
    assert queue.told("released") == ["returned"]


@pytest.mark.parametrize("redrives", [0, 2])
def test_a_second_copy_that_was_there_from_the_start_is_sent(redrives: int) -> None:
    """Two letters of one event, sent equally often, are two: the bus delivers twice at times."""
    queue = FakeLetterQueue(
        [letter(redrives=redrives, key="first"), letter(redrives=redrives, key="second")]
    )

    results = run(queue, plan=Functions().sender().plan)

    assert states(results) == {"first": "done", "second": "done"}


def test_one_event_of_several_that_came_back_is_enough() -> None:
    """An array is not sent again when one of its events has failed again."""
    again = creation_of(ARN, event_id="event-1") | {"guardredrives": 1}
    both = destination_record_of([creation_of(ARN, event_id="event-2"), again])
    queue = FakeLetterQueue([letter(), waiting_of(both, key="array")])

    results = run(queue, plan=Functions().sender().plan)

    assert states(results) == {"message-1": "done", "array": "returned"}


def test_a_plan_tells_what_would_come_back() -> None:
    """A letter and the one that its redrive left are one event: it would be sent once."""
    queue = FakeLetterQueue([letter(key="first"), letter(redrives=1, key="second")])

    results = run(queue, plan=Functions().sender().plan, apply=False)

    assert states(results) == {"first": "planned", "second": "returned"}


def test_only_what_is_sent_can_come_back() -> None:
    """What is processed here or discarded writes no letter: a second one was there before."""
    queue = FakeLetterQueue([letter(key="first"), letter(redrives=1, key="second")])

    results = run(queue)

    assert states(results) == {"first": "done", "second": "done"}


# Several at a time.


def test_several_are_acted_on_at_a_time() -> None:
    """As many acts as there are workers are under way together."""
    together = threading.Barrier(WORKERS)
    threads: set[int] = set()

    def act(_: QueuedMessage) -> str:
        together.wait(FOREVER)
        threads.add(threading.get_ident())
        return "accepted"

    results = run(FakeLetterQueue(letters(WORKERS)), act)

    assert set(states(results).values()) == {"done"}
    assert len(threads) == WORKERS


def test_many_letters_are_not_read_all_at_once() -> None:
    """Of 500 letters never more than twice as many as workers are in memory, and all are done."""
    workers = 3
    queue = FakeLetterQueue(letter(n) for n in range(500))

    results = run(queue, workers=workers)

    assert set(states(results).values()) == {"done"}
    assert len(results) == 500
    assert queue.most_leased <= 2 * workers


def test_a_plan_holds_no_more_than_one_letter() -> None:
    """What is only planned is told at once, before the next letter is read."""
    told: list[str] = []

    def in_turn() -> Iterator[QueuedMessage]:
        for number in range(1, 4):
            assert len(told) == number - 1
            yield letter(number)

    execute(
        FakeLetterQueue(in_turn()),
        every,
        doing(accepted),
        apply=False,
        report=lambda result: told.append(result.key),
    )

    assert told == ["message-1", "message-2", "message-3"]


def test_results_are_told_while_others_are_under_way() -> None:
    """An operator sees what is done before all is done."""
    told = threading.Event()

    def act(waiting: QueuedMessage) -> str:
        if waiting.key == "message-2":
            assert told.wait(FOREVER)
        return "accepted"

    queue = FakeLetterQueue(letters(3))
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        told.set()

    execute(queue, every, doing(act), apply=True, report=report, workers=1)

    assert set(states(results).values()) == {"done"}


# Stopping, and what goes wrong.


def test_stopping_before_the_first_letter_does_nothing() -> None:
    """Whoever asks in time finds everything as it was."""
    queue = FakeLetterQueue(letters(3))

    results = run(queue, stopping=lambda: True)

    assert results == []
    assert queue.told("kept") == []
    assert queue.leased == set()


def test_what_is_under_way_comes_to_its_end() -> None:
    """After the request to stop every act that was begun is finished, removed and reported."""
    workers = 4
    asked = threading.Event()
    together = threading.Barrier(workers, asked.set)
    begun: list[str] = []

    def act(waiting: QueuedMessage) -> str:
        begun.append(waiting.key)
        together.wait(FOREVER)
        return "accepted"

    queue = FakeLetterQueue(letters(100))

    results = run(queue, act, stopping=asked.is_set, workers=workers)

    assert states(results) == dict.fromkeys(begun, "done")
    assert sorted(queue.told("removed")) == sorted(begun)
    assert queue.leased == set()


@pytest.mark.parametrize("number", [3, 100], ids=["all are read", "there are more"])
def test_nothing_is_begun_after_the_request_to_stop(number: int) -> None:
    """Letters that wait for a worker when the request comes are released as they are."""
    asked = threading.Event()
    looked = threading.Semaphore(0)
    together = threading.Barrier(2, asked.set)
    begun: list[str] = []

    def stopping() -> bool:
        if threading.current_thread() is threading.main_thread():
            looked.release()
        return asked.is_set()

    def act(waiting: QueuedMessage) -> str:
        begun.append(waiting.key)
        if not asked.is_set():
            # Before each of the three letters.
            acts = int(waiting.key.removeprefix("message-"))
            assert all(looked.acquire(timeout=FOREVER) for _ in range(acts))
            together.wait(FOREVER)
        return "accepted"

    queue = FakeLetterQueue(letters(number))

    results = run(queue, act, stopping=stopping, workers=2)

    assert sorted(begun) == ["message-1", "message-2"]
    assert states(results) == {"message-1": "done", "message-2": "done"}
    assert sorted(queue.told("removed")) == sorted(begun)
    assert queue.leased == set()


def test_a_bug_comes_out_and_hides_nothing() -> None:
    """Each letter that was acted on is reported once, whatever became of the others."""
    together = threading.Barrier(8)

    def act(waiting: QueuedMessage) -> str:
        together.wait(FOREVER)
        if waiting.key == "message-4":
            raise ValueError("a bug")
        return "accepted"

    queue = FakeLetterQueue(letters(8))
    results: list[Result] = []

    with pytest.raises(ValueError, match="a bug"):
        execute(queue, every, doing(act), apply=True, report=results.append, workers=8)

    assert sorted(states(results)) == sorted(queue.told("removed"))
    assert queue.told("released") == ["message-4"]


def failing(part: str) -> Callable[[str, QueuedMessage], None]:
    """What fails where this part of a run comes to the third letter."""

    def fail(where: str, waiting: QueuedMessage) -> None:
        if where == part and waiting.key == "message-3":
            raise ValueError("a bug")

    return fail


@pytest.mark.parametrize("part", ["queue", "plan", "act", "report"])
def test_what_fails_ends_the_run(part: str) -> None:
    """Nothing further is begun, what was begun is reported once, and all the rest is released."""
    fail, told = failing(part), list[str]()

    def read() -> Iterator[QueuedMessage]:
        for waiting in letters(500):
            fail("queue", waiting)
            yield waiting

    def plan(waiting: QueuedMessage) -> Action | Skip:
        fail("plan", waiting)
        return doing(act)(waiting)

    def act(waiting: QueuedMessage) -> str:
        fail("act", waiting)
        return "accepted"

    def report(result: Result) -> None:
        told.append(result.key)
        fail("report", letter(key=result.key))

    queue = FakeLetterQueue(read())

    with pytest.raises(ValueError, match="a bug"):
        execute(queue, every, plan, apply=True, report=report, workers=2)

    assert sorted(told) == sorted(queue.told("removed"))
    assert len(told) == len(set(told)) < 500
    assert queue.leased == set()
