"""The tables of a sweep; a narrow terminal gets fewer columns, and below them each cause once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from encryption_guard.cli.console import Stdout, is_narrow
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.sweep_rows import (
    ACCOUNT_HEADING,
    AUDIT_HEADINGS,
    BUCKET_HEADINGS,
    CHANGE_HEADINGS,
    TABLE_HEADINGS,
    TALLY_HEADINGS,
    action,
    audits,
    pluralize,
    row,
    tally_rows,
)
from encryption_guard.sweep.findings import FAILED, Finding, Tally

Table = tuple[Sequence[str], Sequence[Sequence[str | None]]]
# A narrow terminal has no room for it.
LEFT_OUT = "created"
# More rows of totals are those of each account and those of each region.
MAX_TOTALS = 50


def print_tables(shown: Sequence[Finding], data: Evidence, stdout: Stdout) -> None:
    """Print the findings, the changes since an earlier report and the totals."""
    narrow = is_narrow()
    tables = [
        *_of_findings(shown, narrow=narrow, several=data.has_several_accounts),
        _changes(data),
        *_totals(data, narrow=narrow),
    ]
    for number, (headings, rows) in enumerate(each for each in tables if each[1]):
        if number:
            stdout.line()
        stdout.table(headings, rows)
    if narrow:
        for label, why in causes(shown):
            stdout.paragraph(label, why)


def _of_findings(shown: Sequence[Finding], *, narrow: bool, several: bool) -> Iterator[Table]:
    buckets = [finding for finding in shown if finding.kind != "table"]
    tables = [finding for finding in shown if finding.kind == "table"]
    for headings, findings in ((BUCKET_HEADINGS, buckets), (TABLE_HEADINGS, tables)):
        names, cells = (
            _narrowed(headings, findings)
            if narrow
            else (headings, [row(finding) for finding in findings])
        )
        owners = [finding.account_id for finding in findings]
        yield _with_owners(names, cells, owners) if several else (names, cells)


def _with_owners(
    headings: Sequence[str],
    rows: Sequence[Sequence[str | None]],
    owners: Sequence[str | None],
) -> Table:
    """Return the table with the account of each row in front."""
    cells = [(owner, *each) for owner, each in zip(owners, rows, strict=True)]
    return (ACCOUNT_HEADING, *headings), cells


def _narrowed(
    headings: tuple[str, ...], findings: Sequence[Finding]
) -> tuple[tuple[str, ...], list[tuple[str | None, ...]]]:
    """Return the table without a column, and with the action alone instead of its cause."""
    left_out = headings.index(LEFT_OUT)
    cells = [(*row(finding)[:-1], action(finding)) for finding in findings]
    shown = [each[:left_out] + each[left_out + 1 :] for each in cells]
    return tuple(name for name in headings if name != LEFT_OUT), shown


def _changes(data: Evidence) -> Table:
    changes = data.changes.changes if data.changes else ()
    rows = [(each.kind, each.name, each.before, each.after) for each in changes]
    owners = [each.account_id for each in changes]
    several = data.has_several_accounts
    return _with_owners(CHANGE_HEADINGS, rows, owners) if several else (CHANGE_HEADINGS, rows)


def causes(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Yield each cause of a failure once: what failed how often, and the first explanation."""
    failed = [finding for finding in findings if finding.outcome == FAILED and finding.detail]
    for (what, status, code), members in groupby(sorted(failed, key=_cause), key=_cause):
        same = list(members)
        answer = " ".join(filter(None, (status, code)))
        label = f"{what} ({answer})" if answer else what
        number = f", {pluralize(len(same), 'row')}; the first" if len(same) > 1 else ""
        yield f"{label}{number}", same[0].detail or ""


def _cause(finding: Finding) -> tuple[str, str, str]:
    return action(finding), str(finding.status or ""), finding.code or ""


def _totals(data: Evidence, *, narrow: bool) -> Iterator[Table]:
    totals = data.totals
    regions = [((region,), tally) for region, tally in totals.by_region().items()]
    scopes = [((account or "", region), each) for (account, region), each in totals.regions.items()]
    if not data.has_several_accounts:
        yield from _tallies(("region",), regions, data, narrow=narrow)
    elif not narrow and len(scopes) <= MAX_TOTALS:
        yield from _tallies((ACCOUNT_HEADING, "region"), scopes, data, narrow=narrow)
    else:
        accounts = [
            ((account or "",), sum(tallies.values(), Tally()))
            for account, tallies in totals.by_account().items()
        ]
        yield from _tallies((ACCOUNT_HEADING,), accounts, data, narrow=narrow)
        yield from _tallies(("region",), regions, data, narrow=narrow)


def _tallies(
    names: tuple[str, ...],
    tallies: Sequence[tuple[tuple[str, ...], Tally]],
    data: Evidence,
    *,
    narrow: bool,
) -> Iterator[Table]:
    """Yield a table of totals; a narrow terminal gets those of tables apart."""
    audited = audits(data.settings, data.totals)
    everything = ("all", *("" for _ in names[1:]))
    shown = [*tallies, (everything, data.totals.all)] if len(tallies) > 1 else tallies
    rows, headings = tally_rows(shown, audited=audited), (*names, *TALLY_HEADINGS)
    if not (narrow and audited):
        yield headings + (AUDIT_HEADINGS if audited else ()), rows
        return
    columns = len(headings)
    yield headings, [cells[:columns] for cells in rows]
    yield (*names, *AUDIT_HEADINGS), [(*cells[: len(names)], *cells[columns:]) for cells in rows]
