"""The tables of a sweep in a wide and in a narrow terminal."""

from __future__ import annotations

from typing import Any

import pytest

from encryption_guard.cli.console import Stdout
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.sweep_rows import has_row
from encryption_guard.cli.sweep_tables import causes, print_tables
from encryption_guard.services.inventory import REGIONS
from tests.unit.sweep.sweeps import bucket, data, realistic, without

DENIED: dict[str, Any] = {
    "state": "unknown",
    "outcome": "failed",
    "reason": "unread",
    "status": 403,
    "code": "AccessDenied",
}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is printed of a sweep in a terminal of so many columns."""

    def show(whole: Evidence, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_tables([each for each in whole.findings if has_row(each)], whole, Stdout())
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_breaks_no_region_and_no_heading(printed: Any, columns: int) -> None:
    """Lines end within it, and names of regions can be pasted into a command."""
    text = printed(realistic(), columns)

    arns = [word for word in text.split() if word.startswith("acs:")]
    assert (
        max(len(line) for line in text.splitlines() if not any(a in line for a in arns)) <= columns
    )
    assert {word for word in text.split() if word in REGIONS} == set(REGIONS)
    for heading in ("region", "bucket", "encryption", "action", "encrypted", "unprotected"):
        assert heading in text.split()
    assert "created" not in text.splitlines()[0]


def test_a_wide_terminal_has_each_cause_in_its_row(printed: Any) -> None:
    """Nothing is left out, and nothing stands below."""
    text = printed(data([bucket(**DENIED, detail="It is denied.")]), 200)

    head, row = text.splitlines()[:2]
    assert head.split() == ["region", "bucket", "created", "encryption", "action"]
    assert "could not be read: It is denied." in row
    assert "  It is denied." not in text


def test_a_narrow_terminal_has_each_cause_once_below(printed: Any) -> None:
    """Three hundred buckets with one missing right are one paragraph."""
    denied = [bucket(f"b-{number}", **DENIED, detail="It is denied.") for number in range(300)]

    text = printed(data(denied), 80)

    assert text.count("It is denied.") == 1
    assert "could not be read (403 AccessDenied), 300 rows; the first:\n  It is denied.\n" in text


def test_causes_differ_by_what_failed_and_by_the_answer() -> None:
    """A row without an explanation has nothing to say below."""
    findings = [
        bucket("a", **DENIED, detail="First."),
        bucket("b", **DENIED, detail="Second."),
        bucket("c", **DENIED | {"code": None}, detail="Third."),
        bucket("d", **DENIED | {"reason": "gone", "status": None, "code": None}, detail="Gone."),
        bucket("e", **DENIED, detail=None),
        without("f", detail="Not a failure."),
    ]

    assert list(causes(findings)) == [
        ("could not be read (403)", "Third."),
        ("could not be read (403 AccessDenied), 2 rows; the first", "First."),
        ("not found", "Gone."),
    ]


def test_the_first_table_has_no_empty_line_above(printed: Any) -> None:
    """Also where only totals are printed."""
    assert printed(data([]), 80).splitlines()[0].split()[0] == "region"
