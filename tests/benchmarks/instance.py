"""The inside of one instance: it imports a function, initializes it and hands it events.

It does so little because every variant pays for it; what Function Compute's own program costs is
not known. Its arguments are where modules are found, which to import (the function's is the last),
a file with an event, and the name of the bucket that takes the place of the event's own.
"""

from __future__ import annotations

import sys
import time
from itertools import count

from tests.benchmarks.case import ACCOUNT_ID, REGION

# The name alone tells type checkers: typing would be loaded into processes that do without it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

# Between two stages, in what `-X importtime` writes.
MARK = "-- next stage --"
# The number of the mark that comes before the event.
EVENT_BEGINS = 3
NAME_IN_EVENT = b"analytics"
# Replaced by the present time: a function looks for tables after an event that is late.
TIME_IN_EVENT = b"2026-11-22T12:00:00Z"


class Context:
    """What a handler gets beside an event of a bucket, as on python3.12."""

    request_id = "1-benchmark"
    region = REGION
    account_id = ACCOUNT_ID

    class function:  # noqa: N801  an attribute, for which nothing need be loaded
        """Of the function itself."""

        name = "encrypt-on-create"
        timeout = 60


class SweepContext(Context):
    """What it gets beside that of the timer."""

    class function:  # noqa: N801  as above
        """Of the function itself."""

        name = "sweep"
        # A lone instance that is held to a tenth of a CPU needs minutes for an organization.
        timeout = 1200


def once() -> None:
    """Handle one event; the last line tells when each stage ended, and the most memory."""
    stamps: list[float] = []

    def note() -> None:
        stamps.extend((time.monotonic(), time.process_time()))

    _begin(sys.argv[4], note)
    print(*stamps, _peak(), flush=True)


def profiled() -> None:
    """Handle one event under `-X importtime`; the last line tells how long authorities were read.

    That is in seconds, and only of what is read while the event is handled.
    """
    marks = count(1)
    trusting: list[float] = []

    def note() -> None:
        print(MARK, file=sys.stderr, flush=True)
        if next(marks) == EVENT_BEGINS and "ssl" in sys.modules:
            _watch(sys.modules["ssl"].SSLContext, trusting)

    _begin(sys.argv[4], note)
    print(sum(trusting), flush=True)


def loaded() -> None:
    """Handle one event; the last line tells all modules that are loaded then."""
    _begin(sys.argv[4], lambda: None)
    print(*sys.modules, flush=True)


def lasting() -> None:
    """Handle one event, then as many as standard input asks for, each of a bucket of its own."""
    import os

    from tests.benchmarks.batches import serve

    reports = sys.stdout
    # Where the function logs: it keeps what it found when it was opened.
    with open(os.devnull, "w") as sys.stdout:  # noqa: PTH123  pathlib would be one more module
        names = (f"{sys.argv[4]}-{number}" for number in count())
        function = _begin(next(names), lambda: None)
        sys.stdout = reports
        serve(lambda: function.handler(_event(next(names)), Context))


def ticks() -> None:
    """Say on a line when the function is initialized; then sweep at each line of standard input."""
    import os

    reports = sys.stdout
    with open(sys.argv[3], "rb") as file:  # noqa: PTH123  as above
        event = file.read()
    # Where the function logs, as above.
    with open(os.devnull, "w") as sys.stdout:  # noqa: PTH123  as above
        name = sys.argv[2].split(",")[-1]
        function: Any = __import__(name)
        function.initialize(SweepContext)
        print("ready", file=reports, flush=True)
        for _ in sys.stdin:
            function.handler(event, SweepContext)


def invoked() -> None:
    """Sweep for the event on standard input; the last line has the result and the most memory."""
    import json
    import os

    event, reports = sys.stdin.buffer.read(), sys.stdout
    # Where the function logs, as above.
    with open(os.devnull, "w") as sys.stdout:  # noqa: PTH123  as above
        name = sys.argv[2].split(",")[-1]
        function: Any = __import__(name)
        function.initialize(SweepContext)
        result = json.loads(function.handler(event, SweepContext))
        print(json.dumps({"result": result, "peak": _peak()}), file=reports, flush=True)


def _begin(bucket: str, note: Callable[[], None]) -> ModuleType:
    note()
    names = sys.argv[2].split(",")
    for name in names:
        __import__(name)
    function: Any = sys.modules[names[-1]]
    note()
    function.initialize(Context)
    note()
    function.handler(_event(bucket), Context)
    note()
    return function  # type: ignore[no-any-return]


def _event(bucket: str) -> bytes:
    with open(sys.argv[3], "rb") as file:  # noqa: PTH123  as above
        event = file.read()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
    return event.replace(NAME_IN_EVENT, bucket.encode()).replace(TIME_IN_EVENT, now)


def _peak() -> int:
    """KiB; what the kernel tells of a process that ended begins with its parent's."""
    with open("/proc/self/status") as status:  # noqa: PTH123  as above
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def _watch(contexts: Any, seconds: list[float]) -> None:
    """From now on, take the time of whoever has authorities read."""
    load = contexts.load_verify_locations

    def timed(*arguments: Any, **named: Any) -> None:
        start = time.monotonic()
        load(*arguments, **named)
        seconds.append(time.monotonic() - start)

    contexts.load_verify_locations = timed
