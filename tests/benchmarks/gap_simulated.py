"""One build in hours of simulated time: the deployed handlers, in which only pauses are skipped.

Real are the handlers in processes of their own, HTTP, TLS, signatures and the time that all of it
takes. Simulated are the clock, of the functions as of the service, which leaps to whatever comes
next while everybody waits, and the deliveries: the timer each minute, an event at its instant.
Every function has one instance, which is never given up. A bucket is deleted after some time, so
that about as many are there as a user has.
"""

from __future__ import annotations

import base64
import heapq
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from tests.benchmarks import simulated_instance
from tests.benchmarks.clients import cpu_of
from tests.benchmarks.gap_figures import Creation, Measured
from tests.benchmarks.gap_real import TICK_SECONDS
from tests.benchmarks.gap_record import CREATE, Record
from tests.emulators.access_keys import AccessKey
from tests.emulators.action_trail import cloud_event
from tests.emulators.cloud import (
    ACCOUNT,
    OWNER,
    REGION,
    TIMER_EVENT,
    credentials_of,
    deployed_function,
    deployed_role,
    deployment,
)
from tests.emulators.emulated_service import utc_now
from tests.emulators.function_instance import Instance
from tests.emulators.oss_tables import ApiCall, OssTables
from tests.emulators.server import Authority
from tests.emulators.template import function_props

DELETED_AFTER = 900.0
# Real seconds for one answer.
PATIENCE_SECONDS = 120.0


@dataclass
class Agenda:
    """The simulated clock, and what is due when, in seconds since the beginning."""

    ahead: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _due: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began + self.ahead

    def date(self) -> datetime:
        """The service's clock."""
        return utc_now() + timedelta(seconds=self.ahead)

    def add(self, at: float, act: Callable[[], object]) -> None:
        """Do this at that instant."""
        heapq.heappush(self._due, (at, next(self._numbers), act))

    def advance(self, until: float) -> None:
        """Let time pass, and happen what is due in it."""
        while self._due and self._due[0][0] <= until:
            at, _, act = heapq.heappop(self._due)
            self._leap(at)
            act()
        self._leap(until)

    def _leap(self, to: float) -> None:
        self.ahead += max(to - self.now(), 0)


@dataclass
class Deployed:
    """One function and its instance."""

    instance: Instance
    role: AccessKey
    start: Mapping[str, Any]
    agenda: Agenda
    busy: bool = False
    logs: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Import and initialize it."""
        self._ask({"start": self.start})

    def invoke(self, event: bytes) -> None:
        """Hand it an event, again a moment later if it is busy; RuntimeError if it fails."""
        if self.busy:
            self.agenda.add(self.agenda.now() + 0.1, lambda: self.invoke(event))
            return
        self.busy = True
        self._ask({"event": base64.b64encode(event).decode()})
        self.busy = False

    def _ask(self, message: Mapping[str, Any]) -> None:
        request = {"request_id": "1-simulated", "credentials": asdict(credentials_of(self.role))}
        answer = self._exchange(request | dict(message))
        while "sleep" in answer:
            self.agenda.advance(self.agenda.now() + answer["sleep"])
            answer = self._exchange({})
        if "error" in answer:
            raise RuntimeError(f"{answer['error']}\n{self.instance.new_logs()}")

    def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self.instance.ask({**message, "ahead": self.agenda.ahead}, PATIENCE_SECONDS)


def measure(sources: Path, creations: Sequence[Creation]) -> Measured:
    """Let the buckets come, their events and the timer; RuntimeError if one is never encrypted."""
    agenda, roles = Agenda(), [_role(name, sources) for name in ("sweep", "encrypt_on_create")]
    end = max(creation.event_at or creation.at for creation in creations) + 2 * TICK_SECONDS
    with ExitStack() as stack:
        authority = Authority()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = authority.write(folder / "ca.pem")
        service = OssTables(
            *(OWNER, *roles),
            region=REGION,
            bucket_quota=None,
            authority=authority,
            clock=agenda.date,
        )
        tables = stack.enter_context(service)
        variables = {
            "GUARD_OSS_TABLES_ENDPOINT": tables.url,
            # Nothing is refused here, so nobody writes a dead letter.
            "GUARD_SMQ_ENDPOINT": "http://127.0.0.1:9",
            "SSL_CERT_FILE": str(certificate),
        }
        sweep, creation = (
            _deployed(name, sources, role, variables, agenda, stack)
            for name, role in zip(("sweep", "encrypt_on_create"), roles, strict=True)
        )
        record = Record(tables)
        for each in creations:
            _plan(each, agenda, tables, record, creation)
        record.begin()
        before = _cpu(sweep, creation)
        _run_timer(agenda, sweep, end)
        cpu = _cpu(sweep, creation) - before
        return record.measured(creations, seconds=agenda.now(), cpu=cpu)


def _role(function: str, sources: Path) -> AccessKey:
    return deployed_role(function, sources=sources)


def _deployed(
    name: str,
    sources: Path,
    role: AccessKey,
    variables: Mapping[str, str],
    agenda: Agenda,
    stack: ExitStack,
) -> Deployed:
    props = function_props(deployment(sources=sources), name)
    function = deployed_function(props, variables, sources=sources)
    instance = Instance(function, simulated_instance.__file__)
    stack.callback(instance.close)
    deployed = Deployed(instance, role, function.as_message(), agenda)
    deployed.begin()
    return deployed


def _plan(
    creation: Creation, agenda: Agenda, tables: OssTables, record: Record, function: Deployed
) -> None:
    def create() -> None:
        at = agenda.date()
        arn = record.plant(creation.name, at)
        agenda.add(creation.at + DELETED_AFTER, lambda: tables.remove(arn))
        if creation.event_at is not None:
            event = json.dumps(_event(creation.name, arn, at)).encode()
            agenda.add(creation.event_at, lambda: function.invoke(event))

    agenda.add(creation.at, create)


def _event(name: str, arn: str, at: datetime) -> dict[str, Any]:
    call = ApiCall(
        operation=CREATE,
        region=REGION,
        account_id=ACCOUNT,
        access_key_id=OWNER.id,
        bucket=name,
        arn=arn,
        request_id=name,
        at=at,
        host=f"{REGION}.oss-tables.aliyuncs.com",
        path="/buckets",
        request_body=b"",
    )
    return cloud_event(call, shape="responseElements")


def _run_timer(agenda: Agenda, sweep: Deployed, end: float) -> None:
    """Each minute; a sweep that takes longer delays the next."""
    due = 0.0
    while due < end:
        agenda.advance(max(due, agenda.now()))
        sweep.invoke(TIMER_EVENT)
        due += TICK_SECONDS


def _cpu(*functions: Deployed) -> float:
    return sum(cpu_of(each.instance.pid) for each in functions)
