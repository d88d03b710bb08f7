"""The emulated cloud as deployed: the services, the rule of template.yaml and the function."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.emulators.access_keys import AccessKey
from tests.emulators.action_trail import Kind, Shape, cloud_event
from tests.emulators.emulated_service import Clock, utc_now
from tests.emulators.event_bridge import EventBridge
from tests.emulators.function_compute import Chaos, Credentials, FunctionCompute, Invocation
from tests.emulators.function_compute_api import FunctionComputeApi
from tests.emulators.function_instance import Function
from tests.emulators.oss_tables import ApiCall, OssTables
from tests.emulators.server import Authority
from tests.emulators.smq import Smq

REPOSITORY = Path(__file__).parents[2]
ACCOUNT = "1234567890123456"
REGION = "cn-hangzhou"
QUEUE = "dead-letters"
QUEUE_ARN = f"acs:mns:{REGION}:{ACCOUNT}:/queues/{QUEUE}"
OWNER = AccessKey("LTAI-emulated-owner", "owner-secret", ACCOUNT)
# What template.yaml gives the roles of the two functions, and nothing more; with GUARD_AUDIT_TABLES
# each has the rights of AUDIT besides.
AUDIT = frozenset({"ListNamespaces", "ListTables", "GetTable", "GetTableEncryption"})
ROLE = AccessKey(
    "STS.emulated-role",
    "role-secret",
    ACCOUNT,
    security_token="role-token",
    allowed=frozenset({"GetTableBucketEncryption", "PutTableBucketEncryption", "SendMessage"}),
)
SWEEP_ROLE = AccessKey(
    "STS.emulated-sweep-role",
    "sweep-role-secret",
    ACCOUNT,
    security_token="sweep-role-token",
    allowed=ROLE.allowed | {"ListTableBuckets", "GetTableBucket", "BatchPeekMessage"},
)
TIMER_EVENT = json.dumps(
    {"triggerTime": "2026-11-22T12:00:00Z", "triggerName": "sweep", "payload": ""}
).encode()


def filter_pattern() -> dict[str, Any]:
    """The filter pattern of template.yaml's EventBridge trigger."""
    template = yaml.safe_load((REPOSITORY / "template.yaml").read_text("utf-8"))
    (trigger,) = template["resources"]["encrypt_on_create"]["props"]["triggers"]
    pattern: dict[str, Any] = json.loads(trigger["triggerConfig"]["eventRuleFilterPattern"])
    return pattern


@dataclass(frozen=True)
class EmulatedCloud:
    """Everything that runs; `invocations` holds every try of the function for the bus and the API.

    `certificate` is what a client of the services has to trust.
    """

    certificate: Path
    tables: OssTables
    queue: Smq
    bus: EventBridge
    function: FunctionCompute
    api: FunctionComputeApi
    sweeper: FunctionCompute
    invocations: list[Invocation]

    def sweep(self) -> list[Invocation]:
        """The timer goes off: every try of the sweep."""
        return self.sweeper.deliver(TIMER_EVENT)

    def outcomes(self) -> list[dict[str, Any]]:
        """What the function logged of each event's end, in order."""
        lines = "".join(invocation.logs for invocation in self.invocations).splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if "outcome" in line]


@contextmanager
def emulated_cloud(
    *,
    role: AccessKey = ROLE,
    sweep_role: AccessKey = SWEEP_ROLE,
    environment: Mapping[str, str] | None = None,
    shape_of: Callable[[ApiCall], Shape] = lambda _call: "responseElements",
    kind_of: Callable[[ApiCall], Kind] = lambda _call: "ApiCall",
    seed: int = 0,
    twice: float = 0.0,
    timeout_seconds: float = 30,
    chaos: Chaos | None = None,
    instances: int = 1,
    queue_clock: Clock = utc_now,
    queue_nodes: int = 1,
    sweep_seconds: float = 120,
) -> Iterator[EmulatedCloud]:
    """Start the cloud over TLS; leaving it waits until every event is delivered."""
    authority = Authority()
    invocations: list[Invocation] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = authority.write(folder / "ca.pem")
        bus = stack.enter_context(EventBridge(seed=seed, twice=twice, workers=instances))
        queue = stack.enter_context(
            Smq(
                OWNER,
                role,
                sweep_role,
                queues=[QUEUE],
                authority=authority,
                clock=queue_clock,
                nodes=queue_nodes,
            )
        )
        tables = stack.enter_context(
            OssTables(
                OWNER,
                role,
                sweep_role,
                region=REGION,
                bucket_quota=None,
                authority=authority,
                on_event=lambda call: bus.publish(
                    cloud_event(call, shape=shape_of(call), kind=kind_of(call))
                ),
            )
        )
        variables = {
            "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
            "GUARD_OSS_TABLES_ENDPOINT": tables.url,
            "GUARD_SMQ_ENDPOINT": queue.url,
            "SSL_CERT_FILE": str(certificate),
            **(environment or {}),
        }
        function = stack.enter_context(
            FunctionCompute(
                Function(
                    code=REPOSITORY / "functions" / "encrypt_on_create",
                    initializer="index.initialize",
                    timeout_seconds=timeout_seconds,
                    environment=variables,
                ),
                credentials=lambda: _credentials(role),
                chaos=chaos,
                instances=instances,
                on_failure=lambda record: queue.put(QUEUE, record),
            )
        )
        sweeper = stack.enter_context(
            FunctionCompute(
                Function(
                    code=REPOSITORY / "functions" / "sweep",
                    initializer="index.initialize",
                    name="sweep",
                    timeout_seconds=sweep_seconds,
                    environment=variables,
                ),
                credentials=lambda: _credentials(sweep_role),
                max_retries=0,
                on_failure=lambda record: queue.put(QUEUE, record),
            )
        )

        def deliver(event: bytes) -> None:
            invocations.extend(function.deliver(event))

        bus.add_rule(filter_pattern(), deliver)
        api = stack.enter_context(
            FunctionComputeApi(
                OWNER,
                role,
                functions={function.function.name: deliver, "sweep": sweeper.deliver},
                workers=instances,
                authority=authority,
            )
        )
        yield EmulatedCloud(certificate, tables, queue, bus, function, api, sweeper, invocations)
        bus.join(timeout=60)
        api.join(timeout=60)


def _credentials(role: AccessKey) -> Credentials:
    return Credentials(role.id, role.secret, role.security_token or "")
