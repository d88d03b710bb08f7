"""What has changed since the report of an earlier sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from encryption_guard.arn import Scope
from encryption_guard.errors import ConfigurationError
from encryption_guard.sweep.findings import Finding, Totals
from encryption_guard.untrusted import loads

if TYPE_CHECKING:
    from encryption_guard.cli.report_document import ReportDocument, TallyPart

# Of report.json; docs/report.schema.json describes it.
SCHEMA_VERSION: Final = 1
TOOL: Final = "encryption-guard"

# The ARN of a bucket, and the namespace and name of a table.
Key = tuple[str, str, str]
KINDS: Final = ("new", "gone", "changed")
# Of such a bucket no sweep looks at the tables.
_UNSEEN: Final = frozenset({"skipped", "not_reached"})


@dataclass(frozen=True, slots=True)
class Change:
    """A bucket or table whose state has changed; `before` or `after` is None if it is missing."""

    arn: str
    namespace: str | None
    table: str | None
    before: str | None
    after: str | None

    @property
    def kind(self) -> Literal["new", "gone", "changed"]:
        """Whether the bucket or table is new, gone or changed."""
        if self.before is None:
            return "new"
        return "gone" if self.after is None else "changed"

    @property
    def account_id(self) -> str:
        """The account of the bucket."""
        return account_of(self.arn)

    @property
    def name(self) -> str:
        """The name of the bucket, followed by that of the table."""
        bucket = self.arn.rpartition("/")[2]
        return ".".join(part for part in (bucket, self.namespace, self.table) if part)

    def as_dict(self) -> dict[str, str | None]:
        """Return the change for JSON."""
        return {
            "arn": self.arn,
            "namespace": self.namespace,
            "table": self.table,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new, gone and changed since the report that ended at `since`.

    `not_compared` names what one of both sweeps does not cover to the end: a region, an account, or
    a region of an account (`<account> <region>`). `tables_not_compared` has the ARNs of buckets
    with tables in one report that the other sweep did not look at.
    """

    since: str
    changes: Sequence[Change]
    not_compared: Sequence[str]
    tables_not_compared: Sequence[str] = ()

    def of(self, kind: str) -> list[Change]:
        """Return the changes of one kind."""
        return [change for change in self.changes if change.kind == kind]

    def as_dict(self) -> dict[str, Any]:
        """Return the changes for JSON."""
        by_kind = {kind: [change.as_dict() for change in self.of(kind)] for kind in KINDS}
        return {
            "since": self.since,
            **by_kind,
            "not_compared": list(self.not_compared),
            "tables_not_compared": list(self.tables_not_compared),
        }

    @property
    def sentence(self) -> str:
        """The numbers, in one sentence."""
        numbers = ", ".join(f"{len(self.of(kind))} {kind}" for kind in KINDS)
        left_out = f"; not compared: {', '.join(self.not_compared)}" if self.not_compared else ""
        names = ", ".join(dict.fromkeys(arn.rpartition("/")[2] for arn in self.tables_not_compared))
        left_out += f"; tables not compared, of {names}" if names else ""
        return f"since {self.since}: {numbers}{left_out}."


def read_report(path: Path) -> ReportDocument:
    """Read a report.json; raises ConfigurationError if the file is none of this version."""
    # Only this needs pydantic, which is slow to import.
    from pydantic import ValidationError

    from encryption_guard.cli.report_document import ReportDocument

    try:
        return ReportDocument.model_validate(loads(path.read_bytes()))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        why = f"{place}: {first['msg']}"
    except ValueError as error:
        why = str(error)
    raise ConfigurationError(
        f"{path} is no report.json of version {SCHEMA_VERSION} ({why}); pass one that"
        " `sweep --report` has written."
    )


class Row(NamedTuple):
    """What a comparison needs of a finding of either report."""

    scope: Scope
    kind: str
    key: Key
    outcome: str
    reason: str
    words: str


def compare(
    old: ReportDocument,
    findings: Iterable[Finding],
    totals: Totals,
    *,
    accounts: Sequence[str],
    audits_all: bool,
) -> Changes:
    """Compare the findings of a sweep of these accounts with an earlier report.

    Only the regions of accounts are compared that both cover to the end, and a table only if both
    sweeps looked at all tables of its bucket; `audits_all` says whether this sweep looked at those
    of every bucket. A report has only the tables with a problem: one that is gone was dropped, or
    has none any more.
    """
    # A shell may not know its own account: it is the only one then.
    own = next(iter((*accounts, *old.account_ids)), "")
    listed = {
        Scope(scope.account_id or own, scope.region): not tally.not_listed
        for scope, tally in totals.regions.items()
    }
    covered = {
        Scope(account_id, region): not tally.not_listed
        for account_id, tallies in _accounts(old, own).items()
        for region, tally in tallies.items()
    }
    compared = {scope for scope, is_whole in listed.items() if is_whole and covered.get(scope)}
    old_rows = [
        Row(each.scope(own), each.kind, each.key, each.outcome, each.reason, each.words)
        for each in old.findings
    ]
    rows = [_row(finding, own) for finding in findings]
    unseen = _unseen_tables(old_rows, audits_all=old.audit_tables == "true")
    unseen |= _unseen_tables(rows, audits_all=audits_all)
    before, after = _states(old_rows, unseen), _states(rows, unseen)
    changes = list(_differences(before, after, compared))
    left_out = sorted(_left_out({*listed, *covered}, compared))
    tables = {row.key[0] for row in (*old_rows, *rows) if row.key[2] and row.scope in compared}
    return Changes(old.ended_at, changes, left_out, sorted(tables & unseen))


def _accounts(old: ReportDocument, own: str) -> dict[str, dict[str, TallyPart]]:
    """Return the numbers of each account's regions, also of a report of an earlier version."""
    return old.accounts or dict.fromkeys(old.account_ids or [own], old.regions)


def _left_out(scopes: set[Scope], compared: set[Scope]) -> Iterator[str]:
    """Yield a name for each part that is not compared: as few as there can be."""
    missing = scopes - compared
    regions = {scope.region for scope in missing} - {scope.region for scope in compared}
    accounts = {scope.account_id for scope in missing} - {scope.account_id for scope in compared}
    yield from regions
    rest = [scope for scope in missing if scope.region not in regions]
    yield from {scope.account_id or "" for scope in rest} & accounts
    yield from (" ".join(map(str, scope)) for scope in rest if scope.account_id not in accounts)


def _unseen_tables(rows: Sequence[Row], *, audits_all: bool) -> set[str]:
    """Return the ARNs of the buckets whose tables a sweep did not look at.

    A region with a list that failed is not compared at all.
    """
    buckets = {row.key[0] for row in rows if row.kind == "bucket"}
    if not audits_all:
        return buckets
    skipped = {row.key[0] for row in rows if row.kind == "bucket" and row.outcome in _UNSEEN}
    return skipped | {row.key[0] for row in rows if row.kind == "bucket" and row.reason == "gone"}


def describe(finding: Finding) -> str:
    """Return the state of a bucket or table in a few words."""
    return words(finding.state, finding.outcome, finding.encryption)


def words(state: str, outcome: str, encryption: str | None) -> str:
    """Return a state in a few words.

    >>> words("encrypted", "skipped", "AES256"), words("not_encrypted", "detected", None)
    ('exempt, encrypted (AES256)', 'not encrypted')
    """
    exempt = "exempt, " if outcome == "skipped" else ""
    shown = f" ({encryption})" if encryption else ""
    return f"{exempt}{state.replace('_', ' ')}{shown}"


def _row(finding: Finding, own: str) -> Row:
    scope = Scope(finding.scope.account_id or own, finding.region)
    key, shown = _key(finding), describe(finding)
    return Row(scope, finding.kind, key, finding.outcome, finding.reason, shown)


def account_of(arn: str) -> str:
    """Return the account in an ARN; empty if it has none, in a report that someone has changed."""
    return next(iter(arn.split(":")[3:]), "")


def _key(finding: Finding) -> Key:
    return (str(finding.arn or ""), finding.namespace or "", finding.table or "")


def _states(rows: Iterable[Row], unseen: Collection[str]) -> dict[Key, tuple[Scope, str]]:
    """Return the scope and the state of each bucket, and of each table that is compared."""
    return {
        row.key: (row.scope, row.words)
        for row in rows
        # A list that failed has no name.
        if row.kind == "bucket" or (row.key[2] and row.key[0] not in unseen)
    }


def _differences(
    before: Mapping[Key, tuple[Scope, str]],
    after: Mapping[Key, tuple[Scope, str]],
    compared: set[Scope],
) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        (old_scope, old), (new_scope, new) = (each.get(key, (None, "")) for each in (before, after))
        if old != new and (new_scope or old_scope) in compared:
            arn, namespace, table = key
            yield Change(arn, namespace or None, table or None, old or None, new or None)
