"""The findings of a sweep, one for each bucket and table, and their totals."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.enforcement import DeadLettered, Encrypted, Outcome, Skipped, kept
from encryption_guard.enforcement.policy import Cause, FoundBy
from encryption_guard.errors import Refused, Unavailable
from encryption_guard.http.retries import Throttle
from encryption_guard.services.inventory import (
    GONE,
    REGIONS,
    BucketIdentity,
    ListedBucket,
    ListedTable,
    explain,
)
from encryption_guard.services.oss_tables import Reading, State
from encryption_guard.settings import Exemption
from encryption_guard.version import __version__

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

Kind = Literal["organization", "share", "account", "region", "bucket", "table"]
# The kinds of findings about everything in an account or a region.
OF_LISTS = frozenset({"organization", "share", "account", "region"})

# The outcomes of a sweep that an event does not have.
FAILED, NOT_REACHED, UNPROTECTED = "failed", "not_reached", "unprotected"

# The pauses before a watch checks a bucket again: none after the first failure, then these.
# The last one is less than the minute of the timer.
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 5.0, 45.0

RECREATE_TABLE = (
    "A table's encryption cannot be changed: recreate the table in the encrypted bucket, copy its"
    " rows, and drop the old table."
)
CREATED_WHILE_UNENCRYPTED = (
    "The table was created while its bucket was unencrypted: its files may be unencrypted, even if"
    " the table shows the current encryption of the bucket. Recreate the table in the encrypted"
    " bucket, copy its rows, and drop the old table."
)
PERHAPS_CREATED_WHILE_UNENCRYPTED = (
    "The bucket was unencrypted for a time, and the guard does not know exactly for which: the"
    " table may have been created in it, and its files may be unencrypted, even if the table shows"
    " the current encryption of the bucket. If in doubt, recreate the table in the encrypted"
    " bucket, copy its rows, and drop the old table."
)
NO_CREATION_TIME = (
    "The bucket was unencrypted for a time, and OSS Tables does not show when the table was"
    " created: its files may be unencrypted."
)
ENCRYPTED_SINCE_UNKNOWN = (
    "The start of the bucket's encryption is unknown: an older table may show an encryption"
    " although its files are unencrypted."
)
NOT_READ = Reading("unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of a bucket or table after the sweep, and what the sweep did about it.

    A region whose buckets could not be listed is a finding too, and so is a bucket whose tables
    could not be listed: its kind is `table`, without a table name. So are an account that could not
    be entered, a share that was not swept and the list of an organization, without a region.
    `outcome` is that of an event, or `failed`, `not_reached`, `unprotected`; `detail` is a sentence
    for the operator.
    """

    kind: Kind
    scope: Scope
    state: State
    outcome: str
    reason: str
    detail: str | None = None
    arn: TableBucketArn | None = None
    namespace: str | None = None
    table: str | None = None
    created_at: datetime | None = None
    encryption: str | None = None
    exemption: Exemption | None = None
    time_to_encrypt_ms: int | None = None
    found_by: FoundBy | None = None
    status: int | None = None
    code: str | None = None
    oss_request_id: str | None = None
    # If it is dead-lettered: whether this sweep wrote the dead letter.
    dead_letter: Literal["written", "waiting"] | None = None

    @classmethod
    def of_list(
        cls, scope: Scope, bucket: TableBucketArn | None = None, namespace: str | None = None
    ) -> Finding:
        """Return the finding of an unread list: of buckets, of namespaces, or of tables."""
        return cls(
            kind="table" if bucket else "region",
            scope=scope,
            state="unknown",
            outcome=FAILED,
            reason="not_listed",
            arn=bucket,
            namespace=namespace,
        )

    @classmethod
    def of_accounts(
        cls,
        account_id: str | None,
        *,
        kind: Literal["organization", "share", "account"],
        reason: str,
        detail: str,
    ) -> Finding:
        """Return the finding of one or more accounts in all regions, or of the list of accounts."""
        return cls(
            kind=kind,
            scope=Scope(account_id, ""),
            state="unknown",
            outcome=FAILED,
            reason=reason,
            detail=detail,
        )

    @classmethod
    def of(
        cls, scope: Scope, listed: ListedBucket | ListedTable, reading: Reading = NOT_READ
    ) -> Finding:
        """Return the finding of a bucket or table with this reading; its outcome is `failed`."""
        table = listed if isinstance(listed, ListedTable) else None
        return cls(
            kind="table" if table else "bucket",
            scope=scope,
            state=reading.state,
            outcome=FAILED,
            reason="gone" if reading.gone else "unread",
            detail=reading.why,
            arn=listed.bucket if isinstance(listed, ListedTable) else listed.arn,
            namespace=table.namespace if table else None,
            table=table.name if table else None,
            created_at=listed.created_at,
            encryption=reading.algorithm,
            status=reading.status,
            code=reading.code,
            oss_request_id=reading.oss_request_id,
        )

    @property
    def region(self) -> str:
        """The region of the bucket or table; empty for a finding about all regions."""
        return self.scope.region

    @property
    def account_id(self) -> str | None:
        """The account of the bucket or table, else that in which the sweep was."""
        return self.arn.account_id if self.arn else self.scope.account_id

    @property
    def bucket(self) -> str | None:
        """The name of the bucket."""
        return self.arn.name if self.arn else None

    def with_kept_encryption(self, reading: Reading) -> Finding:
        """Return the finding of a bucket or table that keeps the encryption of this reading."""
        return replace(self, outcome=kept(reading).outcome, reason=reading.algorithm or "")

    def with_list_error(self, error: Refused | Unavailable, operation: str) -> Finding:
        """Return the finding of a list that failed with this error."""
        why = explain(error, operation)
        if isinstance(error, Refused):
            return replace(
                self,
                detail=why,
                status=error.status,
                code=error.code,
                oss_request_id=error.oss_request_id,
            )
        if self.region not in REGIONS:
            why += f" Check the region: OSS Tables is documented only for {', '.join(REGIONS)}."
        return replace(self, detail=why)

    def with_not_reached(self, why: str, *, reason: str = "time_over") -> Finding:
        """Return the finding of a bucket, table or list that the sweep did not reach."""
        return replace(self, outcome=NOT_REACHED, reason=reason, detail=why)

    def with_failed_encryption(self, error: Unavailable) -> Finding:
        """Return the finding of a bucket that the guard could not encrypt, because of this error.

        The status and request id of the earlier GET do not belong to the error.
        """
        why = str(error)
        return replace(
            self, reason="unavailable", detail=why, status=None, code=None, oss_request_id=None
        )

    def with_outcome(self, outcome: Outcome) -> Finding:
        """Return the finding of a bucket that was processed with this outcome."""
        found = replace(
            self,
            outcome=outcome.outcome,
            reason=outcome.reason,
            time_to_encrypt_ms=outcome.time_to_encrypt_ms,
            status=outcome.status,
            code=outcome.code,
            oss_request_id=outcome.oss_request_id,
        )
        match outcome:
            case DeadLettered():
                state: Literal["written", "waiting"] = (
                    "waiting" if outcome.was_waiting else "written"
                )
                return replace(found, detail=_why_dead_lettered(outcome), dead_letter=state)
            case Skipped(reason="gone"):
                return replace(found, state="unknown", outcome=FAILED, detail=GONE)
            case Encrypted() | Skipped():
                return found
            case _:
                # Someone else has encrypted the bucket in the meantime.
                return replace(found, state="encrypted", encryption=outcome.reason)

    def with_read_back(self, reading: Reading) -> Finding:
        """Return the finding of a bucket that was encrypted and then read back."""
        if reading.state == "encrypted":
            return replace(self, state=reading.state, encryption=reading.algorithm)
        why = reading.why or "The bucket still shows no encryption."
        detail = f"OSS Tables confirmed the encryption, but the guard could not read it back. {why}"
        return replace(
            self, state=reading.state, outcome=FAILED, reason="not_confirmed", detail=detail
        )

    @property
    def ok(self) -> bool:
        """Whether no operator has to act: it is encrypted, or skipped on purpose."""
        return self.state == "encrypted" or self.outcome == "skipped"

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return {
            "kind": self.kind,
            "account": self.account_id,
            "region": self.region or None,
            "state": self.state,
            "outcome": self.outcome,
            "reason": self.reason,
            "detail": self.detail,
            "arn": str(self.arn) if self.arn else None,
            "bucket": self.bucket,
            "namespace": self.namespace,
            "table": self.table,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "encryption": self.encryption,
            "exemption": self.exemption.as_dict() if self.exemption else None,
            "time_to_encrypt_ms": self.time_to_encrypt_ms,
            "found_by": self.found_by,
            "status": self.status,
            "code": self.code,
            "oss_request_id": self.oss_request_id,
            "dead_letter": self.dead_letter,
        }


def _why_dead_lettered(outcome: DeadLettered) -> str:
    answer = f"{outcome.status} {outcome.code or ''}".rstrip()
    why = (
        "The guard is not allowed to encrypt this bucket."
        if outcome.status is None
        else f"OSS Tables refused the encryption ({answer}), and a retry cannot help."
    )
    if outcome.was_waiting:
        return (
            f"{why} A dead letter about this waits in the queue already, so the sweep wrote no"
            " other; that one has a remedy."
        )
    return f"{why} The dead letter has the cause and a remedy."


@dataclass(slots=True)
class Tally:
    """The number of buckets and tables of each kind.

    An exempt bucket is not counted as encrypted, not encrypted or unknown.
    """

    buckets: int = 0
    encrypted: int = 0
    not_encrypted: int = 0
    unknown: int = 0
    exempt: int = 0
    newly_encrypted: int = 0
    dead_lettered: int = 0
    # Of the dead-lettered: buckets whose dead letter waited in the queue before this sweep.
    already_waiting: int = 0
    not_reached: int = 0
    # Failed lists: there may be more buckets or tables than were counted.
    not_listed: int = 0
    tables: int = 0
    unprotected_tables: int = 0
    unknown_tables: int = 0

    def count(self, finding: Finding) -> None:
        """Add one finding."""
        self.not_reached += finding.outcome == NOT_REACHED
        if finding.kind in OF_LISTS or (finding.kind == "table" and not finding.table):
            self.not_listed += 1
        elif finding.kind == "table":
            self.tables += 1
            is_unprotected = finding.outcome == UNPROTECTED or finding.state == "not_encrypted"
            self.unprotected_tables += is_unprotected
            self.unknown_tables += finding.state == "unknown" and not is_unprotected
        else:
            self._count_bucket(finding)

    def _count_bucket(self, finding: Finding) -> None:
        self.buckets += 1
        self.newly_encrypted += finding.outcome == "encrypted"
        self.dead_lettered += finding.outcome == "dead_lettered"
        self.already_waiting += finding.dead_letter == "waiting"
        if finding.outcome == "skipped":
            self.exempt += 1
        else:
            self.encrypted += finding.state == "encrypted"
            self.not_encrypted += finding.state == "not_encrypted"
            self.unknown += finding.state == "unknown"

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both."""
        mine, theirs = asdict(self), asdict(other)
        return Tally(**{name: number + theirs[name] for name, number in mine.items()})

    @property
    def ok(self) -> bool:
        """Whether no bucket or table is unencrypted or unknown."""
        return not (
            self.not_encrypted
            or self.unknown
            or self.not_listed
            or self.unprotected_tables
            or self.unknown_tables
        )

    def as_dict(self) -> dict[str, int]:
        """Return the numbers by name, for JSON."""
        return asdict(self)


@dataclass(slots=True)
class Totals:
    """The tally of each account's region, with or without buckets, and the tally of all of them."""

    regions: dict[Scope, Tally] = field(default_factory=dict)
    all: Tally = field(default_factory=Tally)

    @classmethod
    def empty(cls, scopes: Iterable[Scope]) -> Totals:
        """Return the totals of these regions before anything is counted."""
        return cls({scope: Tally() for scope in scopes})

    def as_dict(self, expiring_soon: Iterable[Exemption]) -> dict[str, Any]:
        """Return the totals, with a warning for each exemption that expires soon, for JSON."""
        return {
            "version": __version__,
            "ok": self.all.ok,
            "totals": self.all.as_dict(),
            "regions": {name: tally.as_dict() for name, tally in self.by_region().items()},
            "warnings": [exemption.warning for exemption in expiring_soon],
        }

    def by_region(self) -> dict[str, Tally]:
        """Return the tally of each region, in all accounts together."""
        merged: dict[str, Tally] = {}
        for scope, tally in self.regions.items():
            merged[scope.region] = merged.get(scope.region, Tally()) + tally
        return merged

    def by_account(self) -> dict[str | None, dict[str, Tally]]:
        """Return the tally of each region of each account."""
        accounts: dict[str | None, dict[str, Tally]] = {}
        for (account_id, region), tally in self.regions.items():
            accounts.setdefault(account_id, {})[region] = tally
        return accounts

    def count(self, finding: Finding) -> None:
        """Add one finding to its region's tally, if it is about one, and to that of all regions."""
        if finding.region:
            self.regions.setdefault(finding.scope, Tally()).count(finding)
        elif finding.kind == "account":
            # Of none of its regions is it known whether the list was read.
            for scope, tally in self.regions.items():
                tally.not_listed += scope.account_id == finding.scope.account_id
        self.all.count(finding)


class UnencryptedPeriod(NamedTuple):
    """A time in which a bucket was unencrypted; without `since`, it starts at the creation.

    If it is not exact, the bucket may have been encrypted for a part of it.
    """

    since: datetime | None
    until: datetime
    is_exact: bool = True

    def contains(self, at: datetime) -> bool:
        """Return whether a creation time, which has whole seconds, is in this period."""
        is_after_start = self.since is None or at >= self.since.replace(microsecond=0)
        return is_after_start and at < self.until


class Retry(NamedTuple):
    """The seconds of the pause after a failed check, and the instant at which it ends."""

    pause: float
    at: float


class Slow(NamedTuple):
    """The seconds between two lists of a region that throttles, and the instant of the next one."""

    interval: float
    next_at: float


@dataclass(slots=True)
class Memory:
    """What a function instance remembers of earlier sweeps; a new instance starts without it.

    A new bucket may get the name of a deleted one, so a bucket is known by its identity.
    """

    # When a bucket was last seen as encrypted.
    seen_encrypted_at: dict[BucketIdentity, datetime] = field(default_factory=dict)
    # The buckets that stayed unencrypted for long, and whose tables were not checked since.
    to_audit: set[BucketIdentity] = field(default_factory=set)
    # The buckets that were checked since the last full sweep of their account.
    checked: set[BucketIdentity] = field(default_factory=set)
    # When the last full sweep of each account started.
    full_sweeps: dict[str | None, float] = field(default_factory=dict)
    unencrypted_periods: dict[BucketIdentity, tuple[UnencryptedPeriod, ...]] = field(
        default_factory=dict
    )
    has_warned_of_type: bool = False
    # When to check again the buckets whose last check failed, and after which pause.
    failed: dict[BucketIdentity, Retry] = field(default_factory=dict)
    # The pauses that OSS Tables asks for, and the pace of each region that it slows down.
    throttles: dict[Scope, Throttle] = field(default_factory=dict)
    paces: dict[Scope, Slow] = field(default_factory=dict)
    # When a dead letter about a bucket was written, by the bucket's ARN and the reason.
    dead_letters: dict[tuple[str | None, str], datetime] = field(default_factory=dict)

    def start_full_sweep(
        self, account_ids: Collection[str | None], *, now: float, every: float
    ) -> bool:
        """Return whether a full sweep of one of these accounts is due, and record that it starts.

        A call may sweep other accounts than the one before.
        """
        never = -math.inf
        if all(now < self.full_sweeps.get(each, never) + every for each in account_ids):
            return False
        self.full_sweeps.update(dict.fromkeys(account_ids, now))
        return True

    def forget_checks(self, scopes: Collection[Scope]) -> None:
        """Forget that the buckets of these accounts and regions were checked."""
        self.checked = {
            (arn, bucket_id)
            for arn, bucket_id in self.checked
            # The shell's scopes have no account.
            if Scope.of(arn) not in scopes and Scope(None, arn.region) not in scopes
        }

    def record_unencrypted(self, bucket: BucketIdentity, until: datetime, *, cause: Cause) -> None:
        """Record an unencrypted period: from when the bucket was last seen encrypted to `until`.

        It is exact for a new bucket, which was never encrypted.
        """
        since = self.seen_encrypted_at.get(bucket)
        is_exact = since is None and cause == "created"
        periods = self.unencrypted_periods.get(bucket, ())
        # If the bucket was not seen as encrypted in between, this extends the last period.
        if periods and (since is None or since < periods[-1].until):
            # A clock correction must not shorten the period.
            until = max(until, periods[-1].until)
            (since, _, is_exact), periods = periods[-1], periods[:-1]
        self.unencrypted_periods[bucket] = (*periods, UnencryptedPeriod(since, until, is_exact))

    def record_checked(self, bucket: BucketIdentity, finding: Finding, *, at: float) -> None:
        """Record that a check has ended: only the next full sweep reads the bucket again.

        After a failed check, a watch reads it again after a pause, which doubles each time.
        """
        if finding.outcome not in (FAILED, NOT_REACHED):
            self.checked.add(bucket)
            self.failed.pop(bucket, None)
            return
        last = self.failed.get(bucket)
        pause = min(max(2 * last.pause, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS) if last else 0.0
        self.failed[bucket] = Retry(pause, at + pause)

    def forget_missing(self, scope: Scope, listed: Collection[BucketIdentity]) -> None:
        """Forget the checks of buckets that a whole list of their region does not have."""
        gone = {
            bucket
            for bucket in (*self.checked, *self.failed)
            if _is_in(scope, bucket[0]) and bucket not in listed
        }
        self.checked -= gone
        for bucket in gone:
            self.failed.pop(bucket, None)

    def is_due(self, bucket: BucketIdentity, *, at: float) -> bool:
        """Return whether no pause after a failed check of the bucket is left."""
        retry = self.failed.get(bucket)
        return retry is None or at >= retry.at


def _is_in(scope: Scope, arn: TableBucketArn) -> bool:
    return arn.region == scope.region and scope.account_id in (None, arn.account_id)


def log_finding(finding: Finding, *, logger: Logger) -> None:
    """Log one finding: at level DEBUG if nothing has changed, WARNING if an operator has to act.

    A bucket whose encryption was removed needs an operator, although it is encrypted again.
    """
    match finding.outcome:
        case "encrypted" if finding.reason == "drift":
            log = logger.warning
        case "encrypted" | "detected" | "skipped":
            log = logger.info
        case "already_encrypted" | "kept_stronger" if finding.ok:
            # There may be thousands, of which nobody reads a line.
            if logger.log_level > logging.DEBUG:
                return
            log = logger.debug
        case _:
            log = logger.warning
    log("sweep finding", extra=finding.as_dict())
