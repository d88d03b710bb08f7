"""The document that `sweep --report` writes as report.json, as a contract for other programs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from encryption_guard.arn import Scope
from encryption_guard.cli.changes import Key, account_of, words


class _Part(BaseModel):
    # A later version may add fields, and keeps these.
    model_config = ConfigDict(extra="ignore", frozen=True)


class CallerPart(_Part):
    """The identity that ran the sweep, as STS GetCallerIdentity returned it."""

    account_id: str
    arn: str
    type: str


class ExemptionPart(_Part):
    """An exemption in force, as in GUARD_EXEMPTIONS."""

    bucket: str
    reason: str
    expires: str | None


class TallyPart(_Part):
    """The numbers of buckets and tables of each kind; exempt buckets count only as exempt."""

    buckets: int
    encrypted: int
    not_encrypted: int
    unknown: int
    exempt: int
    newly_encrypted: int
    dead_lettered: int
    already_waiting: int = Field(
        description="Of the dead-lettered: buckets whose dead letter waited before this sweep."
    )
    not_reached: int
    not_listed: int = Field(description="Lists that failed: there may be more than was counted.")
    tables: int
    unprotected_tables: int
    unknown_tables: int


class FindingPart(_Part):
    """A bucket, an unprotected or unknown table, or a list that could not be read."""

    kind: Literal["organization", "account", "region", "bucket", "table"]
    account: str | None = Field(default=None, description="Not in reports of earlier versions.")
    region: str | None
    state: Literal["encrypted", "not_encrypted", "unknown"]
    outcome: str
    reason: str
    detail: str | None
    arn: str | None
    bucket: str | None
    namespace: str | None
    table: str | None
    created_at: str | None
    encryption: str | None
    exemption: ExemptionPart | None
    time_to_encrypt_ms: int | None
    found_by: str | None
    status: int | None
    code: str | None
    oss_request_id: str | None
    dead_letter: Literal["written", "waiting"] | None = Field(
        description="If dead-lettered: whether this sweep wrote the dead letter, or found it."
    )

    @property
    def key(self) -> Key:
        """What the finding is about."""
        return (self.arn or "", self.namespace or "", self.table or "")

    def scope(self, own: str) -> Scope:
        """Return the account and the region; reports of earlier versions have no account."""
        return Scope(self.account or account_of(self.arn or "") or own, self.region or "")

    @property
    def words(self) -> str:
        """The state in a few words."""
        return words(self.state, self.outcome, self.encryption)


class ChangePart(_Part):
    """A bucket or table whose state has changed."""

    arn: str
    namespace: str | None
    table: str | None
    before: str | None
    after: str | None


class ChangesPart(_Part):
    """What has changed since an earlier report (`--compare`)."""

    since: str
    new: list[ChangePart]
    gone: list[ChangePart]
    changed: list[ChangePart]
    not_compared: list[str] = Field(
        description="What one of both sweeps does not cover to the end: a region, an account, or"
        " `<account> <region>`."
    )
    tables_not_compared: list[str] = Field(
        default_factory=list,
        description="Buckets with tables in one report that the other sweep did not look at.",
    )


class ReportDocument(_Part):
    """The report of one sweep. Times are in UTC, as RFC 3339 writes them."""

    schema_version: Literal[1]
    tool: str
    version: str
    started_at: str
    ended_at: str
    complete: bool = Field(description="Whether the sweep reached everything.")
    ok: bool = Field(description="Whether nothing is unencrypted or unknown.")
    applied: bool = Field(description="Whether the sweep could encrypt (`--apply`).")
    mode: Literal["enforce", "detect"]
    bucket: str | None = Field(description="Only buckets with such names were checked.")
    audit_tables: Literal["late", "true", "false"] = Field(
        description="Whose tables were checked: `true`: of every bucket; `late`: of the buckets"
        " that the sweep encrypted late."
    )
    caller: CallerPart | None
    no_caller: str | None = Field(description="Why the caller is not known.")
    member_role: str | None = Field(
        default=None, description="The role that the sweep took in other accounts than its own."
    )
    account_ids: list[str] = Field(description="The accounts that were swept.")
    accounts_not_swept: list[str] = Field(
        default_factory=list,
        description="Accounts that could not be entered, or not until the end; findings say why.",
    )
    accounts: dict[str, dict[str, TallyPart]] = Field(
        default_factory=dict,
        description="The numbers of each region of each account. Not in reports of earlier"
        " versions.",
    )
    exemptions_from: Literal["shell", "deployed"]
    exemptions: list[ExemptionPart]
    warnings: list[str]
    regions: dict[str, TallyPart] = Field(description="Of all accounts together.")
    regions_not_swept: list[str]
    totals: TallyPart
    changes: ChangesPart | None
    findings: list[FindingPart]
