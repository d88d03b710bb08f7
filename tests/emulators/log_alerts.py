"""A stand-in for the queries and alerts of the log service.

A query is a search and, behind a `|`, an analysis. Of the search it knows what the alerts use:
`field: value`, `field > number`, `and`, `or`, `not` and parentheses. The analysis is SQL, which
SQLite runs on a table with a column for each field of the index.
https://help.aliyun.com/en/sls/sql-syntax-and-functions/
https://help.aliyun.com/zh/ros/developer-reference/aliyun-sls-index

Whether a field without a delimiter of its own is split into words, and whether the null of a JSON
text is NULL or a text, is not documented: both are possible here.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

Record = Mapping[str, Any]
Test = Callable[[Record], bool]

_TOKEN = re.compile(r'\s*(?:([()])|([\w.]+)\s*([:>])\s*("[^"]*"|[^\s()]+)|(\w+))')
_DELIMITERS = re.compile(r"""[,\s'";=()\[\]{}?@&<>/:]+""")
TYPES = {":": "text", ">": "long"}


@dataclass(frozen=True)
class LogStore:
    """A store with this index: the type of each field.

    `splits` says whether texts are split into words, `null` what the null of a JSON text is.
    """

    index: Mapping[str, str]
    splits: bool = True
    null: str | None = None

    def query(self, query: str, records: Iterable[Record] = ()) -> "Answer":
        """What a query finds; ValueError for one that the service would refuse."""
        search, separator, analysis = query.partition(" | ")
        if not separator:
            raise ValueError(f"{query!r} has no analysis")
        found = Search(search, self).run(records)
        with sqlite3.connect(":memory:") as database:
            columns = ", ".join(f"[{name}] {kind}" for name, kind in self.index.items())
            database.execute(f"create table log ({columns})")
            places = ", ".join("?" * len(self.index))
            rows = [tuple(self.field(record, name) for name in self.index) for record in found]
            database.executemany(f"insert into log values ({places})", rows)  # noqa: S608  only ?
            try:
                cursor = database.execute(_with_table(analysis))
            except sqlite3.OperationalError as error:
                raise ValueError(str(error)) from None
            names = [column[0] for column in cursor.description]
            return Answer(names, [dict(zip(names, row, strict=True)) for row in cursor])

    def field(self, record: Record, name: str) -> Any:
        """A field of a record; behind a dot, one of the JSON object in it."""
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
        return self.null if document[inner] is None else document[inner]


class Answer(NamedTuple):
    """The columns of an analysis, and its rows."""

    columns: list[str]
    rows: list[dict[str, Any]]


def _with_table(analysis: str) -> str:
    # SQLite takes an unknown name in double quotes for a text, but not one in brackets.
    named = re.sub(r'"([^"]*)"', r"[\1]", analysis)
    head, group, rest = named.partition(" group by ")
    return f"{head} from log{group}{rest}"


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
        configuration = self.detail["Configuration"]
        (severity,) = configuration["SeverityConfigurations"]
        name, threshold = severity["EvalCondition"]["Condition"].split(" > ")
        recent = [one for one in records if now - self.looks_back <= _written_at(one) <= now]
        columns, rows = self.store.query(self.asked["Query"], recent)
        for used in (name, *configuration["GroupConfiguration"]["Fields"]):
            if used not in columns:
                raise ValueError(f"its query has no column {used}")
        return [row for row in rows if row[name] > int(threshold)]


def minutes(text: str) -> timedelta:
    """A time as the service writes it, such as 5m or 1h."""
    return timedelta(minutes=int(text[:-1]) * {"m": 1, "h": 60}[text[-1]])


def _written_at(record: Record) -> datetime:
    timestamp = json.loads(record["message"])["timestamp"]
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
