"""The emulated services, and the guard's own parts connected to them over TLS."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.dead_letters.destinations import open_destination
from encryption_guard.enforcement import Processed, process_payload
from encryption_guard.http import open_transport
from encryption_guard.invocation import DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables as OssTablesClient
from encryption_guard.settings import Settings
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE, QUEUE_ARN, REGION, ROLE
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.emulators.skipping_clock import SkippingClock
from tests.emulators.smq import Smq
from tests.unit.fakes import skipping

AS_ROLE = Credentials(ROLE.id, ROLE.secret, ROLE.security_token)


@dataclass
class Guard:
    """The guard against the emulated services: `process` is one invocation of it."""

    tables: OssTables
    queue: Smq
    transport: DeadlineTransport
    clock: SkippingClock = field(default_factory=SkippingClock)
    environment: dict[str, str] = field(default_factory=dict)
    read_credentials: Callable[[], Credentials] = lambda: AS_ROLE
    seconds: float = 60
    logged: list[dict[str, Any]] = field(default_factory=list)

    def process(self, payload: object) -> Processed:
        clock = skipping(self.clock)
        invocation = Invocation(
            transport=self.transport,
            settings=Settings.from_environment(
                {
                    "FC_ACCOUNT_ID": ACCOUNT,
                    "FC_REGION": REGION,
                    "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
                    "GUARD_OSS_TABLES_ENDPOINT": self.tables.url,
                    "GUARD_SMQ_ENDPOINT": self.queue.url,
                    **self.environment,
                }
            ),
            read_credentials=self.read_credentials,
            budget=TimeBudget(clock.monotonic() + self.seconds, clock),
            clock=clock,
        )
        return process_payload(
            payload,
            invocation=invocation,
            tables=OssTablesClient(invocation),
            dead_letters=DeadLetters(
                put=open_destination(invocation).put,
                log_error=lambda message, **keys: self.logged.append({"message": message, **keys}),
                function="encrypt-on-create",
                function_request_id="request-1",
                now=clock.now,
            ),
            report=lambda _result: None,
        )

    def puts(self) -> int:
        """How many PutTableBucketEncryption requests came in."""
        operations = [request.operation for request in self.tables.requests]
        return operations.count("PutTableBucketEncryption")

    def letters(self) -> list[dict[str, Any]]:
        """The dead letters in the queue, oldest first."""
        return [json.loads(b64decode(body)) for body in self.queue.bodies(QUEUE)]


def creation_of(arn: str, **record: object) -> bytes:
    """The creation event of a bucket, as the audit trail would tell it at its most generous."""
    data = {
        "eventName": "CreateTableBucket",
        "eventTime": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "responseElements": {"arn": arn},
    }
    event = {
        "id": "event-1",
        "source": "acs.oss",
        "specversion": "1.0",
        "type": "oss:ActionTrail:ApiCall",
        "data": data | record,
    }
    return json.dumps(event).encode()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusted(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The emulators' certificate authority, trusted as an operator would have it trusted."""
    file = authority.write(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return file


@pytest.fixture
def guard(authority: Authority, trusted: Path) -> Iterator[Guard]:  # noqa: ARG001  the client trusts it
    with (
        OssTables(OWNER, ROLE, region=REGION, authority=authority) as tables,
        Smq(OWNER, ROLE, queues=[QUEUE], authority=authority) as queue,
        open_transport() as transport,
    ):
        yield Guard(tables, queue, transport)
