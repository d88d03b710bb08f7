"""What has changed since an earlier report."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.arn import Scope
from encryption_guard.cli.changes import Change, Changes, compare, read_report
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.report_document import ReportDocument
from encryption_guard.errors import ConfigurationError
from encryption_guard.sweep.findings import Finding
from tests.unit.sweep.sweeps import (
    ACCOUNT,
    FIRST,
    LAB,
    REFUSED_REGION,
    SECOND,
    bucket,
    data,
    exempt,
    not_prepared,
    of_accounts,
    realistic,
    table,
    without,
)

HERE, THERE = "cn-hangzhou", "cn-shanghai"
ORDERS = bucket("orders")


def changes(
    before: Iterable[Finding], after: Iterable[Finding], regions: Iterable[str] = (HERE, THERE)
) -> Changes:
    """What has changed between two sweeps."""
    return between(data(before, list(regions), audit="true"), data(after, list(regions)))


def between(before: Evidence, after: Evidence, *, audits_all: bool = True) -> Changes:
    """What has changed between these two sweeps."""
    old = ReportDocument.model_validate(before.as_document())
    return compare(
        old, after.findings, after.totals, accounts=after.accounts, audits_all=audits_all
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [ORDERS], ("new", None, "encrypted (AES256)")),
        ([ORDERS], [], ("gone", "encrypted (AES256)", None)),
        ([ORDERS], [without("orders")], ("changed", "encrypted (AES256)", "not encrypted")),
        (
            [without("orders")],
            [exempt("orders", HERE, LAB)],
            ("changed", "not encrypted", "exempt, encrypted (AES256)"),
        ),
        (
            [ORDERS],
            [bucket("orders", outcome="kept_stronger", encryption="KMS")],
            ("changed", "encrypted (AES256)", "encrypted (KMS)"),
        ),
    ],
)
def test_each_change_is_named(
    before: list[Finding], after: list[Finding], expected: tuple[str, str | None, str | None]
) -> None:
    """With the state before and now."""
    (change,) = changes(before, after).changes

    assert (change.kind, change.before, change.after) == expected
    assert (change.arn, change.name) == (str(ORDERS.arn), "orders")


def test_what_is_the_same_is_no_change() -> None:
    """Another request or another action does not change a state."""
    same = [bucket("orders", outcome="encrypted", reason="created", oss_request_id="7")]

    found = changes([ORDERS], same)

    assert found.changes == []
    assert found.sentence == "since 2026-11-22T22:32:07.000Z: 0 new, 0 gone, 0 changed."


def test_tables_change_too() -> None:
    """Each by its bucket, its namespace and its name."""
    lost = table("salaries", "payroll", ORDERS)

    found = changes([ORDERS], [ORDERS, lost])

    assert found.changes == [Change(str(ORDERS.arn), "payroll", "salaries", None, "not encrypted")]
    assert found.changes[0].name == "orders.payroll.salaries"


def test_a_region_that_only_one_sweep_knows_is_not_compared() -> None:
    """Its buckets are neither new nor gone: nobody looked."""
    refused = [bucket("eu-1", "us-east-1"), REFUSED_REGION]
    old = data(
        [ORDERS, bucket("parts", THERE), bucket("eu-1", "us-east-1")], [HERE, THERE, "us-east-1"]
    )
    now = data([ORDERS, *refused, bucket("new", "cn-beijing")], [HERE, "us-east-1", "cn-beijing"])

    found = between(old, now)

    assert found.changes == []
    assert found.not_compared == ["cn-beijing", THERE, "us-east-1"]
    assert found.sentence.endswith("0 changed; not compared: cn-beijing, cn-shanghai, us-east-1.")


T1 = table("t1", "ns", ORDERS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (data([ORDERS, T1], [HERE], audit="true"), data([ORDERS], [HERE])),
        (data([ORDERS], [HERE]), data([ORDERS, T1], [HERE], audit="true")),
        (
            data([ORDERS, T1], [HERE], audit="true"),
            data([exempt("orders", HERE, LAB)], [HERE], audit="true"),
        ),
        (
            data([ORDERS, T1], [HERE], audit="true"),
            data([bucket("orders", outcome="not_reached")], [HERE], audit="true"),
        ),
    ],
    ids=["without --tables", "first with --tables", "exempt by now", "not reached"],
)
def test_tables_that_one_sweep_did_not_look_at_are_not_compared(
    before: Evidence, after: Evidence
) -> None:
    """They are neither gone nor new, and the report says so."""
    audits_all = after.settings.audit_tables == "true"

    found = between(before, after, audits_all=audits_all)

    assert [change for change in found.changes if change.table] == []
    assert found.tables_not_compared == [str(ORDERS.arn)]
    assert "tables not compared, of orders" in found.sentence


def test_the_tables_of_a_deleted_bucket_are_gone() -> None:
    """As those of a new bucket are new."""
    assert [change.name for change in changes([ORDERS, T1], []).of("gone")] == [
        "orders",
        "orders.ns.t1",
    ]
    assert [change.name for change in changes([], [ORDERS, T1]).of("new")] == [
        "orders",
        "orders.ns.t1",
    ]


def test_a_report_is_read_again(tmp_path: Path) -> None:
    """As it was written, and with fields that a later version adds."""
    document = realistic().as_document()
    (tmp_path / "report.json").write_text(json.dumps(document | {"more": 1}), "utf-8")

    read = read_report(tmp_path / "report.json")

    assert read.model_dump() == document
    assert read.changes is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "report.json is no report.json of version 1"),
        (b"[]", "the document: Input should be a valid dictionary"),
        (b'{"schema_version": 2}', "schema_version: Input should be 1"),
        (b"\xff", "report.json is no report.json of version 1"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_report_is_misuse(tmp_path: Path, content: bytes | None, why: str) -> None:
    """The sentence says what is wrong with it."""
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=why):
        read_report(path)


def test_the_schema_of_the_docs_is_that_of_the_document() -> None:
    """Other programs are written against it."""
    file = Path(__file__).parents[3] / "docs" / "report.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text("utf-8"))

    assert schema == ReportDocument.model_json_schema()


# Several accounts.


def of(account_id: str, region: str = HERE, name: str = "orders") -> Finding:
    return bucket(name, region, account=account_id)


@pytest.mark.parametrize(
    ("before", "after", "left_out"),
    [
        (of_accounts([FIRST], [of(FIRST)]), of_accounts([FIRST, SECOND], [of(FIRST)]), [SECOND]),
        (
            of_accounts([FIRST, SECOND], [of(FIRST), of(SECOND)]),
            of_accounts([FIRST, SECOND], [of(FIRST), not_prepared(SECOND)]),
            [SECOND],
        ),
        (
            of_accounts([FIRST, SECOND], [of(FIRST), of(SECOND, THERE)]),
            of_accounts([FIRST, SECOND], [of(FIRST), Finding.of_list(Scope(SECOND, THERE))]),
            [f"{SECOND} {THERE}"],
        ),
        (
            of_accounts([FIRST, SECOND], [of(FIRST), of(SECOND, THERE)]),
            of_accounts([FIRST, SECOND], [of(FIRST)], [HERE]),
            [THERE],
        ),
        (
            of_accounts([FIRST], [of(FIRST)], [HERE]),
            of_accounts([FIRST, SECOND], [of(FIRST)]),
            [SECOND, THERE],
        ),
        (of_accounts([FIRST], [], [HERE]), of_accounts([FIRST], [], [THERE]), [HERE, THERE]),
    ],
    ids=[
        *("a new account", "not entered", "a list that failed", "a region less"),
        *("both", "nothing in common"),
    ],
)
def test_only_what_both_sweeps_cover_is_compared(
    before: Evidence, after: Evidence, left_out: list[str]
) -> None:
    """By account and region; the rest is neither new nor gone, and is named in a few words."""
    found = between(before, after)

    assert found.changes == []
    assert found.not_compared == left_out


def test_the_same_name_in_two_accounts_is_two_buckets() -> None:
    """Each change has its account."""
    before = of_accounts([FIRST, SECOND], [of(FIRST), of(SECOND)])
    after = of_accounts([FIRST, SECOND], [of(FIRST)])

    (change,) = between(before, after).changes

    assert (change.kind, change.account_id) == ("gone", SECOND)


def test_a_report_of_an_earlier_version_is_of_its_account() -> None:
    """It has neither accounts in its findings nor numbers of each."""
    document = data([ORDERS, bucket("parts", THERE)], [HERE, THERE]).as_document()
    for name in ("accounts", "accounts_not_swept", "member_role"):
        del document[name]
    for finding in document["findings"]:
        del finding["account"]
    after = of_accounts([ACCOUNT, FIRST], [bucket("parts", THERE, account=ACCOUNT), of(FIRST)])

    old = ReportDocument.model_validate(document)
    found = compare(old, after.findings, after.totals, accounts=after.accounts, audits_all=False)

    assert [(each.kind, each.name) for each in found.changes] == [("gone", "orders")]
    assert found.not_compared == [FIRST]


def test_a_sweep_that_does_not_know_its_account_is_of_that_of_the_report() -> None:
    """There is no other one."""
    before = data([ORDERS], [HERE])
    after = data([], [HERE], caller=None)

    assert [each.kind for each in between(before, after).changes] == ["gone"]


@pytest.mark.parametrize("arn", ["", "x", "acs:osstables"])
def test_a_changed_report_has_no_account_in_its_arn(arn: str) -> None:
    """That is no reason to fail."""
    assert Change(arn, None, None, None, "unknown").account_id == ""
