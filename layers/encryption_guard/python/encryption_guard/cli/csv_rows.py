"""The results of a sweep as CSV: a row for each finding, total and exemption, and for the sweep.

Each row stands alone: it has the account, the time, the caller and the version.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from encryption_guard.cli.evidence import Conditions, Evidence, stamp
from encryption_guard.cli.sweep_rows import sort_key
from encryption_guard.sweep.findings import Finding, Tally
from encryption_guard.untrusted import plain
from encryption_guard.version import __version__

# A spreadsheet reads what begins with one of them as a formula; some also read the wide forms.
FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

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
    "account_id",
    "started_at",
    "caller",
    "mode",
)


def csv_rows(data: Evidence) -> Iterator[list[str]]:
    """Yield the heading and all rows, in a fixed order."""
    yield list(CSV_COLUMNS)
    for finding in sorted(data.findings, key=sort_key):
        yield finding_cells(finding, data.conditions)
    yield from closing_rows(data)


def closing_rows(data: Evidence) -> Iterator[list[str]]:
    """Yield the rows behind those of the findings: totals, exemptions, and the sweep itself."""
    conditions, account_id = data.conditions, ",".join(data.accounts)
    places = {(known or "", region): each for (known, region), each in data.totals.regions.items()}
    tallies = [(*place, places[place]) for place in sorted(places)]
    for known, region, tally in [*tallies, ("", "all", data.totals.all)]:
        total = {"kind": "total", "region": region, "detail": numbers(tally)}
        yield _cells(total, conditions, known or account_id)
    for exemption in conditions.exemptions:
        fields = {
            "kind": "exemption",
            "bucket": exemption.bucket,
            "exemption": exemption.reason,
            "exempt_until": exemption.expires,
            "detail": f"from {conditions.exemptions_from}",
        }
        yield _cells(fields, conditions, account_id)
    what = "complete" if data.complete else "incomplete"
    changes = "applied" if conditions.applied else "nothing changed"
    only = f"; only buckets named {conditions.glob}" if conditions.glob else ""
    left_out = ", ".join(data.accounts_not_swept)
    missing = f"; accounts not swept: {left_out}" if left_out else ""
    detail = f"{what}; {changes}; ended at {stamp(data.at)}{only}{missing}"
    yield _cells({"kind": "sweep", "detail": detail}, conditions, account_id)


def finding_cells(finding: Finding, conditions: Conditions) -> list[str]:
    """Return the cells of a finding under CSV_COLUMNS."""
    exemption = finding.exemption
    fields = finding.as_dict() | {
        "exemption": exemption.reason if exemption else None,
        "exempt_until": exemption.expires if exemption else None,
    }
    caller = conditions.caller
    owner = finding.account_id or (caller.account_id if caller else None)
    return _cells(fields, conditions, owner)


def numbers(tally: Tally) -> str:
    """Return the numbers of a tally that are not zero."""
    shown = [f"{name}={number}" for name, number in tally.as_dict().items() if number]
    return " ".join(shown) or "buckets=0"


def csv_lines(rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield each row as a line; every cell is quoted, so that no separator splits it."""
    for row in rows:
        line = io.StringIO()
        csv.writer(line, quoting=csv.QUOTE_ALL).writerow(row)
        yield line.getvalue()


def _cells(fields: dict[str, Any], conditions: Conditions, account_id: str | None) -> list[str]:
    caller = conditions.caller
    fields = fields | {
        "version": __version__,
        "account_id": account_id,
        "started_at": stamp(conditions.started_at),
        "caller": caller.arn if caller else None,
        "mode": conditions.settings.mode,
    }
    return [_cell(fields.get(column)) for column in CSV_COLUMNS]


def _cell(value: object) -> str:
    """Return a cell that a spreadsheet does not read as a formula."""
    text = "" if value is None else plain(value)
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text
