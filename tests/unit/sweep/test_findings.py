"""What a sweep found, and how many of each there are."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.arn import Scope
from encryption_guard.services.oss_tables import State
from encryption_guard.settings import Exemption
from encryption_guard.sweep.findings import Finding, Tally, Totals
from tests.unit.fakes import ARN, REGION, START

OUTCOMES = [
    "encrypted",
    "already_encrypted",
    "kept_stronger",
    "skipped",
    "detected",
    "dead_lettered",
    "failed",
    "not_reached",
    "unprotected",
]


HERE, THERE = Scope(None, REGION), Scope(None, "ap-southeast-1")


def finding(**told: Any) -> Finding:
    """A bucket that is encrypted, except for what is told."""
    known = {
        "kind": "bucket",
        "scope": HERE,
        "state": "encrypted",
        "outcome": "already_encrypted",
        "reason": "AES256",
        "arn": ARN,
    }
    return Finding(**(known | told))


def exemption_until(last_day: str | None) -> Exemption:
    entry = {"bucket": "my-*", "reason": "migration", "expires": last_day}
    return Exemption.read(entry)


TABLE = {"kind": "table", "namespace": "sales", "table": "orders"}
REGION_OF_NOTHING = {"kind": "region", "arn": None, "state": "unknown"}
# One finding.


@pytest.mark.parametrize("kind", ["bucket", "table"])
@pytest.mark.parametrize("state", get_args(State))
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_encrypted_or_left_on_purpose_is_well(
    kind: str, state: State, outcome: str
) -> None:
    """Nobody has to look at it; at everything else somebody has to."""
    found = finding(kind=kind, state=state, outcome=outcome)

    assert found.ok == (state == "encrypted" or outcome == "skipped")


def test_a_finding_tells_everything_in_json() -> None:
    """Its exemption is an object with an ISO day, its time is ISO 8601 with its zone."""
    found = finding(
        **TABLE,
        outcome="skipped",
        reason="exempt: migration",
        detail="A sentence.",
        created_at=START,
        encryption="AES256",
        exemption=exemption_until("2026-01-31"),
        time_to_encrypt_ms=0,
        found_by="watch",
        status=200,
        code="",
        oss_request_id="OSS-1",
        dead_letter="written",
    )

    told = json.loads(json.dumps(found.as_dict()))

    assert told == {
        "kind": "table",
        "account": ARN.account_id,
        "region": REGION,
        "state": "encrypted",
        "outcome": "skipped",
        "reason": "exempt: migration",
        "detail": "A sentence.",
        "arn": str(ARN),
        "bucket": "my-table-bucket",
        "namespace": "sales",
        "table": "orders",
        "created_at": "2026-01-02T03:04:05+00:00",
        "encryption": "AES256",
        "exemption": {"bucket": "my-*", "reason": "migration", "expires": "2026-01-31"},
        "time_to_encrypt_ms": 0,
        "found_by": "watch",
        "status": 200,
        "code": "",
        "oss_request_id": "OSS-1",
        "dead_letter": "written",
    }


def test_a_finding_tells_what_it_does_not_know_too() -> None:
    """All keys are always there, in the same order."""
    found = Finding(
        kind="region", scope=HERE, state="unknown", outcome="failed", reason="not_listed"
    )

    told = found.as_dict()

    assert list(told) == list(finding().as_dict())
    assert {key for key, value in told.items() if value is not None} == {
        "kind",
        "region",
        "state",
        "outcome",
        "reason",
    }


@pytest.mark.parametrize("last_day", [None, "2026-01-31"])
def test_an_exemption_may_have_no_end(last_day: str | None) -> None:
    """Its day is null then."""
    told = finding(outcome="skipped", exemption=exemption_until(last_day)).as_dict()

    assert told["exemption"]["expires"] == last_day


# All of them.

states = st.sampled_from(get_args(State))
outcomes = st.sampled_from(OUTCOMES)
times = st.none() | st.datetimes(timezones=st.just(timezone(timedelta(hours=8))))
exemptions = st.none() | st.builds(
    exemption_until, st.none() | st.dates().map(lambda day: day.isoformat())
)
scopes = st.sampled_from([Scope(None, name) for name in (REGION, "us-east-1", "eu-central-1")])
buckets = st.builds(
    finding,
    scope=scopes,
    state=states,
    outcome=outcomes,
    created_at=times,
    exemption=exemptions,
    reason=st.text(),
    detail=st.none() | st.text(),
)
# What an audit can find.
TABLE_ENDS = [
    {"state": "encrypted", "outcome": "already_encrypted"},
    {"state": "unknown", "outcome": "kept_stronger"},
    {"state": "unknown", "outcome": "failed"},
    {"state": "unknown", "outcome": "not_reached"},
    {"state": "unknown", "outcome": "unprotected"},
    {"state": "not_encrypted", "outcome": "unprotected"},
]
tables = st.builds(
    lambda end, **rest: finding(kind="table", **end, **rest),
    st.sampled_from(TABLE_ENDS),
    scope=scopes,
    namespace=st.none() | st.just("sales"),
    table=st.none() | st.just("orders"),
)
lists = st.builds(
    finding, kind=st.just("region"), scope=scopes, state=st.just("unknown"), outcome=outcomes
)
all_findings = st.lists(buckets | tables | lists, max_size=20)


@given(buckets | tables | lists)
def test_any_finding_is_json(found: Finding) -> None:
    """Whatever it holds, it can be written down, and its time read again."""
    told = json.loads(json.dumps(found.as_dict()))

    at = told["created_at"]
    assert (datetime.fromisoformat(at) if at else None) == found.created_at
    assert (told["exemption"] is None) == (found.exemption is None)


@given(all_findings)
def test_every_bucket_is_counted_once(found: list[Finding]) -> None:
    """It is in one of the three states, or exempt."""
    totals = Totals.empty([HERE])
    for each in found:
        totals.count(each)

    for tally in (totals.all, *totals.regions.values()):
        counted = tally.encrypted + tally.not_encrypted + tally.unknown + tally.exempt
        assert counted == tally.buckets
        assert tally.newly_encrypted + tally.dead_lettered <= tally.buckets
        assert tally.unprotected_tables + tally.unknown_tables <= tally.tables
    assert totals.all.buckets == sum(each.kind == "bucket" for each in found)


@given(all_findings)
def test_nothing_is_lost_between_the_regions(found: list[Finding]) -> None:
    """All regions together have what there is in all, and every finding is a number somewhere."""
    totals = Totals.empty([THERE, HERE])
    for each in found:
        totals.count(each)

    by_region = [tally.as_dict() for tally in totals.regions.values()]
    together = {name: sum(tally[name] for tally in by_region) for name in Tally().as_dict()}
    assert together == totals.all.as_dict()
    assert totals.all.buckets + totals.all.tables + totals.all.not_listed == len(found)
    assert set(totals.regions) == {THERE, HERE} | {each.scope for each in found}


@given(all_findings)
def test_all_is_well_where_everything_found_is(found: list[Finding]) -> None:
    """The tally never says that all is well while one finding is not."""
    tally = Tally()
    for each in found:
        tally.count(each)

    lists = [each for each in found if each.kind == "region" or (each.kind, each.table) == LIST]
    others = [each for each in found if each not in lists]
    assert tally.ok == (not lists and all(each.ok for each in others))


LIST = ("table", None)


def counted(*found: Finding) -> dict[str, int]:
    """The numbers that are not zero."""
    tally = Tally()
    for each in found:
        tally.count(each)
    return {name: number for name, number in tally.as_dict().items() if number}


COUNTS = {
    "encrypted before": (finding(), {"buckets": 1, "encrypted": 1}),
    "encrypted now": (
        finding(outcome="encrypted", reason="created"),
        {"buckets": 1, "encrypted": 1, "newly_encrypted": 1},
    ),
    "kept": (finding(outcome="kept_stronger", reason="KMS"), {"buckets": 1, "encrypted": 1}),
    "detected": (
        finding(outcome="detected", state="not_encrypted"),
        {"buckets": 1, "not_encrypted": 1},
    ),
    "refused": (
        finding(outcome="dead_lettered", state="not_encrypted"),
        {"buckets": 1, "not_encrypted": 1, "dead_lettered": 1},
    ),
    "refused again": (
        finding(outcome="dead_lettered", state="not_encrypted", dead_letter="waiting"),
        {"buckets": 1, "not_encrypted": 1, "dead_lettered": 1, "already_waiting": 1},
    ),
    "not confirmed": (
        finding(outcome="failed", state="not_encrypted"),
        {"buckets": 1, "not_encrypted": 1},
    ),
    "unreadable": (finding(outcome="failed", state="unknown"), {"buckets": 1, "unknown": 1}),
    "not reached": (
        finding(outcome="not_reached", state="unknown"),
        {"buckets": 1, "unknown": 1, "not_reached": 1},
    ),
    **{
        f"exempt, {state}": (
            finding(outcome="skipped", state=state),
            {"buckets": 1, "exempt": 1},
        )
        for state in get_args(State)
    },
    "a table": (finding(**TABLE), {"tables": 1}),
    "an unprotected table": (
        finding(**TABLE, outcome="unprotected", state="not_encrypted"),
        {"tables": 1, "unprotected_tables": 1},
    ),
    "a table that was made before": (
        finding(**TABLE, outcome="unprotected", state="unknown"),
        {"tables": 1, "unprotected_tables": 1},
    ),
    "an unreadable table": (
        finding(**TABLE, outcome="failed", state="unknown"),
        {"tables": 1, "unknown_tables": 1},
    ),
    "a table that was not reached": (
        finding(**TABLE, outcome="not_reached", state="unknown"),
        {"tables": 1, "unknown_tables": 1, "not_reached": 1},
    ),
    "a region that was not listed": (
        finding(**REGION_OF_NOTHING, outcome="failed"),
        {"not_listed": 1},
    ),
    "a region that was not reached": (
        finding(**REGION_OF_NOTHING, outcome="not_reached"),
        {"not_listed": 1, "not_reached": 1},
    ),
    "a bucket whose namespaces were not listed": (
        finding(kind="table", state="unknown", outcome="failed"),
        {"not_listed": 1},
    ),
    "a namespace whose tables were not listed": (
        finding(kind="table", state="unknown", outcome="failed", namespace="sales"),
        {"not_listed": 1},
    ),
}


@pytest.mark.parametrize(("found", "numbers"), COUNTS.values(), ids=COUNTS)
def test_each_finding_has_its_numbers(found: Finding, numbers: dict[str, int]) -> None:
    """And no others; two of them count twice."""
    assert counted(found) == numbers
    assert counted(found, found) == {name: 2 * number for name, number in numbers.items()}


def test_a_region_without_findings_is_there() -> None:
    """It is told that nothing was found, in the order in which the regions were given."""
    totals = Totals.empty([THERE, HERE])

    totals.count(finding())

    assert list(totals.regions) == [THERE, HERE]
    assert totals.regions[THERE] == Tally()
    assert totals.regions[HERE] == totals.all == Tally(buckets=1, encrypted=1)


def test_the_totals_of_a_region_are_those_of_all_its_accounts() -> None:
    """An account that was not entered is one unread list in each region, and one in all."""
    other, regions = "2222222222222222", (REGION, "cn-shanghai")
    totals = Totals.empty(Scope(id_, each) for id_ in (ARN.account_id, other) for each in regions)
    totals.count(Finding.of_list(Scope(ARN.account_id, REGION)))
    totals.count(Finding.of_accounts(other, kind="account", reason="not_prepared", detail="no"))
    totals.count(Finding.of_accounts(None, kind="organization", reason="x", detail="no"))

    assert totals.by_region() == {REGION: Tally(not_listed=2), "cn-shanghai": Tally(not_listed=1)}
    assert totals.by_account() == {
        ARN.account_id: {REGION: Tally(not_listed=1), "cn-shanghai": Tally()},
        other: {REGION: Tally(not_listed=1), "cn-shanghai": Tally(not_listed=1)},
    }
    assert totals.all == Tally(not_listed=3)


def test_a_finding_of_an_account_is_about_no_region() -> None:
    """It names the account, and counts as a list that failed."""
    found = Finding.of_accounts("12345", kind="account", reason="not_prepared", detail="no")

    told = found.as_dict()

    assert (told["kind"], told["account"], told["region"]) == ("account", "12345", None)
    assert (told["outcome"], told["state"], found.ok) == ("failed", "unknown", False)
