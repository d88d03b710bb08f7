"""What a sweep found, one value for each bucket and table, and how many of each there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from encryption_guard.config import Exemption
from encryption_guard.inventory import State

Kind = Literal["region", "bucket", "table"]

# What happened to a bucket beside the outcomes of an event.
FAILED, NOT_REACHED, UNPROTECTED = "failed", "not_reached", "unprotected"

WHAT_ITS_OWNER_HAS_TO_DO = (
    "It was created without encryption, and a table's encryption can never be changed: recreate"
    " it in the encrypted bucket, copy its rows, and drop this one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A bucket or a table: its state after what was done about it, and what that was.

    A region whose buckets, or a bucket whose tables, could not be listed is a finding too; of the
    latter the kind is `table`, without a name. `outcome` is that of an event, or `failed`,
    `not_reached`, `unprotected`; `detail` is a sentence where there is more to say.
    """

    kind: Kind
    region: str
    state: State
    outcome: str
    reason: str
    detail: str | None = None
    arn: str | None = None
    bucket: str | None = None
    namespace: str | None = None
    table: str | None = None
    created_at: datetime | None = None
    encryption: str | None = None
    exemption: Exemption | None = None
    time_to_encrypt_ms: int | None = None
    status: int | None = None
    code: str | None = None
    oss_request_id: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether nobody has to look at it: it is encrypted, or left alone on purpose."""
        return self.state == "encrypted" or self.outcome == "skipped"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        told = asdict(self)
        told["created_at"] = self.created_at.isoformat() if self.created_at else None
        told["exemption"] = self.exemption.as_dict() if self.exemption else None
        return told


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
            self.unprotected_tables += finding.state == "not_encrypted"
            self.unknown_tables += finding.state == "unknown"
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
    def is_well(self) -> bool:
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

    regions: dict[str, Tally] = field(default_factory=dict)
    all: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, regions: Iterable[str]) -> Totals:
        """Nothing counted yet."""
        return cls({region: Tally() for region in regions})

    def count(self, finding: Finding) -> None:
        """Add one finding to its region and to all."""
        self.regions.setdefault(finding.region, Tally()).count(finding)
        self.all.count(finding)
