"""The log service's queries: what is found, what is refused, and when an alert rises."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.emulators.log_alerts import Alert, Chart, LogStore

INDEX = {"requestId": "text", "message.reason": "text", "message.arn": "text", "message.ms": "long"}
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


def record(number: int, ago: timedelta = timedelta(0), **fields: Any) -> dict[str, Any]:
    """A record with a JSON text."""
    line = {"timestamp": (NOW - ago).isoformat(), **fields}
    return {"requestId": f"request-{number}", "message": json.dumps(line)}


RECORDS = [
    record(1, reason="encryption removed", arn="a", ms=5),
    record(2, reason="Encryption REMOVED", arn="b", ms=50),
    record(3, reason="removed: no encryption, why", arn="a", ms=None),
    record(4, reason=None, arn="a"),
    {"requestId": "request-5", "message": "no JSON"},
    {"requestId": "request-6"},
]


def found(search: str, *, splits: bool = True) -> list[str]:
    """The numbers of the records that a search finds."""
    query = f'{search} | select "requestId" as id'
    rows = LogStore(INDEX, splits).query(query, RECORDS).rows
    return [row["id"].removeprefix("request-") for row in rows]


@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        ('message.reason: "encryption removed"', "123"),
        ("message.reason: removed", "123"),
        ("message.reason: remove", ""),
        ("message.ms > 4", "12"),
        ("message.ms > 5", "2"),
        ("message.reason: removed and message.ms > 5", "2"),
        ("message.ms > 5 or message.arn: a", "1234"),
        ("message.arn: a and message.ms > 4 or message.arn: b", "12"),
        ("message.arn: a and (message.ms > 4 or message.arn: b)", "1"),
        ("not message.arn: a and message.arn: b", "2"),
        ("not (message.arn: a or message.arn: b)", "56"),
    ],
)
def test_a_search_finds_records(search: str, numbers: str) -> None:
    """By the words of a field in any casing, by numbers, and by what is composed of both."""
    assert "".join(found(search)) == numbers


def test_a_text_may_count_as_a_whole() -> None:
    """Then a word of it finds nothing."""
    assert found("message.reason: removed", splits=False) == []
    assert found('message.reason: "encryption removed"', splits=False) == ["1", "2"]


@pytest.mark.parametrize(
    "query",
    [
        "message.arn: a",
        "message.level: ERROR | select count(*) as n",
        "message.arn > 5 | select count(*) as n",
        "message.ms: 5 | select count(*) as n",
        "message.arn: a) | select count(*) as n",
        "message.arn: a message.arn: b | select count(*) as n",
        'message.arn: a | select "message.level" as level',
        "message.arn: a | select count(* as n",
    ],
)
def test_what_the_service_would_refuse_is_refused(query: str) -> None:
    """No analysis, a field that is not indexed, or no query at all."""
    with pytest.raises(ValueError, match=r".+"):
        LogStore(INDEX).query(query, RECORDS)


def test_an_analysis_is_sql() -> None:
    """It groups, counts and compares; a value that is not there is NULL."""
    query = (
        'message.arn: a or message.arn: b | select "message.arn" as arn, count(*) as lines,'
        ' max("message.ms") as most group by "message.arn" having count(*) > 1'
    )

    assert LogStore(INDEX).query(query, RECORDS).rows == [{"arn": "a", "lines": 3, "most": 5}]


def alert(**query: str) -> Alert:
    """An alert that rises at the second line of an ARN, but for what its query says."""
    known = {
        "Query": 'message.reason: removed | select "message.arn" as arn, count(*) as n group by'
        ' "message.arn"',
        "Start": "-60m",
    }
    configuration = {
        "QueryList": [known | query],
        "GroupConfiguration": {"Type": "custom", "Fields": ["arn"]},
        "SeverityConfigurations": [{"EvalCondition": {"Condition": "n > 1"}}],
    }
    return Alert({"Configuration": configuration}, LogStore(INDEX))


@pytest.mark.parametrize("missing", ["arn", "n"])
def test_an_alert_has_the_columns_that_it_uses(missing: str) -> None:
    """Those of its condition and of its groups, whether or not a row is there."""
    columns = {"arn": '"message.arn" as arn', "n": "count(*) as n"}
    del columns[missing]
    (column,) = columns.values()

    with pytest.raises(ValueError, match=f"no column {missing}"):
        alert(Query=f"message.arn: a | select {column}").rows([], NOW)


def silence(*, threshold: int = 1, no_data: bool = False, counts: bool = True) -> Alert:
    """An alert that rises if no line was written in the five minutes before a check."""
    query = {"Query": "message.arn: a | select count(*) as n", "Start": "-5m"}
    configuration = {
        "QueryList": [query],
        "GroupConfiguration": {"Fields": []},
        "SeverityConfigurations": [{"EvalCondition": {"Condition": "n < 1"}}],
        "Threshold": threshold,
        "NoDataFire": no_data,
    }
    detail = {"Schedule": {"Interval": "5m"}, "Configuration": configuration}
    return Alert(detail, replace(LogStore(INDEX), counts_nothing=counts))


@pytest.mark.parametrize(
    ("no_data", "counts", "risen"),
    [(False, True, True), (True, True, True), (True, False, True), (False, False, False)],
)
def test_nothing_is_a_zero_or_no_data(*, no_data: bool, counts: bool, risen: bool) -> None:
    """A condition sees a row with 0; where there is no row, only `NoDataFire` raises the alert."""
    assert silence(no_data=no_data, counts=counts).is_raised([], NOW) is risen


@pytest.mark.parametrize(
    ("ago", "threshold", "risen"), [(6, 1, True), (6, 2, False), (11, 2, True), (11, 3, False)]
)
def test_a_threshold_counts_checks_in_a_row(ago: int, threshold: int, *, risen: bool) -> None:
    """Each of them has to meet the condition."""
    records = [record(1, timedelta(minutes=ago), arn="a")]

    assert silence(threshold=threshold).is_raised(records, NOW) is risen


def chart(query: str) -> Chart:
    """A chart of the ARNs of the last hour."""
    display = {"xAxis": ["arn"], "yAxis": ["n"]}
    return Chart(
        {"search": {"query": query, "start": "-3600s"}, "display": display}, LogStore(INDEX)
    )


def test_a_chart_has_the_columns_that_it_draws() -> None:
    """Those of both axes."""
    with pytest.raises(ValueError, match="no column n"):
        chart('message.arn: a | select "message.arn" as arn').rows([], NOW)
