"""Read what is deployed in a region: the settings of both functions, and the dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters.destinations import open_destination
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import ConfigurationError, GuardError
from encryption_guard.http import send
from encryption_guard.http.retries import server_times
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import Api, ApiRefused, call
from encryption_guard.services.directory import list_accounts
from encryption_guard.settings import ORGANIZATION, FunctionArn, Settings
from encryption_guard.untrusted import as_text, object_or_empty
from layers.encryption_guard.tools import configuration
from layers.encryption_guard.tools.comparison import Deployed, Function, Stack
from layers.encryption_guard.tools.organization import Guarded
from layers.encryption_guard.tools.preflight import Access, Region

if TYPE_CHECKING:
    from encryption_guard.services.function_compute import FunctionCompute

FUNCTION_NAMES: Final = ("oss-tables-encrypt-on-create", "oss-tables-encryption-sweep")
# The endpoint that the component ros uses for every region.
ROS: Final = Api("https://ros.aliyuncs.com", "2019-09-10")
# EventBridge's API for management has a host of its own.
# https://www.alibabacloud.com/help/en/eventbridge/developer-reference/api-eventbridge-2020-04-01-endpoint
EVENT_BRIDGE: Final = Api("https://eventbridge-console.{region}.aliyuncs.com", "2020-04-01")
NO_BUS: Final = "eventbusnotexist"
NO_GROUP: Final = "stackgroupnotfound"
# A template may have 512 KB, which is more than that as JSON within JSON.
MAX_TEMPLATE_BYTES = 2 * 1024 * 1024
# For all requests about a region, retries included.
READ_SECONDS = 60.0
CLOCK_SECONDS = 5.0
# SMQ shows no more at once.
MAX_PEEKED = 16
# Stands for the account of a key that only Serverless Devs has.
OWN_ACCOUNT: Final = "its own"
NO_KEY: Final = "Only Serverless Devs has this key; set ALIBABA_CLOUD_ACCESS_KEY_ID and so on."
DIRECTORY: Final = "GUARD_DIRECTORY_ENDPOINT"
# Settings of the shell for how requests are sent.
CONNECTION = (
    *("GUARD_FC_ENDPOINT", "GUARD_SMQ_ENDPOINT", "GUARD_TRUST_ENV"),
    *("GUARD_HTTP_TIMEOUT_SECONDS", "GUARD_MAX_ATTEMPTS"),
)


def read_deployed(
    access: Access, region: Region, environment: Mapping[str, str]
) -> dict[str, str] | None:
    """Read the settings of both deployed functions; None if only Serverless Devs has the key.

    Raises GuardError if the service does not return them.
    """
    if (credentials := access.credentials) is None:
        return None
    # fc2 is slow to import.
    from encryption_guard.services.function_compute import FunctionCompute

    with _opened(credentials, environment) as invocation:
        client = FunctionCompute(invocation)
        create, sweep = (
            client.read_function(FunctionArn(name, region.name, access.account_id)) or {}
            for name in FUNCTION_NAMES
        )
    return configuration.merge(*map(configuration.of_function, (create, sweep)))


def read_accounts(
    access: Access, settings: Mapping[str, str], environment: Mapping[str, str]
) -> Guarded:
    """Return the accounts that a sweep covers, as the sweep function finds them."""
    own = (access.account_id or OWN_ACCOUNT,)
    read = Settings.from_environment(settings)
    if read.accounts != ORGANIZATION:
        return Guarded(tuple(dict.fromkeys((*own, *sorted(read.accounts - read.allowed_accounts)))))
    if (credentials := access.credentials) is None:
        return Guarded(own, "only Serverless Devs has it.")
    given = {"FC_ACCOUNT_ID": access.account_id or "", DIRECTORY: settings.get(DIRECTORY, "")}
    try:
        with _opened(credentials, environment, **given) as invocation:
            listed = list_accounts(invocation)
    except GuardError as error:
        return Guarded(own, str(error))
    ids = [each for each in listed.account_ids if each not in read.allowed_accounts - {*own}]
    return Guarded(tuple(ids), incomplete=listed.problems)


def read_parts(
    access: Access,
    region: Region,
    resources: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    ros: Api = ROS,
) -> Deployed | None:
    """Read the deployed parts of the resolved template; None if only Serverless Devs has the key.

    Raises GuardError if a service does not return them.
    """
    if (credentials := access.credentials) is None:
        return None
    from encryption_guard.services.function_compute import FunctionCompute

    with _opened(credentials, environment) as invocation:
        client = FunctionCompute(invocation)
        functions = {
            name: _read_function(
                client,
                FunctionArn(props["functionName"], region.name, access.account_id),
                [trigger["triggerName"] for trigger in props["triggers"]],
            )
            for name, props in resources.items()
            if "functionName" in props
        }
        stack = _read_stack(invocation, ros, region, resources["infra"]["name"])
    return Deployed(stack, functions)


def _read_function(
    client: FunctionCompute, arn: FunctionArn, triggers: Sequence[str]
) -> Function | None:
    if (settings := client.read_function(arn)) is None:
        return None
    return Function(
        settings,
        {name: client.read_trigger(arn, name) for name in triggers},
        client.read_async_config(arn),
        client.read_concurrency(arn),
    )


def _read_stack(invocation: Invocation, ros: Api, region: Region, name: str) -> Stack | None:
    """Read a stack by its name, as the component ros finds it.

    https://www.alibabacloud.com/help/en/ros/developer-reference/api-ros-2019-09-10-getstack
    """

    def ask(action: str, **query: str) -> dict[str, Any]:
        query = {"RegionId": region.name, **query}
        return call(ros, action, invocation, query=query, max_bytes=MAX_TEMPLATE_BYTES)

    try:
        listed = ask("ListStacks", **{"StackName.1": name})["Stacks"]
        found = [each["StackId"] for each in listed if each["Status"] != "DELETE_COMPLETE"]
        if not found:
            return None
        template, stack = (ask(action, StackId=found[0]) for action in ("GetTemplate", "GetStack"))
        return Stack(
            stack["Status"],
            object_or_empty(template["TemplateBody"]),
            {each["ParameterKey"]: each.get("ParameterValue") for each in stack["Parameters"]},
            as_text(stack.get("StatusReason")) or "",
        )
    except (KeyError, TypeError) as error:
        problem = f"Resource Orchestration Service returned a stack {name} without {error}."
        raise ConfigurationError(problem) from None


def read_stack(
    access: Access,
    region: Region,
    name: str,
    environment: Mapping[str, str],
    *,
    ros: Api = ROS,
) -> Stack | None:
    """Read a stack by its name; None if there is none, or if only Serverless Devs has the key.

    Raises GuardError if the service does not return it.
    """
    if (credentials := access.credentials) is None:
        return None
    with _opened(credentials, environment) as invocation:
        return _read_stack(invocation, ros, region, name)


def has_stack_group(
    access: Access,
    region: Region,
    name: str,
    environment: Mapping[str, str],
    *,
    ros: Api = ROS,
) -> bool:
    """Return whether there is a stack group of this name; raises GuardError if nobody says so.

    https://www.alibabacloud.com/help/en/ros/developer-reference/api-ros-2019-09-10-getstackgroup
    """
    if (credentials := access.credentials) is None:
        raise ConfigurationError(NO_KEY)
    query = {"RegionId": region.name, "StackGroupName": name}
    with _opened(credentials, environment) as invocation:
        try:
            call(ros, "GetStackGroup", invocation, query=query, max_bytes=MAX_TEMPLATE_BYTES)
        except ApiRefused as error:
            if error.code.lower() != NO_GROUP:
                raise
            return False
        return True


def find_regions(
    access: Access, names: Iterable[str], environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Return those of the regions where the sweep function is deployed.

    Raises GuardError if a service does not say so, or if only Serverless Devs has the key.
    """
    if (credentials := access.credentials) is None:
        raise ConfigurationError(NO_KEY)
    from encryption_guard.services.function_compute import FunctionCompute

    with _opened(credentials, environment) as invocation:
        client = FunctionCompute(invocation)
        return tuple(
            name
            for name in names
            if client.read_function(FunctionArn(FUNCTION_NAMES[1], name, access.account_id))
        )


def find_missing_buses(
    access: Access,
    bus: str,
    names: Iterable[str],
    environment: Mapping[str, str],
    *,
    api: Api = EVENT_BRIDGE,
) -> tuple[str, ...]:
    """Return those of the regions that do not have this event bus.

    Raises GuardError if the service does not say so, or if only Serverless Devs has the key.
    https://www.alibabacloud.com/help/en/eventbridge/latest/geteventbus-6
    """
    if (credentials := access.credentials) is None:
        raise ConfigurationError(NO_KEY)

    def is_missing(region: str) -> bool:
        of_region = api._replace(endpoint=api.endpoint.format(region=region))
        try:
            call(of_region, "GetEventBus", invocation, query={"EventBusName": bus})
        except ApiRefused as error:
            if error.code.lower() != NO_BUS:
                raise
            return True
        return False

    with _opened(credentials, environment) as invocation:
        return tuple(filter(is_missing, names))


def measure_clock(access: Access, region: Region, environment: Mapping[str, str]) -> float | None:
    """Return by how many seconds this machine's clock is ahead of the region's; None if unknown."""
    if access.credentials is None:
        return None
    with _opened(access.credentials, environment) as invocation:
        host = f"https://{access.account_id}.{region.name}.fc.aliyuncs.com"
        # Any answer has the time, also the refusal of a request without a signature.
        request = httpx.Request("GET", invocation.settings.fc_endpoint or host)
        until = invocation.clock.monotonic() + CLOCK_SECONDS
        try:
            answer = send(invocation.transport, request, until=until)
        except httpx.HTTPError:
            return None
        ahead = (invocation.clock.now() - at for at in server_times(answer))
        return next((difference.total_seconds() for difference in ahead), None)


def count_dead_letters(access: Access, queue: str, environment: Mapping[str, str]) -> str:
    """Say how many dead letters a queue shows: at most 16 of those that are visible."""
    if (credentials := access.credentials) is None:
        return "dead letters not counted"
    try:
        with _opened(credentials, environment, GUARD_DEAD_LETTER_QUEUE=queue) as invocation:
            number = len(open_destination(invocation).peek().messages)
    except GuardError:
        # Perhaps there is no queue, or no right to look into it: neither prevents a removal.
        return "dead letters not readable"
    if not number:
        return "no dead letter visible"
    words = "1 dead letter" if number == 1 else f"{number} dead letters"
    return f"{words} or more" if number >= MAX_PEEKED else words


@contextmanager
def _opened(
    credentials: Credentials, environment: Mapping[str, str], **settings: str
) -> Iterator[Invocation]:
    shell = {name: environment.get(name, "") for name in CONNECTION}
    with open_command(Settings.from_environment(shell | settings), seconds=READ_SECONDS) as opened:
        yield opened._replace(read_credentials=lambda: credentials)
