"""A stand-in for EventBridge: its pattern language, and buses that deliver at least once.

https://www.alibabacloud.com/help/en/doc-detail/181432.htm (patterns)
https://www.alibabacloud.com/help/en/eventbridge/user-guide/retry-and-dead-letter (deliveries)
"""

import heapq
import ipaddress
import itertools
import json
import operator
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.emulators.running import Running

Event = dict[str, Any]
Pattern = dict[str, Any]
Predicate = Callable[[Any], bool]
Target = Callable[[bytes], object]

MOST_EXPRESSIONS = 5


def matches(pattern: Pattern, event: Event) -> bool:
    """Whether a rule with this pattern takes the event; ValueError if it is not a pattern."""
    # All before the first miss counts: a mistake behind it must not pass unseen.
    results = [_field_matches(name, wanted, event) for name, wanted in pattern.items()]
    return all(results)


def _field_matches(name: str, wanted: Any, event: Event) -> bool:
    value = event.get(name)
    if isinstance(wanted, dict) and wanted:
        return matches(wanted, value if isinstance(value, dict) else {})
    if not isinstance(wanted, list) or not wanted:
        raise ValueError(f"{name}: expected a list of expressions, not {wanted!r}")
    if len(wanted) > MOST_EXPRESSIONS:
        raise ValueError(f"{name}: {len(wanted)} expressions, {MOST_EXPRESSIONS} are allowed")
    values = value if isinstance(value, list) else [value]
    present = name in event
    results = [_expression_matches(expression, present, values) for expression in wanted]
    return any(results)


def _expression_matches(expression: Any, present: bool, values: list[Any]) -> bool:
    if isinstance(expression, dict) and list(expression) == ["exists"]:
        if not isinstance(expression["exists"], bool):
            raise ValueError(f"expected true or false, not {expression!r}")
        return present is expression["exists"]
    test = _predicate(expression)
    return present and any(test(value) for value in values)


def _predicate(expression: Any) -> Predicate:
    if not isinstance(expression, (dict, list)):
        # As the JSON is spelt: neither true and 1 nor 300 and 300.0 are the same.
        return lambda value: json.dumps(value) == json.dumps(expression)
    if not isinstance(expression, dict) or len(expression) != 1:
        raise ValueError(f"expected a value or one operator, not {expression!r}")
    [(name, argument)] = expression.items()
    if name not in OPERATORS:
        raise ValueError(f"{name!r} is none of the operators exists, {', '.join(OPERATORS)}")
    return OPERATORS[name](argument)


def _text(compare: Callable[[str, str], bool]) -> Callable[[Any], Predicate]:
    def predicate(argument: Any) -> Predicate:
        if not isinstance(argument, str):
            raise ValueError(f"expected a string, not {argument!r}")  # noqa: TRY004 (as any wrong pattern)
        return lambda value: isinstance(value, str) and compare(value, argument)

    return predicate


def _anything_but(argument: Any) -> Predicate:
    """A value, a list of values or {"prefix": ...}."""
    excluded = argument if isinstance(argument, list) else [argument]
    is_prefix = isinstance(argument, dict) and list(argument) == ["prefix"]
    if not is_prefix and not all(isinstance(value, (str, int, float)) for value in excluded):
        raise ValueError(f"anything-but goes with values or a prefix, not {argument!r}")
    tests = [_predicate(expression) for expression in excluded]
    return lambda value: not any(test(value) for test in tests)


def _numeric(argument: Any) -> Predicate:
    """Pairs of a comparison and a number, all of which hold: [">", 0, "<=", 5]."""
    if not isinstance(argument, list) or not argument or len(argument) % 2:
        raise ValueError(f"expected pairs of comparison and number, not {argument!r}")
    pairs = list(zip(argument[::2], argument[1::2], strict=True))
    if not all(name in COMPARISONS and _is_number(limit) for name, limit in pairs):
        raise ValueError(f"expected pairs of comparison and number, not {argument!r}")
    return lambda value: (
        _is_number(value) and all(COMPARISONS[name](value, limit) for name, limit in pairs)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cidr(argument: Any) -> Predicate:
    network = ipaddress.IPv4Network(argument)

    def predicate(value: Any) -> bool:
        try:
            return isinstance(value, str) and ipaddress.IPv4Address(value) in network
        except ValueError:
            return False

    return predicate


COMPARISONS: dict[Any, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS: dict[str, Callable[[Any], Predicate]] = {
    "prefix": _text(str.startswith),
    "suffix": _text(str.endswith),
    "contains": _text(operator.contains),
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}


@dataclass(frozen=True, order=True)
class _Delivery:
    due: float
    number: int
    target: Target = field(compare=False)
    event: bytes = field(compare=False)
    failures: int = field(default=0, compare=False)


class Deliveries(Running):
    """How buses deliver: at least once, sometimes twice, sometimes late, so in any order.

    `twice` and `late` are shares of all deliveries; the seed decides which. `workers` is how many
    are under way at a time. What a target kept raising on ends in `dropped`, as without a
    dead-letter queue. `errors` holds what the targets raised.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        twice: float = 0.2,
        late: float = 0.2,
        longest_delay_seconds: float = 0.05,
        max_retries: int = 3,
        retry_seconds: float = 0.005,
        workers: int = 1,
    ) -> None:
        self.dropped: list[bytes] = []
        self.errors: list[Exception] = []
        self._twice = twice
        self._late = late
        self._longest_delay_seconds = longest_delay_seconds
        self._max_retries = max_retries
        self._retry_seconds = retry_seconds
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._waiting: list[_Delivery] = []
        self._unfinished = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def push(self, event: bytes, targets: Iterable[Target]) -> None:
        """Return at once; the deliveries are made by threads of their own."""
        with self._changed:
            for target in targets:
                for _ in range(2 if self._random.random() < self._twice else 1):
                    self._unfinished += 1
                    self._schedule(_Delivery(self._due(), next(self._numbers), target, event))

    def join(self, timeout: float) -> None:
        """Wait until every delivery is done or dropped; TimeoutError if that takes longer."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._unfinished, timeout):
                raise TimeoutError(f"{self._unfinished} deliveries are not done")

    def stop(self) -> None:
        """End the threads; what was not delivered yet never is."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _due(self) -> float:
        late = self._random.random() < self._late
        delay = self._random.uniform(0, self._longest_delay_seconds)
        return time.monotonic() + (delay if late else 0)

    def _schedule(self, delivery: _Delivery) -> None:
        heapq.heappush(self._waiting, delivery)
        self._changed.notify_all()

    def _work(self) -> None:
        while (delivery := self._next()) is not None:
            try:
                delivery.target(delivery.event)
            except Exception as error:  # whatever it is, the push failed, and is made again
                self.errors.append(error)
                self._failed(delivery)
            else:
                self._finish()

    def _next(self) -> _Delivery | None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._waiting and self._waiting[0].due <= now:
                    return heapq.heappop(self._waiting)
                self._changed.wait(self._waiting[0].due - now if self._waiting else None)
        return None

    def _failed(self, delivery: _Delivery) -> None:
        if delivery.failures == self._max_retries:
            self.dropped.append(delivery.event)
            self._finish()
            return
        due = time.monotonic() + self._retry_seconds
        with self._changed:
            self._schedule(replace(delivery, due=due, failures=delivery.failures + 1))

    def _finish(self) -> None:
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()


class EventBus:
    """A bus with rules, which makes the deliveries of its service."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._rules: list[tuple[Pattern, Target]] = []

    def add_rule(self, pattern: Pattern, target: Target) -> None:
        """Deliver what the pattern matches to the target; ValueError if it is not a pattern."""
        matches(pattern, {})
        self._rules.append((pattern, target))

    def publish(self, event: Event) -> None:
        """Return at once; what no rule takes is gone."""
        targets = [target for pattern, target in self._rules if matches(pattern, event)]
        self._deliveries.push(json.dumps(event).encode(), targets)

    def join(self, timeout: float) -> None:
        """Wait until every delivery is made, also those of buses to which this one sends."""
        self._deliveries.join(timeout)
