"""What a sweep found, one value for each bucket and table, and how many of each there are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.enforcement import DeadLettered, Encrypted, Outcome, Skipped, kept
from encryption_guard.errors import Refused, Unavailable
from encryption_guard.services.inventory import (
    GONE,
    REGIONS,
    BucketIdentity,
    ListedBucket,
    ListedTable,
    sentence,
)
from encryption_guard.services.oss_tables import Reading, State
from encryption_guard.settings import Exemption
from encryption_guard.version import __version__

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

Kind = Literal["region", "bucket", "table"]

# What happened to a bucket beside the outcomes of an event.
FAILED, NOT_REACHED, UNPROTECTED = "failed", "not_reached", "unprotected"

RECREATE_TABLE = (
    "It was created without encryption, and a table's encryption can never be changed: recreate"
    " it in the encrypted bucket, copy its rows, and drop this one."
)
MADE_BEFORE = (
    "It was made while its bucket was open: what it shows may be the bucket's encryption of now,"
    " and its files may be plain. Recreate it in the encrypted bucket, copy its rows, and drop this"
    " one."
)
NO_CREATION_TIME = (
    "Its bucket was open, and when the table was made is not told: its files may be plain."
)
ENCRYPTED_SINCE_UNKNOWN = (
    "Since when it is encrypted is not known: a table that is older may show its encryption, and"
    " have files that are plain."
)
NOT_READ = Reading("unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A bucket or a table: its state after what was done about it, and what that was.

    A region whose buckets, or a bucket whose tables, could not be listed is a finding too; of the
    latter the kind is `table`, without a name. `outcome` is that of an event, or `failed`,
    `not_reached`, `unprotected`; `detail` is a sentence where there is more to say.
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
    status: int | None = None
    code: str | None = None
    oss_request_id: str | None = None

    @classmethod
    def of_list(
        cls, scope: Scope, bucket: TableBucketArn | None = None, namespace: str | None = None
    ) -> Finding:
        """A list of buckets, namespaces or tables that was not read."""
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
    def of(
        cls, scope: Scope, listed: ListedBucket | ListedTable, reading: Reading = NOT_READ
    ) -> Finding:
        """A bucket or a table as it was read; failed, until something else is known."""
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
        """The region in which it is."""
        return self.scope.region

    @property
    def bucket(self) -> str | None:
        """The bucket's name."""
        return self.arn.name if self.arn else None

    def kept(self, reading: Reading) -> Finding:
        """The encryption that was read stays as it is."""
        return replace(self, outcome=kept(reading).outcome, reason=reading.algorithm or "")

    def not_listed(self, error: Refused | Unavailable, operation: str) -> Finding:
        """A list that failed, and why."""
        why = sentence(error, operation)
        if isinstance(error, Refused):
            return replace(
                self,
                detail=why,
                status=error.status,
                code=error.code,
                oss_request_id=error.oss_request_id,
            )
        if self.region not in REGIONS:
            why += f" OSS Tables is documented for {', '.join(REGIONS)} only: is the region right?"
        return replace(self, detail=why)

    def not_reached(self, why: str, *, reason: str = "time_over") -> Finding:
        """What a sweep did not come to."""
        return replace(self, outcome=NOT_REACHED, reason=reason, detail=why)

    def unfinished(self, error: Unavailable) -> Finding:
        """A bucket that was to be encrypted, as far as it is known, and why it may not be."""
        why = str(error)
        return replace(
            self, reason="unavailable", detail=why, status=None, code=None, oss_request_id=None
        )

    def with_outcome(self, outcome: Outcome) -> Finding:
        """What a bucket is found to be after its event was processed."""
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
                return replace(found, detail=_why_dead(outcome))
            case Skipped(reason="gone"):
                return replace(found, state="unknown", outcome=FAILED, detail=GONE)
            case Encrypted() | Skipped():
                return found
            case _:
                # Somebody else was faster.
                return replace(found, state="encrypted", encryption=outcome.reason)

    def read_back(self, reading: Reading) -> Finding:
        """Believe what is read back, not what was confirmed."""
        if reading.state == "encrypted":
            return replace(self, state=reading.state, encryption=reading.algorithm)
        why = reading.why or "It still shows none."
        detail = f"The service confirmed the encryption, but it could not be read back. {why}"
        return replace(
            self, state=reading.state, outcome=FAILED, reason="not_confirmed", detail=detail
        )

    @property
    def ok(self) -> bool:
        """Whether nobody has to look at it: it is encrypted, or left alone on purpose."""
        return self.state == "encrypted" or self.outcome == "skipped"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "kind": self.kind,
            "region": self.region,
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
            "status": self.status,
            "code": self.code,
            "oss_request_id": self.oss_request_id,
        }


def _why_dead(outcome: DeadLettered) -> str:
    if outcome.status is None:
        return "It is not the guard's to encrypt; its dead letter tells why, and what to do."
    said = f"{outcome.status} {outcome.code or ''}".rstrip()
    return f"OSS Tables refused it for good ({said}); its dead letter tells what to do."


@dataclass(slots=True)
class Tally:
    """How many buckets and tables of each kind; an exempt bucket is in none of the three states."""

    buckets: int = 0
    encrypted: int = 0
    not_encrypted: int = 0
    unknown: int = 0
    exempt: int = 0
    newly_encrypted: int = 0
    dead_lettered: int = 0
    not_reached: int = 0
    # Lists that failed: there may be more than was counted.
    not_listed: int = 0
    tables: int = 0
    unprotected_tables: int = 0
    unknown_tables: int = 0

    def count(self, finding: Finding) -> None:
        """Add one."""
        self.not_reached += finding.outcome == NOT_REACHED
        if finding.kind == "region" or (finding.kind == "table" and not finding.table):
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
        if finding.outcome == "skipped":
            self.exempt += 1
        else:
            self.encrypted += finding.state == "encrypted"
            self.not_encrypted += finding.state == "not_encrypted"
            self.unknown += finding.state == "unknown"

    @property
    def ok(self) -> bool:
        """Whether nothing is left unencrypted or unknown."""
        return not (
            self.not_encrypted
            or self.unknown
            or self.not_listed
            or self.unprotected_tables
            or self.unknown_tables
        )

    def as_dict(self) -> dict[str, int]:
        """The numbers, by name."""
        return asdict(self)


@dataclass(slots=True)
class Totals:
    """The tally of each region, those without buckets included, and of all together."""

    regions: dict[Scope, Tally] = field(default_factory=dict)
    all: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, scopes: Iterable[Scope]) -> Totals:
        """Nothing counted yet."""
        return cls({scope: Tally() for scope in scopes})

    def as_dict(self, ending: Iterable[Exemption]) -> dict[str, Any]:
        """How it stands, with the exemptions that end soon, for JSON."""
        return {
            "version": __version__,
            "ok": self.all.ok,
            "totals": self.all.as_dict(),
            "regions": {scope.region: tally.as_dict() for scope, tally in self.regions.items()},
            "warnings": [exemption.warning for exemption in ending],
        }

    def count(self, finding: Finding) -> None:
        """Add one finding to its region and to all."""
        self.regions.setdefault(finding.scope, Tally()).count(finding)
        self.all.count(finding)


class OpenTime(NamedTuple):
    """When a bucket was open; without `since` from its creation on."""

    since: datetime | None
    until: datetime

    def contains(self, at: datetime) -> bool:
        """Whether it was open then; the service tells times in whole seconds."""
        is_late = self.since is None or at >= self.since.replace(microsecond=0)
        return is_late and at < self.until


@dataclass(slots=True)
class Memory:
    """What one instance still knows of its last sweep; a new one does without.

    Buckets are known with their creation: another one may get the name of one that was deleted.
    """

    # Those that were seen encrypted, and when that was last.
    encrypted: dict[BucketIdentity, datetime] = field(default_factory=dict)
    # Those whose check ended since the last full sweep, and when that began.
    met: set[BucketIdentity] = field(default_factory=set)
    swept_at: float = -math.inf
    # When buckets are known to have been open.
    open: dict[BucketIdentity, tuple[OpenTime, ...]] = field(default_factory=dict)
    has_warned: bool = False
    # Which letters were written, and when.
    letters: dict[tuple[str | None, str], datetime] = field(default_factory=dict)

    def note_open(self, seen: BucketIdentity, until: datetime) -> None:
        """Take note that a bucket was open until then: since it was last seen encrypted."""
        since, times = self.encrypted.get(seen), self.open.get(seen, ())
        # Still open, if nobody has seen it encrypted since.
        if times and (since is None or since < times[-1].until):
            # A clock that is corrected meanwhile must not make it shorter.
            until = max(until, times[-1].until)
            since, times = times[-1].since, times[:-1]
        self.open[seen] = (*times, OpenTime(since, until))

    def keep(self, finding: Finding) -> None:
        """Take note of a bucket whose check ended."""
        is_over = finding.outcome not in (FAILED, NOT_REACHED)
        if finding.kind == "bucket" and finding.arn and is_over:
            self.met.add((finding.arn, finding.created_at))


def log_finding(finding: Finding, *, logger: Logger) -> None:
    """Write the line of one finding of a sweep; what is as it was before only where asked for."""
    told = finding.as_dict()
    match finding.outcome:
        case "encrypted" | "detected" | "skipped":
            logger.info("sweep finding", extra=told)
        case "already_encrypted" | "kept_stronger" if finding.ok:
            logger.debug("sweep finding", extra=told)
        case _:
            logger.warning("sweep finding", extra=told)
