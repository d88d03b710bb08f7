"""The main flow: from what Function Compute hands over to an outcome for every event in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from encryption_guard.arn import TableBucketArn
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement.policy import (
    CAUSES,
    WANTED,
    Cause,
    Decision,
    Deny,
    Encrypt,
    FoundBucket,
    Skip,
    choice_of,
    decide,
)
from encryption_guard.errors import (
    ForeignAccount,
    ForeignRegion,
    InvalidEvent,
    PermanentError,
    Refused,
    Unavailable,
)
from encryption_guard.events import NamedBucket
from encryption_guard.events.envelopes import Event, missed_event, open_payload
from encryption_guard.invocation import Invocation
from encryption_guard.services.oss_tables import VISIBILITY_PAUSES, OssTables, Reading
from encryption_guard.untrusted import shortened
from encryption_guard.version import __version__

if TYPE_CHECKING:
    from encryption_guard.dead_letters.document import DeadLetter

# No event is begun with less than this left: a dead letter has to fit in.
MIN_EVENT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one event ended; `outcome` is the kind, as it is logged and returned."""

    outcome: ClassVar[str]
    reason: str
    arn: TableBucketArn | None = None
    event_id: str | None = None
    time_to_encrypt_ms: int | None = None
    named_by: str | None = None
    disagrees: str | None = None
    oss_request_id: str | None = None
    status: int | None = None
    code: str | None = None
    # Of what was skipped: the last day on which an exemption counts.
    exempt_until: date | None = None
    # Of what was encrypted: until when it was open.
    open_until: datetime | None = None

    def as_dict(self) -> dict[str, str | int | None]:
        """The outcome in the form that is logged and returned."""
        line = {name: getattr(self, name) for name in LOGGED_FIELDS}
        line["arn"] = str(self.arn) if self.arn else None
        return {"outcome": self.outcome, **line, "version": __version__}


NOT_LOGGED: Final = {"exempt_until", "open_until"}
LOGGED_FIELDS: Final = tuple(
    field.name for field in fields(Outcome) if field.name not in NOT_LOGGED
)


class Encrypted(Outcome):
    """The service confirmed the encryption that was asked for."""

    __slots__ = ()
    outcome = "encrypted"


class AlreadyEncrypted(Outcome):
    """AES256 was there before."""

    __slots__ = ()
    outcome = "already_encrypted"


class KeptStronger(Outcome):
    """The owner chose something stronger than AES256, and keeps it."""

    __slots__ = ()
    outcome = "kept_stronger"


class KeptUnknown(KeptStronger):
    """The owner chose what this guard does not know, and keeps it; somebody has to look at it."""

    __slots__ = ()


class Skipped(Outcome):
    """Nothing was to be done."""

    __slots__ = ()
    outcome = "skipped"


class Detected(Outcome):
    """Mode `detect`: this bucket would have been encrypted."""

    __slots__ = ()
    outcome = "detected"


class DeadLettered(Outcome):
    """Nothing that a retry could change; the event is kept for an operator."""

    __slots__ = ()
    outcome = "dead_lettered"


class Processed(NamedTuple):
    """What became of one invocation's payload; failures are for the platform to retry."""

    outcomes: tuple[Outcome, ...]
    failures: tuple[Exception, ...]
    is_array: bool

    def raise_failures(self) -> None:
        """Raise if any event is unfinished: the one exception, or one that counts them."""
        if not self.failures:
            return
        if len(self.failures) == 1:
            raise self.failures[0]
        total = len(self.failures) + len(self.outcomes)
        raise Unavailable(
            f"{len(self.failures)} of {total} events are unfinished; the first: {self.failures[0]}"
        ) from self.failures[0]


def process_payload(
    payload: object,
    *,
    invocation: Invocation,
    tables: OssTables,
    dead_letters: DeadLetters,
    report: Callable[[Outcome | Exception], None],
) -> Processed:
    """Process every event handed in, each on its own, and report each result at once.

    Events whose turn the time does not allow are unavailable, and reported together.
    """
    opened = open_payload(payload)
    results: list[Outcome | Exception] = []
    for number, event in enumerate(opened.events):
        if invocation.budget.remaining() < MIN_EVENT_SECONDS:
            left = len(opened.events) - number
            late = Unavailable(f"The invocation's time was over before the turn of {left} events.")
            report(late)
            results += [late] * left
            break
        result: Outcome | Exception
        try:
            result = process_event(
                event, invocation=invocation, tables=tables, dead_letters=dead_letters
            )
        # Whatever one event ran into, bugs included, must not cost the others their turn: it is
        # raised by the door when they are done.
        except Exception as error:
            result = error
        report(result)
        results.append(result)
    return Processed(
        tuple(result for result in results if isinstance(result, Outcome)),
        tuple(result for result in results if isinstance(result, Exception)),
        opened.is_array,
    )


def process_event(
    event: Event,
    *,
    invocation: Invocation,
    tables: OssTables,
    dead_letters: DeadLetters,
) -> Outcome:
    """Decide, act, and keep as a dead letter what no retry can help.

    Raises Unavailable when the event has to come again.
    """
    bucket: NamedBucket | None = None
    try:
        if isinstance(event.parsed, InvalidEvent):
            raise event.parsed
        today = invocation.clock.now().date()
        decision = decide(event.parsed, invocation.settings, today=today)
        bucket = decision.bucket
        outcome = _act(decision, since=event.parsed.time, invocation=invocation, tables=tables)
    except PermanentError as error:
        arn = bucket.arn if bucket else None
        outcome = _dead_lettered(dead_letters.write(error, event=event, arn=arn))
    return replace(
        outcome,
        event_id=shortened(event.event_id) if event.event_id else None,
        arn=bucket.arn if bucket else None,
        named_by=bucket.named_by if bucket else None,
        disagrees=bucket.disagrees if bucket else None,
    )


def process_bucket(
    found: FoundBucket,
    *,
    invocation: Invocation,
    tables: OssTables,
    dead_letters: DeadLetters,
) -> Outcome:
    """The same for a bucket that no event named: only its dead letter needs one.

    Raises Unavailable when the bucket has to be found again.
    """
    try:
        decision = decide(found, invocation.settings, today=invocation.clock.now().date())
        outcome = _act(decision, since=found.created_at, invocation=invocation, tables=tables)
    except PermanentError as error:
        name = next(name for name, cause in CAUSES.items() if cause == found.cause)
        event = missed_event(found.arn, name=name, time=found.created_at)
        letter = dead_letters.write(error, event=event, arn=found.arn)
        outcome = _dead_lettered(letter)
    return replace(outcome, arn=found.arn)


def _dead_lettered(letter: DeadLetter) -> Outcome:
    return DeadLettered(
        reason=letter.reason,
        status=letter.status,
        code=letter.code,
        oss_request_id=letter.oss_request_id,
    )


def _act(
    decision: Decision, *, since: datetime | None, invocation: Invocation, tables: OssTables
) -> Outcome:
    match decision:
        case Encrypt(bucket, cause):
            return ensure_encrypted(
                bucket.arn, cause=cause, since=since, invocation=invocation, tables=tables
            )
        case Skip(reason, exemption=exemption):
            return Skipped(reason=reason, exempt_until=exemption.expires if exemption else None)
        case Deny(bucket, "account"):
            raise ForeignAccount(
                f"The bucket {bucket.arn} belongs to an account that is not the guard's own, or not"
                " the one that forwarded the event; if the guard is to encrypt it, add the account"
                " to GUARD_ALLOWED_ACCOUNTS."
            )
        case _:
            raise ForeignRegion(
                f"The bucket {decision.bucket.arn} is in another region than this function: deploy"
                " the guard there, or let the sweep look after it with GUARD_SWEEP_REGIONS."
            )


def ensure_encrypted(
    arn: TableBucketArn,
    *,
    cause: Cause,
    since: datetime | None,
    invocation: Invocation,
    tables: OssTables,
) -> Outcome:
    """Encrypt the bucket unless it clearly is; when in doubt, encrypt.

    Raises Refused and Unavailable as OssTables.put_encryption does.
    """
    current = tables.current_encryption(arn)
    if current:
        return _kept(current)
    if invocation.settings.mode == "detect":
        return Detected(reason="would_encrypt")
    try:
        # Only what was just created may not be visible yet.
        pauses = VISIBILITY_PAUSES if cause == "created" else ()
        found = tables.put_encryption(arn, WANTED, pauses)
    except Refused as refused:
        # Whoever takes a bucket down may take its encryption off first.
        if cause == "drift" and refused.reason == "not_found":
            return Skipped(
                reason="gone", status=refused.status, oss_request_id=refused.oss_request_id
            )
        raise
    if choice_of(found) != "wanted":
        return _kept(found)
    now = tables.now()
    return Encrypted(
        reason=cause,
        time_to_encrypt_ms=_milliseconds_between(since, now) if since else None,
        open_until=tables.latest(),
        status=found.status,
        oss_request_id=found.oss_request_id,
    )


def _kept(reading: Reading) -> Outcome:
    return kept(reading)(
        reason=reading.algorithm or "",
        status=reading.status,
        oss_request_id=reading.oss_request_id,
    )


def kept(reading: Reading) -> type[Outcome]:
    """What it is called when a bucket keeps the encryption that it has."""
    match choice_of(reading):
        case "wanted":
            return AlreadyEncrypted
        case "stronger":
            return KeptStronger
        case _:
            return KeptUnknown


def _milliseconds_between(since: datetime, now: datetime) -> int:
    # The audit trail's clock is not ours: a bucket encrypted "before" its event took no time.
    return max(0, round((now - since).total_seconds() * 1000))
