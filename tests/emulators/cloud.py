"""The emulated cloud as template.yaml deploys it: services, rule, functions and their roles."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.emulators.access_keys import AccessKey
from tests.emulators.action_trail import Shape, cloud_event
from tests.emulators.emulated_service import utc_now
from tests.emulators.event_bridge import Deliveries, EventBus, Pattern
from tests.emulators.event_buses import (
    DEFAULT_BUS,
    SYSTEM_POLICIES,
    BusArn,
    EventBridge,
    Forwarding,
)
from tests.emulators.function_compute import Chaos, Credentials, FunctionCompute, Invocation
from tests.emulators.function_compute_api import FunctionComputeApi, deployed
from tests.emulators.function_instance import LAYER, Function
from tests.emulators.log_service import LogService
from tests.emulators.oss_tables import ApiCall, OssTables
from tests.emulators.ram_policies import Policy
from tests.emulators.resource_directory import Member, ResourceDirectory
from tests.emulators.server import Authority
from tests.emulators.skipping_clock import SkippingClock
from tests.emulators.smq import Smq
from tests.emulators.stack_groups import StackGroups
from tests.emulators.sts import Sts
from tests.emulators.template import (
    function_props,
    infrastructure,
    member_resources,
    properties,
    resolved,
    role_of,
    role_policy,
)
from tests.emulators.trust_policies import Role, TrustPolicy

REPOSITORY = Path(__file__).parents[2]
ACCOUNT = "1234567890123456"
REGION = "cn-hangzhou"
OWNER = AccessKey("LTAI-emulated-owner", "owner-secret", ACCOUNT)
# By default.
MEMBER_ROLE = "oss-tables-encryption-guard-member"


def deployment(
    environment: Mapping[str, str] | None = None, sources: Path = REPOSITORY
) -> dict[str, Any]:
    """template.yaml, deployed into the emulated cloud from a shell with these variables.

    What its stack does for other accounts is what `make deploy` gives it.
    """
    shell = {"ALIBABA_CLOUD_REGION": REGION, **(environment or {})}
    if by_stacks(shell):
        from tests.emulators.deployed_members import members_of

        members = members_of(shell, account_id=ACCOUNT, region=REGION)
        shell = {**shell, **members.variables(REGION)}
    return resolved(shell, account=ACCOUNT, template=sources / "template.yaml")


def by_stacks(shell: Mapping[str, str]) -> bool:
    """Whether the stacks do something for other accounts."""
    return bool(shell.get("GUARD_ORGANIZATION_FOLDERS") or shell.get("GUARD_ORGANIZATION_BUS"))


def deployed_role(
    function: str, environment: Mapping[str, str] | None = None, sources: Path = REPOSITORY
) -> AccessKey:
    """What a function gets of the role that the template gives it: its rights, and no more."""
    template = deployment(environment, sources)
    role = role_of(template, function)
    return AccessKey(
        f"STS.emulated-{role}",
        f"{role}-secret",
        ACCOUNT,
        security_token=f"{role}-token",
        policy=Policy.of(role_policy(template, role)),
        role_name=properties(template, role)["RoleName"],
    )


AUDITING = {"GUARD_AUDIT_TABLES": "true"}
NOT_AUDITING = {"GUARD_AUDIT_TABLES": "false"}
ROLE = deployed_role("encrypt_on_create")
SWEEP_ROLE = deployed_role("sweep")
QUEUE: str = properties(deployment(), "DeadLetterQueue")["QueueName"]
QUEUE_ARN = f"acs:mns:{REGION}:{ACCOUNT}:/queues/{QUEUE}"


def timer_event(at: datetime) -> bytes:
    """What a timer sends."""
    fields = {"triggerTime": f"{at:%Y-%m-%dT%H:%M:%SZ}", "triggerName": "sweep", "payload": ""}
    return json.dumps(fields).encode()


TIMER_EVENT = timer_event(datetime(2026, 11, 22, 12, tzinfo=timezone.utc))

EXTERNAL_ID = f"guard-of:{ACCOUNT}"


def member_role(
    account_id: str, *guards: AccessKey, environment: Mapping[str, str] | None = None
) -> Role:
    """The role of a member's account as member.yaml creates it; it trusts these."""
    given = {"GUARD_EXTERNAL_ID": EXTERNAL_ID, **(environment or {})}
    names = {"GUARD_MEMBER_ROLE": "RoleName", "GUARD_AUDIT_TABLES": "AuditTables"}
    parameters = {
        "Guards": ",".join(guard.principal for guard in guards if guard.principal),
        "ExternalId": given["GUARD_EXTERNAL_ID"],
        "Home": REGION,
        **{parameter: given[name] for name, parameter in names.items() if name in given},
    }
    created = member_resources(parameters, region=REGION)["Role"]["Properties"]
    return Role.created(account_id, created)


# Where members send their events, and the role of the hub with which they do.
HUB_BUS = "oss-tables-encryption-guard"
HUB_ROLE = "oss-tables-encryption-guard-events"


def hub_role(*senders: str) -> Role:
    """The role of the hub that the rules of these accounts take."""
    trust = TrustPolicy.naming([BusArn(REGION, each).service for each in senders])
    return Role(ACCOUNT, HUB_ROLE, trust, SYSTEM_POLICIES["AliyunEventBridgePutEventsPolicy"])


def forwarding_target(bus: str = HUB_BUS) -> dict[str, Any]:
    """The target of a member's rule."""
    return Forwarding(BusArn(REGION, ACCOUNT, bus), HUB_ROLE).document()


def owner_of(account_id: str) -> AccessKey:
    """The key of a member's owner, which OSS Tables knows."""
    return AccessKey(f"LTAI-owner-of-{account_id}", "secret", account_id)


def filter_pattern() -> dict[str, Any]:
    """The filter pattern of template.yaml's EventBridge trigger."""
    return _filter_pattern(deployment())


@dataclass(frozen=True)
class EmulatedCloud:
    """Everything that runs; `invocations` holds every try of the function for the bus and the API.

    `certificate` is what a client of the services has to trust. `time` is that of the queue and
    of STS, which commands in this process skip instead of sleeping. `bus` is the account's default
    one, `bridge` has those of every account. `member_roles` are the roles of the members, by
    account, as they were planted. `share_invocations` holds every try of the sweep for the API.
    """

    certificate: Path
    tables: OssTables
    queue: Smq
    bridge: EventBridge
    bus: EventBus
    function: FunctionCompute
    api: FunctionComputeApi
    sweeper: FunctionCompute
    invocations: list[Invocation]
    sts: Sts
    log: LogService
    directory: ResourceDirectory
    member_roles: Mapping[str, Role]
    share_invocations: list[Invocation]
    stack_groups: StackGroups
    time: SkippingClock

    def sweep(self) -> list[Invocation]:
        """The timer goes off: every try of the sweep."""
        return self.sweeper.deliver(timer_event(utc_now()))

    def shares(self, timeout: float = 60) -> list[Invocation]:
        """Every try of the shares that sweeps have started so far, when they have ended."""
        self.api.join(timeout)
        return list(self.share_invocations)

    def outcomes(self) -> list[dict[str, Any]]:
        """What the function logged of each event's end, in order."""
        lines = self._lines()
        return [line for line in lines if "outcome" in line and line.get("kind") != "table"]

    def tables_found(self) -> list[dict[str, Any]]:
        """What the function logged of tables, in order."""
        return [line for line in self._lines() if line.get("kind") == "table"]

    def accounts_found(self) -> list[dict[str, Any]]:
        """What sweeps logged of accounts, in order."""
        return [line for line in self._lines() if line.get("kind") == "account"]

    def _lines(self) -> list[dict[str, Any]]:
        lines = "".join(invocation.logs for invocation in self.invocations).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def emulated_cloud(
    *,
    role: AccessKey | None = None,
    sweep_role: AccessKey | None = None,
    environment: Mapping[str, str] | None = None,
    shape_of: Callable[[ApiCall], Shape] = lambda _call: "responseElements",
    seed: int = 0,
    twice: float = 0.0,
    timeout_seconds: float | None = None,
    chaos: Chaos | None = None,
    key_of_invocation: Callable[[], AccessKey] | None = None,
    sources: Path = REPOSITORY,
    instances: int = 1,
    queue_nodes: int = 1,
    sweep_seconds: float | None = None,
    members: Iterable[Member] = (),
    sweep_instances: int | None = None,
    sweep_chaos: Chaos | None = None,
    forwards_to: str | None = None,
) -> Iterator[EmulatedCloud]:
    """Start the cloud over TLS; leaving it waits until every event is delivered.

    What is not given is as template.yaml has it, deployed with the variables of `environment`:
    those that it gives to no function are set for both. `key_of_invocation` gives each try of
    the creation function its key, instead of the role's one. `sources` is a folder with this
    repository or an earlier state of it. The account is the manager of a directory with these
    `members`: each has the role that both functions may take, or with GUARD_ORGANIZATION_FOLDERS
    the stack that the stack group gives it, and unless `forwards_to` is None a rule that forwards
    its events to that bus of the account.
    `sweep_instances` is how many of the sweep run at a time, and `sweep_chaos` what befalls them.
    """
    authority, time = Authority(), SkippingClock()
    template = deployment(environment, sources)
    role = role or deployed_role("encrypt_on_create", environment, sources)
    sweep_role = sweep_role or deployed_role("sweep", environment, sources)
    members = list(members)
    key_of_invocation = key_of_invocation or (lambda: role)
    invocations: list[Invocation] = []
    share_invocations: list[Invocation] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = authority.write(folder / "ca.pem")
        deliveries = stack.enter_context(Deliveries(seed=seed, twice=twice, workers=instances))
        bridge = EventBridge(
            deliveries, default_sends_to="default" if forwards_to == DEFAULT_BUS else "custom"
        )
        bus = bridge.bus(BusArn(REGION, ACCOUNT))
        queue = stack.enter_context(
            Smq(
                OWNER,
                role,
                sweep_role,
                queues=[QUEUE],
                region=REGION,
                authority=authority,
                clock=time.shifted_now,
                nodes=queue_nodes,
            )
        )
        tables = stack.enter_context(
            OssTables(
                OWNER,
                role,
                sweep_role,
                *(owner_of(each.account_id) for each in members),
                region=REGION,
                bucket_quota=None,
                authority=authority,
                on_event=lambda call: bridge.bus(BusArn(call.region, call.account_id)).publish(
                    cloud_event(call, shape=shape_of(call))
                ),
            )
        )
        member_roles = {
            each.account_id: member_role(each.account_id, role, sweep_role, environment=environment)
            for each in ([] if by_stacks(environment or {}) else members)
        }
        sts = stack.enter_context(
            Sts(
                OWNER,
                role,
                sweep_role,
                planted=member_roles.values(),
                on_issue=tables.admit,
                authority=authority,
                clock=time.shifted_now,
            )
        )
        directory = stack.enter_context(
            ResourceDirectory(
                OWNER, role, sweep_role, manager=ACCOUNT, members=members, authority=authority
            )
        )
        api = stack.enter_context(
            FunctionComputeApi(
                *(OWNER, role, sweep_role),
                functions={},
                region=REGION,
                # Function Compute's queue: each function takes as many as it has instances.
                workers=128,
                authority=authority,
            )
        )
        guards = frozenset(key.principal for key in (role, sweep_role) if key.principal)
        stack_groups = StackGroups(
            directory,
            sts,
            account_id=ACCOUNT,
            trustable=guards,
            on_rule=lambda account_id, region, rule: bridge.put_rule(
                BusArn(region, account_id, rule["EventBusName"]),
                rule["FilterPattern"],
                rule["Targets"][0],
            ),
        )
        stack_groups.update(infrastructure(template))
        variables = {
            "GUARD_FC_ENDPOINT": api.url,
            "GUARD_STS_ENDPOINT": sts.url,
            "GUARD_DIRECTORY_ENDPOINT": directory.url,
            "GUARD_EXTERNAL_ID": EXTERNAL_ID,
            "GUARD_OSS_TABLES_ENDPOINT": tables.url,
            "GUARD_SMQ_ENDPOINT": queue.url,
            "SSL_CERT_FILE": str(certificate),
            # A sweep returns at once, unless a test is about the watch.
            "GUARD_WATCH_SECONDS": "0",
            **(environment or {}),
        }
        creation_props = function_props(template, "encrypt_on_create")
        creation = deployed_function(
            creation_props,
            allowed_by(template, "encrypt_on_create", variables),
            timeout_seconds,
            sources,
        )
        function = stack.enter_context(
            FunctionCompute(
                creation,
                credentials=lambda: credentials_of(key_of_invocation()),
                max_retries=_retries(creation_props),
                chaos=chaos,
                instances=instances,
                on_failure=lambda record: _keep(record, queue, role, creation_props),
            )
        )
        sweep_props = function_props(template, "sweep")
        sweeper = stack.enter_context(
            FunctionCompute(
                deployed_function(
                    sweep_props,
                    allowed_by(template, "sweep", variables),
                    sweep_seconds,
                    sources,
                ),
                credentials=lambda: credentials_of(sweep_role),
                max_retries=_retries(sweep_props),
                max_age_seconds=sweep_props["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"],
                instances=sweep_instances
                or sweep_props["concurrencyConfig"]["reservedConcurrency"],
                chaos=sweep_chaos,
                on_failure=lambda record: _keep(record, queue, sweep_role, sweep_props),
            )
        )

        def deliver(event: bytes) -> None:
            invocations.extend(function.deliver(event))

        def share(event: bytes) -> None:
            share_invocations.extend(sweeper.deliver(event))

        pattern = _filter_pattern(template)
        bus.add_rule(pattern, deliver)
        if forwards_to is not None:
            receiver = BusArn(REGION, ACCOUNT, forwards_to)
            if not receiver.is_default:
                bridge.create_bus(receiver).add_rule(pattern, deliver)
            forward(bridge, pattern, forwards_to, *(each.account_id for each in members))
        _receive_events(bridge, infrastructure(template), deliver)
        api.deploy(function.function.name, deliver, deployed(creation_props))
        api.deploy(sweeper.function.name, share, deployed(sweep_props))
        log = stack.enter_context(LogService(OWNER, region=REGION, authority=authority))
        yield EmulatedCloud(
            *(certificate, tables, queue, bridge, bus, function, api, sweeper, invocations),
            *(sts, log, directory, member_roles, share_invocations, stack_groups, time),
        )
        bus.join(timeout=60)
        api.join(timeout=60)


def forward(bridge: EventBridge, pattern: Pattern, bus: str, *senders: str) -> None:
    """Let these accounts send what the pattern matches to the bus of the hub, and no others."""
    bridge.plant(hub_role(*senders))
    for sender in senders:
        bridge.put_rule(BusArn(REGION, sender), pattern, forwarding_target(bus))


def _receive_events(
    bridge: EventBridge, stack: Mapping[str, Any], deliver: Callable[[bytes], object]
) -> None:
    """What the stack makes for events of members: the role of their rules, and the account's own.

    The template has no bus: who deploys has created it.
    """
    if role := stack.get("ForwardRole"):
        created = role["Properties"]
        (attached,) = created["PolicyAttachments"]["System"]
        trust = TrustPolicy.of(created["AssumeRolePolicyDocument"])
        bridge.plant(Role(ACCOUNT, created["RoleName"], trust, SYSTEM_POLICIES[attached]))
    if rule := stack.get("MemberEvents"):
        bus = bridge.create_bus(BusArn(REGION, ACCOUNT, rule["Properties"]["EventBusName"]))
        bus.add_rule(rule["Properties"]["FilterPattern"], deliver)


def allowed_by(
    template: Mapping[str, Any], function: str, variables: Mapping[str, str]
) -> dict[str, str]:
    """Those of the variables that a function may have: not those of the other one alone.

    What the template gives to neither, such as an endpoint, is a test's own.
    """
    has = {
        name: function_props(template, name)["environmentVariables"].keys()
        for name in ("encrypt_on_create", "sweep")
    }
    others = set().union(*has.values()) - has[function]
    return {name: text for name, text in variables.items() if name not in others}


def deployed_function(
    props: Mapping[str, Any],
    variables: Mapping[str, str],
    timeout_seconds: float | None = None,
    sources: Path = REPOSITORY,
) -> Function:
    """The function as the template has it, with these variables besides."""
    return Function(
        code=sources / props["code"],
        layer=sources / LAYER.relative_to(REPOSITORY),
        runtime=props["runtime"],
        handler=props["handler"],
        initializer=props["instanceLifecycleConfig"]["initializer"]["handler"],
        environment={**props["environmentVariables"], **variables},
        timeout_seconds=props["timeout"] if timeout_seconds is None else timeout_seconds,
        memory_mb=props["memorySize"],
        name=props["functionName"],
        region=REGION,
        account_id=ACCOUNT,
    )


def _retries(props: Mapping[str, Any]) -> int:
    return int(props["asyncInvokeConfig"]["maxAsyncRetryAttempts"])


def _keep(record: bytes, queue: Smq, role: AccessKey, props: Mapping[str, Any]) -> None:
    """What failed goes to the failure destination with the function's own right, or nowhere."""
    arn: str = props["asyncInvokeConfig"]["destinationConfig"]["onFailure"]["destination"]
    if queue.rights.allow(role, "mns:SendMessage", arn):
        queue.put(arn.partition(":/queues/")[2].removesuffix("/messages"), record)


def _filter_pattern(template: Mapping[str, Any]) -> dict[str, Any]:
    (trigger,) = function_props(template, "encrypt_on_create")["triggers"]
    pattern: dict[str, Any] = json.loads(trigger["triggerConfig"]["eventRuleFilterPattern"])
    return pattern


def credentials_of(role: AccessKey) -> Credentials:
    return Credentials(role.id, role.secret, role.security_token or "")
