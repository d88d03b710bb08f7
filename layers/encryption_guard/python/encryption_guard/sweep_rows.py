"""What a sweep found, as rows: for a terminal, a spreadsheet and a program. Everything is pure."""

from __future__ import annotations

from typing import Any

from encryption_guard.findings import Finding, Tally, Totals
from encryption_guard.shell import plain
from encryption_guard.sweep_views import STATE_WORDS, minute, told
from encryption_guard.version import __version__

BUCKET_HEADINGS = ("region", "bucket", "created", "encryption", "done, or to be done")
TABLE_HEADINGS = ("region", "bucket", "table", "created", "encryption", "what to do")
TOTAL_HEADINGS = ("region", "buckets", "encrypted", "not encrypted", "unknown", "exempt")
AUDIT_HEADINGS = ("tables", "unprotected", "unknown tables")

CSV_COLUMNS = (
    "kind",
    "region",
    "bucket",
    "namespace",
    "table",
    "created_at",
    "state",
    "encryption",
    "outcome",
    "reason",
    "detail",
    "exemption",
    "exempt_until",
    "time_to_encrypt_ms",
    "status",
    "code",
    "oss_request_id",
    "arn",
    "version",
)


def is_shown(finding: Finding) -> bool:
    """Whether a finding has a row: every bucket and region, and of the tables those amiss."""
    return finding.kind != "table" or not finding.is_well


def row(finding: Finding) -> tuple[str | None, ...]:
    """The cells under BUCKET_HEADINGS, or of a table those under TABLE_HEADINGS."""
    table = ".".join(part for part in (finding.namespace, finding.table) if part)
    return (
        finding.region,
        finding.bucket,
        *([table] if finding.kind == "table" else []),
        minute(finding.created_at),
        # The algorithm, or which of the other two states it is.
        finding.encryption or STATE_WORDS[finding.state],
        told(finding),
    )


def total_rows(totals: Totals, *, audited: bool) -> list[tuple[str, ...]]:
    """The cells under TOTAL_HEADINGS, and AUDIT_HEADINGS where tables were looked at."""
    named = [*totals.regions.items()]
    if len(named) > 1:
        named.append(("all", totals.all))
    return [(region, *_numbers(tally, audited=audited)) for region, tally in named]


def _numbers(tally: Tally, *, audited: bool) -> tuple[str, ...]:
    buckets = f"{tally.buckets}{' or more' if tally.not_listed else ''}"
    shown = [tally.encrypted, tally.not_encrypted, tally.unknown, tally.exempt]
    if audited:
        shown += [tally.tables, tally.unprotected_tables, tally.unknown_tables]
    return (buckets, *map(str, shown))


def csv_cells(finding: Finding) -> list[str]:
    """The cells under CSV_COLUMNS; none of them is a formula to a spreadsheet."""
    exemption = finding.exemption
    fields: dict[str, Any] = {
        **finding.as_dict(),
        "exemption": exemption.reason if exemption else None,
        "exempt_until": exemption.expires if exemption else None,
        "version": __version__,
    }
    return [_cell(fields[column]) for column in CSV_COLUMNS]


def _cell(value: object) -> str:
    text = "" if value is None else plain(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def summary(totals: Totals, *, applied: bool, audited: bool) -> str:
    """How it went, in a sentence."""
    tally = totals.all
    parts = [
        f"{tally.encrypted} encrypted",
        *([f"{tally.newly_encrypted} of them now"] if applied else []),
        f"{tally.not_encrypted} not encrypted",
        f"{tally.unknown} unknown",
        f"{tally.exempt} exempt",
    ]
    told = f"{_number(tally.buckets, 'table bucket')}: {', '.join(parts)}"
    if tally.dead_lettered:
        told += f"; {_number(tally.dead_lettered, 'dead letter')}"
    if audited:
        told += (
            f"; {_number(tally.tables, 'table')}: {tally.unprotected_tables} unprotected,"
            f" {tally.unknown_tables} unknown"
        )
    if tally.not_listed:
        told += f"; {_number(tally.not_listed, 'list')} not read to the end: there may be more"
    return f"{told}."


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
