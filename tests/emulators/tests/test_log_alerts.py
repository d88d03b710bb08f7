"""The log service's queries: what is found, what is refused, and when an alert rises."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.emulators.log_alerts import Alert, Chart, LogStore, minutes

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
        "(message.arn: a | select count(*) as n",
        "message.arn: a) | select count(*) as n",
        "message.arn: a and | select count(*) as n",
        "message.arn: a message.arn: b | select count(*) as n",
        "& | select count(*) as n",
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


@pytest.mark.parametrize("splits", [True, False])
def test_the_null_of_a_number_is_no_text(splits: bool) -> None:
    """A text of JSON may be the text `null`, a number is not."""
    store = LogStore(INDEX, splits, null="null")
    query = 'message.arn: a | select max("message.reason") as why, max("message.ms") as most'

    assert store.query(query, RECORDS[3:4]).rows == [{"why": "null", "most": None}]


def test_a_percentile_is_one_of_the_values() -> None:
    """That of the nearest rank; of no value it is NULL."""
    query = (
        'message.arn: a or message.arn: b | select approx_percentile("message.ms", 0.5) as half,'
        ' approx_percentile("message.ms", 0.95) as most'
    )

    assert LogStore(INDEX).query(query, RECORDS).rows == [{"half": 5, "most": 50}]
    assert LogStore(INDEX).query(query, []).rows == [{"half": None, "most": None}]


def test_a_record_has_the_second_of_its_line() -> None:
    """It can be compared with now, cut to an hour, and written as a date."""
    query = (
        "message.arn: a | select to_unixtime(now()) - max(__time__) as age,"
        " date_format(min(__time__ - __time__ % 3600), '%Y-%m-%d %H:%i') as since"
    )
    records = [record(n, timedelta(minutes=10 * n), arn="a") for n in (1, 2)]
    undated = [{"requestId": "request-3", "message": json.dumps({"arn": "a"})}]

    store = LogStore(INDEX)
    assert store.query(query, records + undated, NOW).rows == [
        {"age": 600, "since": "2026-11-22 11:00"}
    ]
    assert store.query(query, undated, NOW).rows == [{"age": None, "since": None}]


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


@pytest.mark.parametrize(("ago", "risen"), [(0, True), (60, True), (61, False)])
def test_an_alert_looks_back_for_as_long_as_it_says(ago: int, *, risen: bool) -> None:
    """What is older does not count."""
    records = [record(n, timedelta(minutes=n * ago), reason="removed", arn="a") for n in range(2)]

    assert alert().rows(records, NOW) == [{"arn": "a", "n": 2}] * risen


@pytest.mark.parametrize("missing", ["arn", "n"])
def test_an_alert_has_the_columns_that_it_uses(missing: str) -> None:
    """Those of its condition and of its groups, whether or not a row is there."""
    columns = {"arn": '"message.arn" as arn', "n": "count(*) as n"}
    del columns[missing]
    (column,) = columns.values()

    with pytest.raises(ValueError, match=f"no column {missing}"):
        alert(Query=f"message.arn: a | select {column}").rows([], NOW)


@pytest.mark.parametrize(("text", "expected"), [("5m", 5), ("60m", 60), ("1h", 60)])
def test_a_time_has_a_unit(text: str, expected: int) -> None:
    """Minutes or hours."""
    assert minutes(text) == timedelta(minutes=expected)


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


@pytest.mark.parametrize(("minutes_ago", "risen"), [(4, False), (5, True)])
def test_an_alert_was_not_checked_before_it_was_created(minutes_ago: int, *, risen: bool) -> None:
    """So one with a threshold of two cannot rise at the first check."""
    created = NOW - timedelta(minutes=minutes_ago)

    assert silence(threshold=2).is_raised([], NOW, created=created) is risen


def test_a_condition_that_nobody_understands_is_refused() -> None:
    """The stand-in knows two comparisons."""
    odd = alert()
    odd.detail["Configuration"]["SeverityConfigurations"] = [
        {"EvalCondition": {"Condition": "n like 1"}}
    ]

    with pytest.raises(ValueError, match="nobody understands 'n like 1'"):
        odd.rows([], NOW)


def chart(query: str) -> Chart:
    """A chart of the ARNs of the last hour."""
    display = {"xAxis": ["arn"], "yAxis": ["n"]}
    return Chart(
        {"search": {"query": query, "start": "-3600s"}, "display": display}, LogStore(INDEX)
    )


def test_a_chart_shows_its_time() -> None:
    """What is older does not count, and what has no time is in none."""
    records = [record(n, timedelta(minutes=40 * n), arn="a") for n in range(3)]
    query = 'message.arn: a | select "message.arn" as arn, count(*) as n group by "message.arn"'

    assert chart(query).rows([*records, *RECORDS[4:]], NOW) == [{"arn": "a", "n": 2}]


def test_a_chart_has_the_columns_that_it_draws() -> None:
    """Those of both axes."""
    with pytest.raises(ValueError, match="no column n"):
        chart('message.arn: a | select "message.arn" as arn').rows([], NOW)
