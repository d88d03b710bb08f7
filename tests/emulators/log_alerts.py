"""A stand-in for the queries, alerts and charts of the log service.

A query is a search and, behind a `|`, an analysis. Of the search it knows what the alerts use:
`field: value`, `field > number`, `and`, `or`, `not` and parentheses. The analysis is SQL, which
SQLite runs on a table with a column for each field of the index, and one for `__time__`. SQLite
lacks the functions of the service, so those that the charts use are defined here.
https://help.aliyun.com/en/sls/sql-syntax-and-functions/
https://www.alibabacloud.com/help/doc-detail/63447.html (approx_percentile)
https://help.aliyun.com/zh/ros/developer-reference/aliyun-sls-index
https://www.alibabacloud.com/help/en/sls/developer-reference/api-sls-2020-12-30-struct-chart

Not documented, so both are possible here: whether a field without a delimiter of its own is split
into words, whether the null of a JSON text is NULL or a text, and whether a count of nothing is a
row. The times are those of UTC.
"""

import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from operator import gt, lt
from typing import Any, Final, NamedTuple

Record = Mapping[str, Any]
Test = Callable[[Record], bool]

_TOKEN = re.compile(r'\s*(?:([()])|([\w.]+)\s*([:>])\s*("[^"]*"|[^\s()]+)|(\w+))')
_DELIMITERS = re.compile(r"""[,\s'";=()\[\]{}?@&<>/:]+""")
# An analysis reads the whole log up to its first clause.
_CLAUSE = re.compile(r" (?:group|order) by ")
_CONDITION = re.compile(r"(\w+) ([<>]) (\d+)")
TYPES = {":": "text", ">": "long"}
# Every record has it, whatever the index: the second in which it was written.
TIME: Final = "__time__"


@dataclass(frozen=True)
class LogStore:
    """A store with this index: the type of each field.

    `splits` says whether texts are split into words, `null` what the null of a JSON text is, and
    `counts_nothing` whether an analysis of no record has a row.
    """

    index: Mapping[str, str]
    splits: bool = True
    null: str | None = None
    counts_nothing: bool = True

    def query(
        self, query: str, records: Iterable[Record] = (), now: datetime | None = None
    ) -> "Answer":
        """What a query finds; ValueError for one that the service would refuse."""
        search, separator, analysis = query.partition(" | ")
        if not separator:
            raise ValueError(f"{query!r} has no analysis")
        found = Search(search, self).run(records)
        with sqlite3.connect(":memory:") as database:
            _define_functions(database, now or datetime.now(timezone.utc))
            table = {**self.index, TIME: "long"}
            columns = ", ".join(f"[{name}] {kind}" for name, kind in table.items())
            database.execute(f"create table log ({columns})")
            places = ", ".join("?" * len(table))
            rows = [tuple(self.field(record, name) for name in table) for record in found]
            database.executemany(f"insert into log values ({places})", rows)  # noqa: S608  only ?
            try:
                cursor = database.execute(_with_table(analysis))
            except sqlite3.OperationalError as error:
                raise ValueError(str(error)) from None
            names = [column[0] for column in cursor.description]
            answer = [dict(zip(names, row, strict=True)) for row in cursor]
            return Answer(names, answer if found or self.counts_nothing else [])

    def field(self, record: Record, name: str) -> Any:
        """A field of a record; behind a dot, one of the JSON object in it."""
        if name == TIME:
            written_at = _written_at(record)
            return int(written_at.timestamp()) if written_at else None
        outer, _, inner = name.partition(".")
        value = record.get(outer)
        if not inner:
            return value
        try:
            document = json.loads(value or "null")
        except ValueError:
            return None
        if not isinstance(document, dict) or inner not in document:
            return None
        if document[inner] is None:
            return self.null if self.index.get(name) == "text" else None
        return document[inner]


class Answer(NamedTuple):
    """The columns of an analysis, and its rows."""

    columns: list[str]
    rows: list[dict[str, Any]]


def _with_table(analysis: str) -> str:
    # SQLite takes an unknown name in double quotes for a text, but not one in brackets.
    named = re.sub(r'"([^"]*)"', r"[\1]", analysis)
    clause = _CLAUSE.search(named)
    at = clause.start() if clause else len(named)
    return f"{named[:at]} from log{named[at:]}"


class _Percentile:
    """`approx_percentile(x, share)`: here the exact one, by the nearest rank; it skips NULL."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._share = 0.0

    def step(self, value: Any, share: float = 0.5) -> None:
        """Take one row."""
        self._share = share
        if value is not None:
            self._values.append(value)

    def finalize(self) -> Any:
        """Return the result, or None without a value."""
        rank = max(1, math.ceil(self._share * len(self._values)))
        return sorted(self._values)[rank - 1] if self._values else None


def _define_functions(database: sqlite3.Connection, now: datetime) -> None:
    def date_format(seconds: int | None, form: str) -> str | None:
        if seconds is None:
            return None
        # Those of MySQL, in which a minute is %i.
        known = form.replace("%i", "%M")
        return datetime.fromtimestamp(seconds, timezone.utc).strftime(known)

    database.create_function("now", 0, now.isoformat)
    # It takes a point in time, and no number.
    database.create_function(
        "to_unixtime", 1, lambda at: datetime.fromisoformat(at).timestamp(), deterministic=True
    )
    database.create_function("date_format", 2, date_format, deterministic=True)
    database.create_aggregate("approx_percentile", 2, _Percentile)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


class Search:
    """The search of a query, for one store."""

    def __init__(self, text: str, store: LogStore) -> None:
        self._store = store
        self._tokens = list(_tokens(text))
        self._test = self._alternatives()
        if self._tokens:
            raise ValueError(f"{text!r}: unexpected {self._tokens[0]}")

    def run(self, records: Iterable[Record]) -> list[Record]:
        """The records that it finds."""
        return [record for record in records if self._test(record)]

    def _alternatives(self) -> Test:
        tests = [self._conjunction()]
        while self._take("or"):
            tests.append(self._conjunction())
        return lambda record: any(test(record) for test in tests)

    def _conjunction(self) -> Test:
        tests = [self._condition()]
        while self._take("and"):
            tests.append(self._condition())
        return lambda record: all(test(record) for test in tests)

    def _condition(self) -> Test:
        if self._take("not"):
            refused = self._condition()
            return lambda record: not refused(record)
        if self._take("("):
            inner = self._alternatives()
            if not self._take(")"):
                raise ValueError("a parenthesis is open")
            return inner
        if not self._tokens or len(self._tokens[0]) == 1:
            raise ValueError(f"expected a condition, not {self._tokens[:1]}")
        name, operator, value = self._tokens.pop(0)
        if self._store.index.get(name) != TYPES[operator]:
            raise ValueError(f"{name} is not indexed for {operator}")
        if operator == ">":
            return lambda record: _number(self._store.field(record, name)) > float(value)
        return lambda record: self._matches(str(self._store.field(record, name)), value.strip('"'))

    def _matches(self, text: str, wanted: str) -> bool:
        text, wanted = text.lower(), wanted.lower()
        if not self._store.splits:
            return text == wanted
        return {*_DELIMITERS.split(wanted)} <= {*_DELIMITERS.split(text)}

    def _take(self, word: str) -> bool:
        if self._tokens[:1] != [(word,)]:
            return False
        self._tokens.pop(0)
        return True


def _tokens(text: str) -> Iterator[tuple[str, ...]]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text!r}: nobody understands {text[at:]!r}")
        at = match.end()
        parenthesis, name, operator, value, word = match.groups()
        yield (name, operator, value) if name else (parenthesis or word,)


@dataclass(frozen=True)
class Alert:
    """An alert: the `Detail` of ALIYUN::SLS::Alert."""

    detail: Mapping[str, Any]
    store: LogStore

    @property
    def asked(self) -> Mapping[str, Any]:
        """Its one query, with where and when it looks."""
        (asked,) = self.detail["Configuration"]["QueryList"]
        found: Mapping[str, Any] = asked
        return found

    @property
    def looks_back(self) -> timedelta:
        """How much of the past it looks at."""
        return minutes(self.asked["Start"].removeprefix("-"))

    def rows(self, records: Iterable[Record], now: datetime) -> list[dict[str, Any]]:
        """The rows that meet its condition at this moment; ValueError if it cannot be evaluated."""
        return self._evaluate(records, now)[1]

    def is_raised(
        self, records: Sequence[Record], now: datetime, *, created: datetime | None = None
    ) -> bool:
        """Whether this check and those before it, as many as its threshold says, raise it.

        There was no check before the alert was created.
        """
        configuration = self.detail["Configuration"]
        interval = minutes(self.detail["Schedule"]["Interval"])
        times = [now - number * interval for number in range(configuration["Threshold"])]
        if created and times[-1] < created:
            return False
        checks = [self._evaluate(records, at) for at in times]
        is_silence_bad = configuration["NoDataFire"]
        return all(met or (is_silence_bad and not found) for found, met in checks)

    def _evaluate(
        self, records: Iterable[Record], now: datetime
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All rows of its query, and those that meet its condition."""
        configuration = self.detail["Configuration"]
        (severity,) = configuration["SeverityConfigurations"]
        condition = _CONDITION.fullmatch(severity["EvalCondition"]["Condition"])
        if condition is None:
            raise ValueError(f"nobody understands {severity['EvalCondition']['Condition']!r}")
        name, operator, threshold = condition.groups()
        recent = written_between(records, now - self.looks_back, now)
        columns, rows = self.store.query(self.asked["Query"], recent, now)
        for used in (name, *configuration["GroupConfiguration"]["Fields"]):
            if used not in columns:
                raise ValueError(f"its query has no column {used}")
        compare = {">": gt, "<": lt}[operator]
        return rows, [row for row in rows if compare(row[name], int(threshold))]


@dataclass(frozen=True)
class Chart:
    """A chart of a dashboard: one of the `Charts` of ALIYUN::SLS::Dashboard."""

    chart: Mapping[str, Any]
    store: LogStore

    def rows(self, records: Iterable[Record], now: datetime) -> list[dict[str, Any]]:
        """What it shows at this moment; ValueError if it lacks a column that it draws."""
        search, display = self.chart["search"], self.chart["display"]
        looks_back = timedelta(seconds=int(search["start"].removeprefix("-").removesuffix("s")))
        recent = written_between(records, now - looks_back, now)
        columns, rows = self.store.query(search["query"], recent, now)
        for used in (*display["xAxis"], *display["yAxis"]):
            if used not in columns:
                raise ValueError(f"its query has no column {used}")
        return rows


def written_between(records: Iterable[Record], start: datetime, end: datetime) -> list[Record]:
    """The records of this time, both ends included; one without a time is of no time."""
    return [one for one in records if (at := _written_at(one)) and start <= at <= end]


def minutes(text: str) -> timedelta:
    """A time as the service writes it, such as 5m or 1h."""
    return timedelta(minutes=int(text[:-1]) * {"m": 1, "h": 60}[text[-1]])


def _written_at(record: Record) -> datetime | None:
    try:
        timestamp = json.loads(record["message"])["timestamp"]
    except (KeyError, ValueError):
        return None
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
