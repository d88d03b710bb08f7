"""The results of a sweep as CSV."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from encryption_guard.cli.csv_rows import CSV_COLUMNS, csv_lines, csv_rows
from encryption_guard.cli.evidence import Evidence
from encryption_guard.version import __version__
from tests.unit.sweep.sweeps import (
    ACCOUNT,
    CALLER,
    LAB,
    REFUSED_REGION,
    bucket,
    data,
    exempt,
    table,
)

STATED = {
    "version": __version__,
    "account_id": ACCOUNT,
    "started_at": "2026-11-22T22:32:04.000Z",
    "caller": CALLER.arn,
    "mode": "enforce",
}


def read(evidence: Evidence) -> list[dict[str, str]]:
    """The rows, each by its columns, without the empty cells."""
    lines = "".join(csv_lines(csv_rows(evidence))).splitlines(keepends=True)
    rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == CSV_COLUMNS
    return [{name: cell for name, cell in row.items() if cell} for row in rows]


def test_each_row_stands_alone() -> None:
    """A finding has its own facts, and when, by whom, in which mode and account it was found."""
    lab = exempt("lab-1", "cn-hangzhou", LAB, status=200, created_at=None, oss_request_id="65F1")

    found = read(data([lab], ["cn-hangzhou"]))[0]

    assert found == STATED | {
        "kind": "bucket",
        "region": "cn-hangzhou",
        "bucket": "lab-1",
        "state": "encrypted",
        "encryption": "AES256",
        "outcome": "skipped",
        "reason": f"exempt: {LAB.reason}",
        "exemption": LAB.reason,
        "exempt_until": "2026-12-02",
        "status": "200",
        "oss_request_id": "65F1",
        "arn": f"acs:osstables:cn-hangzhou:{ACCOUNT}:bucket/lab-1",
    }


def test_rows_for_all_else_follow() -> None:
    """Totals of each region and of all, also without a bucket; exemptions; the sweep itself."""
    evidence = data([bucket()], ["cn-shanghai", "cn-hangzhou"], exemptions=[LAB], complete=False)

    assert read(evidence)[1:] == [
        STATED | {"kind": "total", "region": "cn-hangzhou", "detail": "buckets=1 encrypted=1"},
        STATED | {"kind": "total", "region": "cn-shanghai", "detail": "buckets=0"},
        STATED | {"kind": "total", "region": "all", "detail": "buckets=1 encrypted=1"},
        STATED
        | {
            "kind": "exemption",
            "bucket": "lab-*",
            "exemption": LAB.reason,
            "exempt_until": "2026-12-02",
            "detail": "from shell",
        },
        STATED
        | {
            "kind": "sweep",
            "detail": "incomplete; nothing changed; ended at 2026-11-22T22:32:07.000Z",
        },
    ]


@pytest.mark.parametrize("applied", [True, False])
def test_a_caller_that_is_not_known_leaves_its_cells_empty(applied: bool) -> None:
    """Neither the account of a region that could not be listed is known then."""
    rows = read(data([REFUSED_REGION], ["us-east-1"], caller=None, applied=applied))

    assert all(not {"caller", "account_id"} & row.keys() for row in rows)
    assert ("; applied; " in rows[-1]["detail"]) is applied


def test_rows_are_in_a_fixed_order() -> None:
    """Two reports can be compared line by line."""
    findings = [bucket(name, region) for region in ("cn-b", "cn-a") for name in ("b", "a")]

    assert read(data(findings)) == read(data(reversed(findings)))


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@sum", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20sum"]
)
def test_no_cell_is_a_formula(name: str) -> None:
    """A table may have a name that a spreadsheet would compute."""
    assert read(data([table(name, "sales", bucket())]))[0]["table"] == f"'{name}"


def test_no_separator_splits_a_cell() -> None:
    """Every cell is in quotes, whichever separator a spreadsheet expects."""
    odd = replace(bucket(), detail='a;=1+1\t"b",c')

    line = next(line for line in csv_lines(csv_rows(data([odd]))) if "=1+1" in line)

    assert '"a;=1+1\\t""b"",c"' in line
    assert line.count('","') == len(CSV_COLUMNS) - 1


def test_no_cell_steers_a_terminal() -> None:
    """What a service says stays words."""
    (_, line, *_) = csv_lines(csv_rows(data([replace(bucket(), detail="\x1b[31mred\x07\n")])))

    assert all(char.isprintable() for char in line.removesuffix("\r\n"))
