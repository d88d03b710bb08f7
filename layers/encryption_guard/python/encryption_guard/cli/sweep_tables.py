"""The tables of a sweep; a narrow terminal gets fewer columns, and below them each cause once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from encryption_guard.cli.console import Stdout, is_narrow
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.sweep_rows import (
    AUDIT_HEADINGS,
    BUCKET_HEADINGS,
    CHANGE_HEADINGS,
    TABLE_HEADINGS,
    TOTAL_HEADINGS,
    action,
    audits,
    pluralize,
    row,
    total_rows,
)
from encryption_guard.sweep.findings import FAILED, Finding

Table = tuple[Sequence[str], Sequence[Sequence[str | None]]]
# A narrow terminal has no room for it.
LEFT_OUT = "created"


def print_tables(shown: Sequence[Finding], data: Evidence, stdout: Stdout) -> None:
    """Print the findings, the changes since an earlier report and the totals."""
    narrow = is_narrow()
    changes = data.changes.changes if data.changes else ()
    changed = [(each.kind, each.name, each.before, each.after) for each in changes]
    tables = [
        *_of_findings(shown, narrow=narrow),
        (CHANGE_HEADINGS, changed),
        *_totals(data, narrow=narrow),
    ]
    for number, (headings, rows) in enumerate(each for each in tables if each[1]):
        if number:
            stdout.line()
        stdout.table(headings, rows)
    if narrow:
        for label, why in causes(shown):
            stdout.paragraph(label, why)


def _of_findings(shown: Sequence[Finding], *, narrow: bool) -> Iterator[Table]:
    buckets = [finding for finding in shown if finding.kind != "table"]
    tables = [finding for finding in shown if finding.kind == "table"]
    for headings, findings in ((BUCKET_HEADINGS, buckets), (TABLE_HEADINGS, tables)):
        if narrow:
            yield _narrowed(headings, findings)
        else:
            yield headings, [row(finding) for finding in findings]


def _narrowed(headings: Sequence[str], findings: Sequence[Finding]) -> Table:
    """Return the table without a column, and with the action alone instead of its cause."""
    left_out = headings.index(LEFT_OUT)
    cells = [(*row(finding)[:-1], action(finding)) for finding in findings]
    shown = [each[:left_out] + each[left_out + 1 :] for each in cells]
    return [name for name in headings if name != LEFT_OUT], shown


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
    audited = audits(data.settings, data.totals)
    rows = total_rows(data.totals, audited=audited)
    if not (narrow and audited):
        yield TOTAL_HEADINGS + (AUDIT_HEADINGS if audited else ()), rows
        return
    columns = len(TOTAL_HEADINGS)
    yield TOTAL_HEADINGS, [cells[:columns] for cells in rows]
    yield ("region", *AUDIT_HEADINGS), [(cells[0], *cells[columns:]) for cells in rows]
