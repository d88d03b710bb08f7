"""The main flow: from the payload of Function Compute to one outcome for each event in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from encryption_guard.arn import TableBucketArn
from encryption_guard.dead_letters import DeadLetters, Written
from encryption_guard.enforcement.policy import (
    CAUSES,
    WANTED,
    AskDirectory,
    Cause,
    Decision,
    Deny,
    Encrypt,
    FoundBucket,
    FoundBy,
    Skip,
    choice_of,
    decide,
    is_swept,
    own_accounts,
)
from encryption_guard.errors import (
    ForeignAccount,
    ForeignRegion,
    InvalidEvent,
    NotPrepared,
    PermanentError,
    Refused,
    Unavailable,
)
from encryption_guard.events import BucketEvent, NamedBucket, caller
from encryption_guard.events.envelopes import Event, missed_event, open_payload
from encryption_guard.invocation import Invocation
from encryption_guard.services.oss_tables import VISIBILITY_PAUSES, OssTables, Reading
from encryption_guard.settings import Settings
from encryption_guard.untrusted import shortened
from encryption_guard.version import __version__

if TYPE_CHECKING:
    from encryption_guard.enforcement.members import Members

# No event starts with less time than this, because a dead letter may have to be written.
MIN_EVENT_SECONDS = 0.5
# A bucket that stays unencrypted for longer than this may already have tables.
LATE_AFTER_MS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one event; `outcome` names its kind in the log and in the returned JSON."""

    outcome: ClassVar[str]
    reason: str
    arn: TableBucketArn | None = None
    event_id: str | None = None
    time_to_encrypt_ms: int | None = None
    named_by: str | None = None
    found_by: FoundBy = "event"
    # If the encryption was removed: who did it, as the event says.
    by: str | None = None
    disagrees: str | None = None
    oss_request_id: str | None = None
    status: int | None = None
    code: str | None = None
    # If an exemption skipped the bucket: the last day of the exemption.
    exempt_until: date | None = None
    # If the guard protects the bucket: why it has to be encrypted.
    cause: Cause | None = None
    # The bucket was not encrypted from its creation, or from this time, to the other.
    unencrypted_since: datetime | None = None
    unencrypted_until: datetime | None = None
    # If the event is dead-lettered: whether an equal dead letter waited in the queue already.
    was_waiting: bool = False
    # If an operator has to act although nothing is dead-lettered: what to do.
    advice: str | None = None

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the fields of the log line and of the returned JSON."""
        line = {name: getattr(self, name) for name in LOGGED_FIELDS}
        line["arn"] = str(self.arn) if self.arn else None
        return {"outcome": self.outcome, **line, "version": __version__}


NOT_LOGGED: Final = {
    *("exempt_until", "cause", "unencrypted_since", "unencrypted_until", "was_waiting"),
    "advice",
}
LOGGED_FIELDS: Final = tuple(
    field.name for field in fields(Outcome) if field.name not in NOT_LOGGED
)


class Encrypted(Outcome):
    """A bucket that the guard encrypted; the service confirmed it."""

    __slots__ = ()
    outcome = "encrypted"


class AlreadyEncrypted(Outcome):
    """A bucket that already had AES256."""

    __slots__ = ()
    outcome = "already_encrypted"


class KeptStronger(Outcome):
    """A bucket whose owner chose stronger encryption than AES256; the guard keeps it."""

    __slots__ = ()
    outcome = "kept_stronger"


class KeptUnknown(KeptStronger):
    """A bucket whose encryption the guard does not know and keeps; an operator must check it."""

    __slots__ = ()


class Skipped(Outcome):
    """An event that needs no action."""

    __slots__ = ()
    outcome = "skipped"


class Detected(Outcome):
    """A bucket that the guard would encrypt, found in the mode `detect`."""

    __slots__ = ()
    outcome = "detected"


class DeadLettered(Outcome):
    """An event that no retry can fix; a dead letter keeps it for an operator."""

    __slots__ = ()
    outcome = "dead_lettered"


def open_members(settings: Settings) -> Members:
    """Return the other accounts in which the guard acts."""
    # Most events are of the guard's own account, and their buckets must not wait for this import.
    from encryption_guard.enforcement.members import Members

    return Members(settings)


def keep_members() -> Callable[[Settings], Members]:
    """Return an `open_members` that opens them once, for all threads of a process."""
    opened, lock = functools.cache(open_members), Lock()

    def members(settings: Settings) -> Members:
        # The cache alone would open them for each thread that comes before the first has ended.
        with lock:
            return opened(settings)

    return members


class Processed(NamedTuple):
    """The results of one payload; the platform retries if there are failures."""

    outcomes: tuple[Outcome, ...]
    failures: tuple[Exception, ...]
    is_array: bool

    def raise_failures(self) -> None:
        """Raise if an event is unfinished: its own exception, or one that counts several."""
        if not self.failures:
            return
        if len(self.failures) == 1:
            raise self.failures[0]
        total = len(self.failures) + len(self.outcomes)
        raise Unavailable(
            f"{len(self.failures)} of {total} events are unfinished; the first error:"
            f" {self.failures[0]}"
        ) from self.failures[0]


def process_payload(
    payload: object,
    *,
    invocation: Invocation,
    tables: OssTables,
    dead_letters: DeadLetters,
    report: Callable[[Outcome | Exception], None],
    members: Callable[[Settings], Members] = open_members,
) -> Processed:
    """Process each event of a payload on its own, and report each result at once.

    If the time runs out, the remaining events share one Unavailable, which is reported once.
    """
    opened = open_payload(payload)
    results: list[Outcome | Exception] = []
    for number, event in enumerate(opened.events):
        if invocation.budget.remaining() < MIN_EVENT_SECONDS:
            unprocessed = len(opened.events) - number
            out_of_time = Unavailable(
                f"The time of the invocation ended before {unprocessed} events were processed."
            )
            report(out_of_time)
            results += [out_of_time] * unprocessed
            break
        result: Outcome | Exception
        try:
            result = process_event(
                event,
                invocation=invocation,
                tables=tables,
                dead_letters=dead_letters,
                members=members,
            )
        # An error of one event, even a bug, must not stop the others. The handler raises it later.
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
    members: Callable[[Settings], Members] = open_members,
) -> Outcome:
    """Decide about an event and act; write a dead letter if no retry can help.

    `tables` is the client for the guard's own accounts; `members` opens the other ones. Raises
    Unavailable if the platform has to deliver the event again.
    """
    bucket: NamedBucket | None = None
    cause: Cause | None = None
    try:
        if isinstance(event.parsed, InvalidEvent):
            raise event.parsed
        decision = _decide(event.parsed, invocation.settings, invocation, members)
        bucket, cause = decision.bucket, _cause(decision)
        tables = _tables_for(decision, tables, invocation, members)
        outcome = _act(decision, since=event.parsed.time, invocation=invocation, tables=tables)
    except PermanentError as error:
        arn = bucket.arn if bucket else None
        outcome = _left_to_sweep(error, arn, invocation.settings) or _dead_lettered(
            dead_letters.write(error, event=event, arn=arn)
        )
    outcome = replace(
        outcome,
        event_id=shortened(event.event_id) if event.event_id else None,
        arn=bucket.arn if bucket else None,
        named_by=bucket.named_by if bucket else None,
        disagrees=bucket.disagrees if bucket else None,
        cause=cause,
    )
    return _with_removal(outcome, event.parsed, seen_at=tables.latest())


def process_bucket(
    found: FoundBucket,
    *,
    invocation: Invocation,
    tables: OssTables,
    dead_letters: DeadLetters,
) -> Outcome:
    """Decide about a bucket that no event named, and act; write a dead letter if no retry can help.

    The dead letter contains the event that should have named the bucket. Raises Unavailable if the
    caller has to try the bucket again, and NotPrepared if its account cannot be entered any more.
    """
    try:
        decision = decide(found, invocation.settings, today=invocation.clock.now().date())
        outcome = _act(decision, since=found.created_at, invocation=invocation, tables=tables)
    except NotPrepared:
        # It concerns the account, not this bucket.
        raise
    except PermanentError as error:
        name = next(name for name, cause in CAUSES.items() if cause == found.cause)
        event = missed_event(found.arn, name=name, time=found.created_at)
        outcome = _dead_lettered(dead_letters.write(error, event=event, arn=found.arn))
    return replace(outcome, arn=found.arn, cause=found.cause, found_by=found.found_by)


def _decide(
    event: BucketEvent,
    settings: Settings,
    invocation: Invocation,
    members: Callable[[Settings], Members],
) -> Decision:
    decision = decide(event, settings, today=invocation.clock.now().date())
    if not isinstance(decision, AskDirectory):
        return decision
    account_id = decision.bucket.arn.account_id
    listed = members(invocation.settings).list_with(account_id, invocation)
    return _decide(event, settings._replace(accounts=listed), invocation, members)


def _tables_for(
    decision: Decision,
    tables: OssTables,
    invocation: Invocation,
    members: Callable[[Settings], Members],
) -> OssTables:
    """Return the client for the bucket's account, which the decision allows."""
    settings = invocation.settings
    if not isinstance(decision, Encrypt):
        return tables
    account_id = decision.bucket.arn.account_id
    if account_id in own_accounts(settings):
        return tables
    return OssTables(members(settings).enter(account_id, invocation))


def _left_to_sweep(
    error: PermanentError, arn: TableBucketArn | None, settings: Settings
) -> Outcome | None:
    """Return the outcome of a bucket whose account is not prepared, if the sweep will find it.

    The sweep reports the account as one problem, and encrypts its buckets as soon as it can enter
    it. A dead letter for each bucket would say the same, and would still wait after that.
    """
    if not isinstance(error, NotPrepared) or not arn or not is_swept(arn.region, settings):
        return None
    return Skipped(reason="not_prepared", status=error.status, code=error.code, advice=str(error))


def _cause(decision: Decision) -> Cause | None:
    return decision.cause if isinstance(decision, Encrypt) else None


def _with_removal(
    outcome: Outcome, event: BucketEvent | InvalidEvent, *, seen_at: datetime
) -> Outcome:
    """Add who removed the encryption of the bucket, and when, if the event reports a removal."""
    if isinstance(event, InvalidEvent) or event.failed or CAUSES.get(event.name) != "drift":
        return outcome
    return replace(
        outcome,
        by=caller(event),
        unencrypted_since=event.time,
        unencrypted_until=outcome.unencrypted_until or seen_at,
    )


def _dead_lettered(written: Written) -> Outcome:
    dead_letter = written.dead_letter
    return DeadLettered(
        reason=dead_letter.reason,
        status=dead_letter.status,
        code=dead_letter.code,
        oss_request_id=dead_letter.oss_request_id,
        was_waiting=written.was_waiting,
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
                f"The bucket {bucket.arn} is in an account that is not the guard's own, or not the"
                " one that forwarded the event; if the guard should encrypt the bucket, add the"
                " account to GUARD_ACCOUNTS, or to GUARD_ALLOWED_ACCOUNTS."
            )
        case _:
            raise ForeignRegion(
                f"The bucket {decision.bucket.arn} is in another region than this function; deploy"
                " the guard in that region, or add the region to GUARD_SWEEP_REGIONS."
            )


def ensure_encrypted(
    arn: TableBucketArn,
    *,
    cause: Cause,
    since: datetime | None,
    invocation: Invocation,
    tables: OssTables,
) -> Outcome:
    """Encrypt a bucket unless it clearly has an encryption; in doubt, encrypt it.

    Raises Refused and Unavailable as OssTables.put_encryption does.
    """
    current = tables.current_encryption(arn)
    if current:
        return _kept(current)
    if invocation.settings.mode == "detect":
        return Detected(reason="would_encrypt")
    try:
        # A new bucket may not be visible yet.
        pauses = VISIBILITY_PAUSES if cause == "created" else ()
        found = tables.put_encryption(arn, WANTED, pauses)
    except Refused as refused:
        # A client may remove the encryption of a bucket before it deletes the bucket.
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
        unencrypted_until=tables.latest(),
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
    """Return the kind of outcome for a bucket that keeps its encryption."""
    match choice_of(reading):
        case "wanted":
            return AlreadyEncrypted
        case "stronger":
            return KeptStronger
        case _:
            return KeptUnknown


def needs_table_audit(outcome: Outcome) -> bool:
    """Return whether the bucket may have got tables while it was not encrypted.

    That is so after its encryption was removed, whatever happened then, or if it came late. If the
    guard could not encrypt the bucket, a later attempt needs the audit.
    """
    match outcome:
        case Skipped() | DeadLettered():
            return False
        case Outcome(cause="drift") | Encrypted(time_to_encrypt_ms=None):
            return True
        case _:
            return (outcome.time_to_encrypt_ms or 0) > LATE_AFTER_MS


def _milliseconds_between(since: datetime, now: datetime) -> int:
    # The audit trail has another clock, so an event may seem to be later than the encryption.
    return max(0, round((now - since).total_seconds() * 1000))
