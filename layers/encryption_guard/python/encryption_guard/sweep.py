"""Every table bucket of some regions: listed, read, planned (pure), and encrypted where it is not.

region ─▶ list ─▶ bucket ─▶ read ─▶ plan ─▶ left as it is, with the reason
            │                        └────▶ missed: the event that nobody told goes the way of
            ▼                               every event (process_event) ─▶ read back
        next page                                   │
                                                    ▼ where asked for, when all buckets are done
                                      namespaces ─▶ tables ─▶ read

One bucket's trouble is its own finding, and one region's its own; neither stops the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import TypeGuard

from encryption_guard.arn import TableBucketArn
from encryption_guard.config import Settings
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import (
    SHORTEST_TURN_SECONDS,
    DeadLettered,
    Encrypted,
    Outcome,
    Skipped,
    as_it_is,
    process_event,
)
from encryption_guard.errors import (
    InvalidEvent,
    LetterNotWritten,
    Refused,
    Throttled,
    Unavailable,
)
from encryption_guard.findings import (
    FAILED,
    NOT_REACHED,
    UNPROTECTED,
    WHAT_ITS_OWNER_HAS_TO_DO,
    Finding,
)
from encryption_guard.inventory import (
    GONE,
    REGIONS,
    ListedBucket,
    ListedTable,
    Listing,
    Reading,
    bucket_list,
    namespace_list,
    read_bucket,
    read_namespace,
    read_table,
    sentence,
    table_list,
)
from encryption_guard.oss_tables import OssTables
from encryption_guard.payloads import Delivery, open_payload
from encryption_guard.policy import CAUSES, Cause, leave_alone
from encryption_guard.transport import Invocation, Pace, TimeBudget
from encryption_guard.turns import Job, Turns, take_turns

# Jobs under way at a time; the pool of connections holds ten.
WORKERS = 8
# One job, its retries and pauses included; every request has its share of it.
TURN_SECONDS = 30.0
# A job that the service asks to come later, for longer than that, comes so often.
MOST_TURNS = 3
# As long as an event may be on its way to the creation function (maxAsyncEventAgeInSeconds of
# template.yaml): an older bucket without encryption has lost it, or never had a guard.
EVENT_LASTS = timedelta(days=1)
# Nobody waits for a region that asks for more.
LONGEST_WAIT_SECONDS = 300.0
# A GET may not show at once what a PUT has done.
READ_BACK_PAUSES = (0.0, 0.5, 1.0, 2.0)

# Buckets before tables, and each time what was not reached before.
BUCKETS_LEFT, BUCKETS, TABLES_LEFT, TABLES = range(4)


@dataclass(frozen=True, slots=True)
class ReadPage:
    """Read a page of the buckets of a region, the namespaces of a bucket, or their tables."""

    listing: Listing
    region: str
    bucket: TableBucketArn | None = None
    namespace: str | None = None

    @property
    def is_first(self) -> bool:
        """Whether the list begins with it."""
        return not self.listing.seen


@dataclass(frozen=True, slots=True)
class Visit:
    """Read a bucket's encryption, and encrypt it if need be."""

    bucket: ListedBucket


@dataclass(frozen=True, slots=True)
class LookAt:
    """Read a table's encryption."""

    table: ListedTable


Step = ReadPage | Visit | LookAt
Found = Iterator["Finding | Job[Step]"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a job: the service as it sees it, its time, and whether it is the last one."""

    service: OssTables
    budget: TimeBudget
    is_last: bool


@dataclass(slots=True)
class Memory:
    """What one instance still knows of its last sweep; a new one does without."""

    # With their creation: another bucket may get the name of one that was deleted.
    encrypted: set[tuple[str, datetime | None]] = field(default_factory=set)
    left: list[Step] = field(default_factory=list)
    # Which letters were written, and when.
    letters: dict[tuple[str | None, str], datetime] = field(default_factory=dict)

    def keep(self, finding: Finding) -> None:
        """Take note of a bucket that was found encrypted."""
        if finding.kind == "bucket" and finding.arn and finding.state == "encrypted":
            self.encrypted.add((finding.arn, finding.created_at))


def plan(
    bucket: ListedBucket, reading: Reading, settings: Settings, *, now: datetime, apply: bool
) -> Finding | None:
    """What is found where nothing is to be done about a bucket; None where it is to be encrypted.

    A GET that fails is no reason to overwrite what may be a stronger choice, other than for an
    event: this bucket may be old, and the next sweep comes soon.
    """
    found = _unread(bucket, reading)
    leave = leave_alone(bucket.arn.name, settings, today=now.date())
    if leave:
        return replace(found, outcome="skipped", reason=leave.reason, exemption=leave.exemption)
    if reading.algorithm:
        kept = as_it_is(reading.algorithm)
        return replace(found, outcome=kept.outcome, reason=reading.algorithm)
    if reading.state == "unknown":
        return found
    if apply and settings.mode == "enforce":
        return None
    return replace(found, outcome="detected", reason="would_encrypt")


def cause_of(bucket: ListedBucket, *, now: datetime, seen_encrypted: bool) -> Cause:
    """Whether a bucket without encryption is new, or has drifted from how it was or should be."""
    at = bucket.created_at
    is_new = at is not None and now - at <= EVENT_LASTS
    return "created" if is_new and not seen_encrypted else "drift"


def missed_event(bucket: ListedBucket, cause: Cause) -> Delivery:
    """The event that would have told of the bucket; the same bytes in every sweep."""
    record = {
        "eventName": next(name for name, meant in CAUSES.items() if meant == cause),
        "eventTime": bucket.created_at.isoformat() if bucket.created_at else None,
        "responseElements": {"arn": str(bucket.arn)},
    }
    (delivery,) = open_payload(json.dumps(record).encode()).deliveries
    return delivery


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep, over when the budget of its invocation is, or when it is `stopping`.

    With `apply` it encrypts, with `audit` it looks at every table too. Findings are reported as
    they come, from one thread, which may keep them in `memory`; `expect` hears of how many more
    there will be, from any.
    """

    invocation: Invocation
    dead_letters: DeadLetters
    apply: bool
    audit: bool
    report: Callable[[Finding], None]
    memory: Memory = field(default_factory=Memory)
    expect: Callable[[int], object] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    workers: int = WORKERS
    _paces: dict[str, Pace] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)
    _meeting: Lock = field(default_factory=Lock)

    def buckets_of(self, regions: Sequence[str]) -> None:
        """Sweep the table buckets of regions; what the last sweep left comes first.

        Raises, when all is done, what no job should have run into.
        """
        left = [step for step in self.memory.left if _unknown(step).region in regions]
        self.memory.left = []
        unlisted = {step.region for step in left if _is_list_of_buckets(step)}
        # By lot, so that in instances which remember nothing no region is always the last one.
        chance = self.invocation.clock.chance
        ordered = sorted(regions, key=lambda region: (region not in unlisted, chance()))
        jobs = [self._left_over(step) for step in left if not _is_list_of_buckets(step)]
        jobs += [_job(BUCKETS, ReadPage(bucket_list(region), region)) for region in ordered]
        self._run(jobs)

    def tables_of(self, buckets: Iterable[TableBucketArn]) -> None:
        """Look at the tables of these buckets; raises as `buckets_of` does."""
        self._run([_job(TABLES, _audit(arn)) for arn in buckets])

    def _run(self, jobs: Iterable[Job[Step]]) -> None:
        turns = Turns(jobs)
        bugs = take_turns(
            turns,
            work=self._work,
            failed=_failed,
            workers=self.workers,
            over=self._is_over,
            closed_for=self._closed_for,
            rest=self.invocation.clock.sleep,
            report=self.report,
        )
        self.memory.left += [job.step for job in turns.left()]
        for step in self.memory.left:
            self.report(_not_reached(_unknown(step)))
        if bugs:
            raise bugs[0]

    def _is_over(self) -> bool:
        return self.stopping() or self.invocation.budget.remaining() < SHORTEST_TURN_SECONDS

    def _closed_for(self, region: str) -> float:
        left = self._pace(region).left()
        longest = min(self.invocation.budget.remaining(), LONGEST_WAIT_SECONDS)
        return left if left < longest else math.inf

    def _pace(self, region: str) -> Pace:
        return self._paces.setdefault(region, Pace(self.invocation.clock))

    def _turn(self, job: Job[Step]) -> Turn:
        clock = self.invocation.clock
        end = min(self.invocation.budget.ends_at, clock.monotonic() + TURN_SECONDS)
        budget = TimeBudget(end, clock)
        service = OssTables(self.invocation._replace(budget=budget), self._pace(job.region))
        return Turn(service, budget, is_last=job.turn == MOST_TURNS)

    def _work(self, job: Job[Step]) -> Found:
        turn = self._turn(job)
        try:
            match job.step:
                case Visit(bucket):
                    yield from self._visit(job.rank, bucket, turn)
                case LookAt(table):
                    yield from _look_at(table, turn)
                case page:
                    yield from self._read_page(job.rank, page, turn)
        except Throttled as error:
            if turn.is_last:
                yield replace(_unknown(job.step), detail=str(error))
            else:
                yield replace(job, turn=job.turn + 1)

    def _left_over(self, step: Step) -> Job[Step]:
        """What the last sweep did not reach; it will be met again, and passed over then."""
        match step:
            case Visit(bucket):
                self._is_new(str(bucket.arn))
                return _job(BUCKETS_LEFT, step)
            case ReadPage(bucket=None):
                return _job(BUCKETS_LEFT, step)
            case LookAt(table):
                self._is_new(_name(table))
        return _job(TABLES_LEFT, step)

    def _is_new(self, name: str) -> bool:
        with self._meeting:
            is_new = name not in self._met
            self._met.add(name)
        return is_new

    def _read_page(self, rank: int, step: ReadPage, turn: Turn) -> Found:
        about = _unknown(step)
        # What was left is listed from its beginning too, and what is wrong with it told then.
        is_left = rank in (BUCKETS_LEFT, TABLES_LEFT)
        try:
            page = step.listing.page(turn.service)
        except Throttled:
            raise
        except (Refused, Unavailable) as error:
            if not is_left:
                yield _not_listed(about, error, step.listing)
            return
        if not step.bucket or step.namespace:
            self.expect(len(page.entries))
        for entry in page.entries:
            try:
                following = self._following(step, entry)
            except InvalidEvent as error:
                if not is_left:
                    yield replace(about, reason="unreadable", detail=str(error))
            else:
                if following:
                    yield _job(rank, following)
        if page.rest:
            yield _job(rank, replace(step, listing=page.rest))
        elif page.is_circular and not is_left:
            told = f"{step.listing.call.operation} gave the same continuation token twice"
            yield replace(about, detail=f"{told}: there may be more than was listed.")

    def _following(self, step: ReadPage, entry: object) -> Step | None:
        """What an entry of a list leads to; nothing where this sweep has met it before."""
        if not step.bucket:
            bucket = ListedBucket.read(entry, region=step.region)
            # A list that changes between two pages may hold a bucket twice.
            return Visit(bucket) if self._is_new(str(bucket.arn)) else None
        if not step.namespace:
            namespace = read_namespace(entry)
            tables = table_list(step.bucket, namespace)
            return replace(step, listing=tables, namespace=namespace)
        table = ListedTable.read(entry, bucket=step.bucket, namespace=step.namespace)
        return LookAt(table) if self._is_new(_name(table)) else None

    def _visit(self, rank: int, bucket: ListedBucket, turn: Turn) -> Found:
        reading = read_bucket(turn.service, bucket.arn)
        if reading.gone and rank == BUCKETS_LEFT:
            # Deleted since the last sweep, most likely: if not, this one's list has it.
            with self._meeting:
                self._met.discard(str(bucket.arn))
            return
        now, settings = self.invocation.clock.now(), self.invocation.settings
        found = plan(bucket, reading, settings, now=now, apply=self.apply)
        found = found or self._encrypt(bucket, reading, turn)
        yield found
        if self.audit and found.outcome != "skipped" and found.reason != "gone":
            yield _job(TABLES, _audit(bucket.arn))

    def _encrypt(self, bucket: ListedBucket, reading: Reading, turn: Turn) -> Finding:
        """Let the missed event go its way, and believe what is read back afterwards."""
        arn = bucket.arn
        seen = (str(arn), bucket.created_at) in self.memory.encrypted
        cause = cause_of(bucket, now=self.invocation.clock.now(), seen_encrypted=seen)
        # Whoever lists a bucket may not know whose account it is; it is the lister's own.
        settings = self.invocation.settings
        account_id = settings.account_id or arn.account_id
        own = settings._replace(account_id=account_id)
        try:
            outcome = process_event(
                missed_event(bucket, cause),
                invocation=self.invocation._replace(settings=own),
                tables=turn.service,
                dead_letters=self.dead_letters,
            )
        except Throttled as error:
            if not turn.is_last:
                raise
            return _unfinished(bucket, reading, error)
        except LetterNotWritten as error:
            return _unfinished(bucket, reading, error)
        except Unavailable as error:
            # The answer to a PUT may be lost after it was done.
            return _unfinished(bucket, self._read_back(arn, turn), error)
        concluded = _concluded(_unread(bucket, reading), outcome)
        if isinstance(outcome, Encrypted):
            return _read_again(concluded, self._read_back(arn, turn))
        return concluded

    def _read_back(self, arn: TableBucketArn, turn: Turn) -> Reading:
        reading = Reading("unknown", why="There was no time left.")
        for pause in READ_BACK_PAUSES:
            if turn.budget.remaining() <= pause:
                break
            self.invocation.clock.sleep(pause)
            try:
                reading = read_bucket(turn.service, arn)
            except Throttled as error:
                return Reading("unknown", why=str(error))
            if reading.state != "not_encrypted":
                break
        return reading


def _look_at(table: ListedTable, turn: Turn) -> Found:
    reading = read_table(turn.service, table)
    found = _unread_table(table, reading)
    if reading.algorithm:
        kept = as_it_is(reading.algorithm)
        yield replace(found, outcome=kept.outcome, reason=reading.algorithm)
    elif reading.state == "not_encrypted":
        yield replace(
            found,
            outcome=UNPROTECTED,
            reason="created_unencrypted",
            detail=WHAT_ITS_OWNER_HAS_TO_DO,
        )
    else:
        yield found


def _job(rank: int, step: Step) -> Job[Step]:
    return Job(rank, _unknown(step).region, step)


def _audit(arn: TableBucketArn) -> ReadPage:
    return ReadPage(namespace_list(arn), arn.region, arn)


def _is_list_of_buckets(step: Step) -> TypeGuard[ReadPage]:
    return isinstance(step, ReadPage) and not step.bucket and step.is_first


def _name(table: ListedTable) -> str:
    return f"{table.bucket}/{table.namespace}/{table.name}"


# Findings as they are before more is known.

_UNREAD = Reading("unknown")


def _unknown(step: Step) -> Finding:
    """What is found of a step that nothing is known of yet."""
    match step:
        case Visit(bucket):
            return _unread(bucket)
        case LookAt(table):
            return _unread_table(table)
        case _:
            return Finding(
                kind="table" if step.bucket else "region",
                region=step.region,
                state="unknown",
                outcome=FAILED,
                reason="not_listed",
                arn=str(step.bucket) if step.bucket else None,
                bucket=step.bucket.name if step.bucket else None,
                namespace=step.namespace,
            )


def _failed(job: Job[Step], error: Exception) -> Finding:
    told = f"The guard itself failed: {type(error).__name__}."
    return replace(_unknown(job.step), reason="error", detail=told)


def _unread(bucket: ListedBucket, reading: Reading = _UNREAD) -> Finding:
    return replace(_of_reading(bucket.arn, reading), kind="bucket", created_at=bucket.created_at)


def _unread_table(table: ListedTable, reading: Reading = _UNREAD) -> Finding:
    return replace(
        _of_reading(table.bucket, reading),
        namespace=table.namespace,
        table=table.name,
        created_at=table.created_at,
    )


def _of_reading(arn: TableBucketArn, reading: Reading) -> Finding:
    return Finding(
        kind="table",
        region=arn.region,
        state=reading.state,
        outcome=FAILED,
        reason="gone" if reading.gone else "unread",
        detail=reading.why,
        arn=str(arn),
        bucket=arn.name,
        encryption=reading.algorithm,
        status=reading.status,
        code=reading.code,
        oss_request_id=reading.oss_request_id,
    )


def _not_listed(about: Finding, error: Refused | Unavailable, listing: Listing) -> Finding:
    """A list that failed, and why."""
    why = sentence(error, listing.call.operation)
    if isinstance(error, Refused):
        return replace(
            about,
            detail=why,
            status=error.status,
            code=error.code,
            oss_request_id=error.oss_request_id,
        )
    if about.region not in REGIONS:
        why += f" OSS Tables is documented for {', '.join(REGIONS)} only: is the region right?"
    return replace(about, detail=why)


def _not_reached(about: Finding) -> Finding:
    return replace(
        about,
        state="unknown",
        outcome=NOT_REACHED,
        reason="time_over",
        detail="The sweep was over before its turn.",
    )


def _unfinished(bucket: ListedBucket, reading: Reading, error: Unavailable) -> Finding:
    """A bucket that was to be encrypted, as far as it is known, and why it is not."""
    found = _unread(bucket, reading)
    if reading.algorithm:
        kept = as_it_is(reading.algorithm)
        return replace(found, outcome=kept.outcome, reason=reading.algorithm)
    unanswered = replace(found, status=None, code=None, oss_request_id=None)
    return replace(unanswered, reason="unavailable", detail=str(error))


def _concluded(found: Finding, outcome: Outcome) -> Finding:
    """What a bucket is found to be after its event went its way."""
    found = replace(
        found,
        outcome=outcome.outcome,
        reason=outcome.reason,
        time_to_encrypt_ms=outcome.time_to_encrypt_ms,
        status=outcome.status,
        code=outcome.code,
        oss_request_id=outcome.oss_request_id,
    )
    match outcome:
        case DeadLettered():
            return replace(found, detail=_why_dead(outcome))
        case Skipped():
            return replace(found, state="unknown", outcome=FAILED, detail=GONE)
        case Encrypted():
            return found
        case _:
            # Somebody else was faster.
            return replace(found, state="encrypted", encryption=outcome.reason)


def _read_again(found: Finding, reading: Reading) -> Finding:
    """Believe what is read back, not what was confirmed."""
    if reading.state == "encrypted":
        return replace(found, state=reading.state, encryption=reading.algorithm)
    why = reading.why or "It still shows none."
    told = f"The service confirmed the encryption, but it could not be read back. {why}"
    return replace(found, state=reading.state, outcome=FAILED, reason="not_confirmed", detail=told)


def _why_dead(outcome: DeadLettered) -> str:
    if outcome.status is None:
        return "It is not the guard's to encrypt; its dead letter tells why, and what to do."
    said = f"{outcome.status} {outcome.code or ''}".rstrip()
    return f"OSS Tables refused it for good ({said}); its dead letter tells what to do."
