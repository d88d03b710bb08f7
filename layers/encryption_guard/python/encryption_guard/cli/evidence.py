"""What a sweep found, and the facts that let its report stand alone: when, who, where and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import encryption_guard.cli.sweep_rows as rows
from encryption_guard.cli.changes import SCHEMA_VERSION, TOOL, Changes
from encryption_guard.enforcement.policy import expiring, in_force
from encryption_guard.services.inventory import REGIONS
from encryption_guard.services.sts import Caller
from encryption_guard.settings import Exemption, Settings
from encryption_guard.sweep.findings import Finding, Totals
from encryption_guard.version import __version__

Origin = Literal["shell", "deployed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditions of a sweep: when it started, who ran it, and with which settings.

    `caller` is None if the service did not return the identity; `no_caller` then says why.
    `exemptions_from` says whose exemptions apply: those of the shell or of the deployed function.
    """

    started_at: datetime
    settings: Settings
    applied: bool
    caller: Caller | None = None
    no_caller: str | None = None
    exemptions_from: Origin = "shell"
    # The role that the sweep takes in other accounts than its own; None: there are none.
    member_role: str | None = None
    # Only buckets with such names are checked; None: every bucket.
    glob: str | None = None

    @property
    def exemptions(self) -> tuple[Exemption, ...]:
        """The exemptions in force when the sweep started."""
        return in_force(self.settings, today=self.started_at.date())

    def as_dict(self) -> dict[str, Any]:
        """Return the conditions for JSON."""
        return {
            "version": __version__,
            "started_at": stamp(self.started_at),
            "applied": self.applied,
            "mode": self.settings.mode,
            "bucket": self.glob,
            "audit_tables": self.settings.audit_tables,
            "caller": self.caller._asdict() if self.caller else None,
            "no_caller": self.no_caller,
            "member_role": self.member_role,
            "exemptions_from": self.exemptions_from,
            "exemptions": [each.as_dict() for each in self.exemptions],
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """The findings of one sweep, which ended at `at`, and its conditions.

    `accounts` are those that were swept, also if no bucket was found; `accounts_left_out` are the
    findings about accounts that were not, or only in part, and about their list. `complete` is
    false if the sweep did not reach everything.
    """

    findings: Sequence[Finding]
    totals: Totals
    accounts: Sequence[str]
    at: datetime
    complete: bool
    conditions: Conditions
    changes: Changes | None = None
    accounts_left_out: Sequence[Finding] = ()

    @property
    def accounts_not_swept(self) -> list[str]:
        """The accounts that the sweep could not enter, or not until its end."""
        return sorted(
            each.account_id or "" for each in self.accounts_left_out if each.kind == "account"
        )

    @property
    def has_several_accounts(self) -> bool:
        """Whether a row has to say of which account it is."""
        return len({*self.accounts, *self.accounts_not_swept}) > 1

    @property
    def settings(self) -> Settings:
        """The settings of the sweep."""
        return self.conditions.settings

    @property
    def caller(self) -> Caller | None:
        """The identity that ran the sweep."""
        return self.conditions.caller

    @property
    def unswept_regions(self) -> list[str]:
        """The regions with OSS Tables that were not swept."""
        swept = {scope.region for scope in self.totals.regions}
        return [region for region in REGIONS if region not in swept]

    @property
    def doubtful_regions(self) -> list[str]:
        """The regions without a bucket whose names may be misspelt: they are not documented."""
        return [
            region
            for region, tally in self.totals.by_region().items()
            if region not in REGIONS and not tally.buckets and not tally.not_listed
        ]

    @property
    def expiring_soon(self) -> tuple[Exemption, ...]:
        """The exemptions that end within the warning period."""
        return expiring(self.settings, today=self.at.date())

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the findings, for JSON."""
        return {
            **self.conditions.as_dict(),
            "ended_at": stamp(self.at),
            "complete": self.complete,
            "account_ids": list(self.accounts),
            "accounts_not_swept": self.accounts_not_swept,
            "accounts": self._tallies_of_accounts(),
            "regions_not_swept": self.unswept_regions,
            **self.totals.as_dict(self.expiring_soon),
            "changes": self.changes.as_dict() if self.changes else None,
        }

    def _tallies_of_accounts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return the numbers of each account's regions; none of an account that is not known."""
        only = self.accounts[0] if len(self.accounts) == 1 else None
        return {
            account_id: {region: tally.as_dict() for region, tally in tallies.items()}
            for known, tallies in self.totals.by_account().items()
            if (account_id := known or only)
        }

    def as_document(self) -> dict[str, Any]:
        """Return the document of report.json, with its findings in a fixed order."""
        findings = sorted(self.findings, key=rows.sort_key)
        head = {"schema_version": SCHEMA_VERSION, "tool": TOOL}
        return {**head, **self.as_dict(), "findings": [each.as_dict() for each in findings]}


def stamp(at: datetime) -> str:
    """Return a time in UTC with milliseconds, as RFC 3339 writes it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
