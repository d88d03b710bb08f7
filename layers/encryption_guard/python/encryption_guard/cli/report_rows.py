"""The totals of the HTML report: a row for each region, and for each account."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import encryption_guard.cli.sweep_rows as rows
from encryption_guard.arn import Scope
from encryption_guard.cli.evidence import Evidence
from encryption_guard.sweep.findings import Finding, Tally


class Row(NamedTuple):
    """The numbers of a region or account, what could not be read there, and its parts in words."""

    name: str
    tally: Tally
    problems: Sequence[str]
    is_exact: bool
    parts: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether everything was read, and nothing is unencrypted or unknown."""
        return self.is_exact and self.tally.ok


def _unread(data: Evidence) -> set[Scope]:
    """Return the regions of accounts that have, or may have, buckets that were not listed."""
    unread = {finding.scope for finding in data.findings if finding.kind == "region"}
    closed = {finding.scope.account_id for finding in _closed(data)}
    return unread | {scope for scope in data.totals.regions if scope.account_id in closed}


def _closed(data: Evidence) -> list[Finding]:
    return [finding for finding in data.accounts_left_out if finding.kind == "account"]


def region_rows(data: Evidence) -> list[Row]:
    """Return a row for each region, in all accounts together; those with problems come first.

    If there are several accounts, what could not be read is counted: the accounts have the causes.
    """
    unread, problems = _unread(data), defaultdict(list)
    for finding in data.findings:
        if finding.kind == "region" and not data.has_several_accounts:
            problems[finding.region].append(rows.description(finding))
    if data.has_several_accounts:
        counts = Counter(scope.region for scope in unread)
        for region, count in counts.items():
            problems[region].append(f"not read to the end in {rows.pluralize(count, 'account')}")
    inexact = {scope.region for scope in unread}
    found = [
        Row(region, tally, problems[region], region not in inexact)
        for region, tally in data.totals.by_region().items()
    ]
    return sorted(found, key=lambda row: (row.ok, row.name))


def account_rows(data: Evidence) -> list[Row]:
    """Return a row for each account; those with problems come first.

    There are none if the sweep had one account, and entered it.
    """
    if not (data.has_several_accounts or data.accounts_left_out):
        return []
    unread, problems = _unread(data), defaultdict(list)
    for finding in _closed(data):
        problems[finding.account_id].append(rows.description(finding))
    for finding in data.findings:
        if finding.kind == "region":
            what = f"{finding.region}: {rows.description(finding)}"
            problems[finding.scope.account_id].append(what)
    inexact = {scope.account_id for scope in unread}
    found = [
        Row(
            account_id or rows.NOT_KNOWN,
            sum(tallies.values(), Tally()),
            problems[account_id],
            account_id not in inexact,
            list(_parts_of_account(account_id, tallies, unread)),
        )
        for account_id, tallies in data.totals.by_account().items()
    ]
    return sorted(found, key=lambda row: (row.ok, row.name))


def _parts_of_account(
    account_id: str | None, tallies: Mapping[str, Tally], unread: set[Scope]
) -> Iterator[str]:
    """Yield the numbers of each region with buckets, and how many regions have none."""
    empty = 0
    for region, tally in tallies.items():
        if not tally.buckets:
            empty += Scope(account_id, region) not in unread
            continue
        more = " or more" if Scope(account_id, region) in unread else ""
        kinds = ((tally.not_encrypted, "not encrypted"), (tally.unknown, "unknown"))
        shown = ", ".join(f"{number:,} {words}" for number, words in kinds if number)
        yield f"{region} {tally.buckets:,}{more}{f' ({shown})' if shown else ''}"
    if 0 < empty < len(tallies):
        yield f"none in {rows.pluralize(empty, 'region')}"


class AccountPart(NamedTuple):
    """The rows of one table of accounts; the page folds those without a problem."""

    caption: str
    rows: Sequence[Row]
    is_folded: bool = False


def parts_of_accounts(accounts: Sequence[Row], *, max_rows: int) -> list[AccountPart]:
    """Return the tables of accounts; if there are many, those with problems have one of their own.

    >>> parts_of_accounts([], max_rows=100)
    []
    """
    caption = "Table buckets in each account, in all its swept regions"
    if len(accounts) <= max_rows:
        return [AccountPart(caption, accounts)] if accounts else []
    problems = [row for row in accounts if not row.ok]
    well = [row for row in accounts if row.ok]
    parts = (
        AccountPart("Accounts with an unencrypted or unknown bucket or table", problems),
        AccountPart("Accounts in which everything is encrypted or exempt", well, is_folded=True),
    )
    return [part for part in parts if part.rows]
