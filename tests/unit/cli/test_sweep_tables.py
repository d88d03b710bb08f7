"""The tables of a sweep in a wide and in a narrow terminal."""

from __future__ import annotations

from typing import Any

import pytest

from encryption_guard.cli.console import Stdout
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.sweep_rows import has_row
from encryption_guard.cli.sweep_tables import causes, print_tables
from encryption_guard.services.inventory import REGIONS
from tests.unit.sweep.sweeps import (
    ACCOUNT,
    FIRST,
    SECOND,
    bucket,
    data,
    not_prepared,
    of_accounts,
    realistic,
    table,
    without,
)

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


SEVERAL = (ACCOUNT, FIRST, SECOND)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_several_accounts_have_a_column_in_every_terminal(printed: Any, columns: int) -> None:
    """No account is broken; a narrow terminal has the totals of accounts and of regions apart."""
    found = [
        bucket("a", account=ACCOUNT),
        without("a-rather-long-name-of-a-bucket", "cn-shanghai", account=FIRST),
        table("invoices", "sales", bucket("a", account=FIRST)),
        not_prepared(SECOND),
    ]

    text = printed(of_accounts(SEVERAL, found, audit="true"), columns)

    lines = [line.split() for line in text.splitlines()]
    heads = [line[:2] for line in lines if line[:1] == ["account"] and "is" not in line]
    narrow = [["account", "buckets"], ["account", "tables"]]
    assert heads == [["account", "region"]] * (2 if columns < 100 else 3) + (
        narrow if columns < 100 else []
    )
    assert {word for line in lines for word in line} >= {*SEVERAL}
    # The last heading of each line: nothing is cut off.
    assert {line[-1] for line in lines if line} >= {"action", "do", "exempt", "tables"} - (
        {"exempt"} if columns > 100 else set()
    )
    without_causes = text.partition("the account is not prepared (403")[0]
    assert max(map(len, without_causes.splitlines())) <= columns


def test_an_account_that_was_not_entered_is_a_row_and_has_no_number(printed: Any) -> None:
    """Nothing is known of its regions; the totals say that there may be more."""
    found = [bucket(account=ACCOUNT), not_prepared(FIRST)]

    text = printed(of_accounts((ACCOUNT, FIRST), found), 240)

    lines = [line.split() for line in text.splitlines()]
    (row,) = [line for line in lines if "prepared:" in line]
    assert row[:5] == [FIRST, "-", "-", "-", "unknown"]
    totals = [line[:5] for line in lines if line[2:5] == ["0", "or", "more"]]
    assert totals == [
        [FIRST, region, "0", "or", "more"] for region in ("cn-hangzhou", "cn-shanghai")
    ]
    assert ["all", "-", "1", "or", "more"] in [line[:5] for line in lines]


def test_many_accounts_have_the_totals_of_accounts_and_of_regions(printed: Any) -> None:
    """The product of both would take a terminal too long to scroll."""
    accounts = [f"55555555555555{number:02}" for number in range(26)]

    text = printed(of_accounts(accounts), 200)

    lines = [line.split() for line in text.splitlines() if line.split()]
    assert [line[:2] for line in lines if line[0] in ("account", "region")] == [
        ["account", "buckets"],
        ["region", "buckets"],
    ]
    assert len(lines) == 1 + 26 + 1 + 1 + 2 + 1
