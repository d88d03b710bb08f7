"""The log service's queries: what is found, what is refused, and when an alert rises."""

import json
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


def found(search: str) -> list[str]:
    """The numbers of the records that a search finds."""
    query = f'{search} | select "requestId" as id'
    rows = LogStore(INDEX).query(query, RECORDS).rows
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
    query = 'message.reason: removed | select "requestId" as id'

    assert LogStore(INDEX, splits=False).query(query, RECORDS).rows == []


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
