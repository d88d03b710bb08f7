"""template.yaml against the code that it deploys and the limits of the platform."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest

from encryption_guard.settings import KNOWN_NAMES, OF_DEPLOYMENTS, Settings
from encryption_guard.sweep.checks import MAX_EVENT_AGE
from encryption_guard.sweep.function import holds_bucket_event
from layers.encryption_guard.tools.configuration import CONTENT, SHARES
from tests.emulators.cloud import (
    ACCOUNT,
    NOT_AUDITING,
    QUEUE,
    QUEUE_ARN,
    REGION,
    REPOSITORY,
    ROLE,
    SWEEP_ROLE,
    TIMER_EVENT,
    deployed_role,
    deployment,
    filter_pattern,
)
from tests.emulators.deployed_members import members_of
from tests.emulators.event_bridge import matches
from tests.emulators.serverless_devs.checks import complaints_about
from tests.emulators.template import (
    TEMPLATE,
    function_props,
    infrastructure,
    member_resources,
    properties,
    role_of,
    role_policy,
)

DEPLOYED = deployment()
HERE = {"account_id": ACCOUNT, "region": REGION}
FUNCTION, SWEEP = (function_props(DEPLOYED, name) for name in ("encrypt_on_create", "sweep"))
# What the one who deploys may choose, as both functions have to know it.
CHOSEN = {
    "GUARD_MODE": "detect",
    "GUARD_EXEMPTIONS": '[{"bucket": "scratch-*", "reason": "public: #1"}]',
    "GUARD_ALLOWED_ACCOUNTS": "1111111111111111",
    "GUARD_AUDIT_TABLES": "true",
    "GUARD_ACCOUNTS": "2222222222222222,3333333333333333",
    "GUARD_MEMBER_ROLE": "guarded",
    "GUARD_EXTERNAL_ID": "guard-of:1234567890123456",
    "GUARD_DIRECTORY_ENDPOINT": "https://resourcedirectory-intl.aliyuncs.com",
}

# With somebody to tell there are alarms.
TOLD = {"GUARD_CONTACT_GROUP": "operators", "GUARD_ACTION_POLICY": "sls.builtin"}
AUDIT = {"oss:ListNamespaces", "oss:ListTables", "oss:GetTable", "oss:GetTableEncryption"}

both = pytest.mark.parametrize("function", [FUNCTION, SWEEP], ids=["encrypt_on_create", "sweep"])
each_name = pytest.mark.parametrize("name", ["encrypt_on_create", "sweep"])


def actions(role: str, environment: dict[str, str] | None = None) -> set[str]:
    """Every action that a role is granted."""
    statements = role_policy(deployment(environment), role)
    return {action for statement in statements for action in statement["Action"]}


@both
def test_the_handler_and_the_initializer_exist(function: dict[str, Any]) -> None:
    """What the template calls is there, in the folder that it ships."""
    code = (REPOSITORY / function["code"]).relative_to(REPOSITORY)
    initializer = function["instanceLifecycleConfig"]["initializer"]["handler"]

    for entry in (function["handler"], initializer):
        module, _, name = entry.partition(".")
        assert callable(getattr(importlib.import_module(f"{'.'.join(code.parts)}.{module}"), name))


@both
def test_every_variable_is_a_setting_and_a_string(function: dict[str, Any]) -> None:
    """The function is given known settings, as strings, which is all the platform takes."""
    variables = function["environmentVariables"]

    assert set(variables) <= KNOWN_NAMES | {CONTENT, SHARES}
    assert {type(value) for value in variables.values()} == {str}


def test_what_the_template_reads_is_known() -> None:
    """No command and no function takes a deployment's own settings for misspelt ones."""
    template = (REPOSITORY / "template.yaml").read_text("utf-8")
    read_by_template = set(re.findall(r"env\('(GUARD_[A-Z_]+)'", template))

    assert read_by_template <= KNOWN_NAMES
    assert read_by_template >= OF_DEPLOYMENTS


@each_name
@pytest.mark.parametrize("environment", [{}, CHOSEN], ids=["by default", "as chosen"])
def test_the_settings_satisfy_the_function(name: str, environment: dict[str, str]) -> None:
    """With its variables filled in, the function starts, and knows what was chosen."""
    variables = function_props(deployment(environment), name)["environmentVariables"]

    settings = Settings.from_environment(variables | {"FC_FUNCTION_NAME": name})

    assert variables.items() >= environment.items()
    assert settings.mode == environment.get("GUARD_MODE", "enforce")
    assert settings.audit_tables == environment.get("GUARD_AUDIT_TABLES", "late")
    assert [exemption.bucket for exemption in settings.exemptions] == ["scratch-*"] * bool(
        environment
    )


@both
def test_dead_letters_and_what_failed_go_to_the_queue(function: dict[str, Any]) -> None:
    """FC's own letters go where ours go, a queue that is created; FC wants `/messages` behind."""
    config = function["asyncInvokeConfig"]

    assert function["environmentVariables"]["GUARD_DEAD_LETTER_QUEUE"] == QUEUE_ARN
    assert config["destinationConfig"]["onFailure"]["destination"] == f"{QUEUE_ARN}/messages"


@each_name
def test_the_role_is_one_that_function_compute_may_take(name: str) -> None:
    """The ARN of a function's role is that of a role of its own, which FC is trusted with."""
    role = role_of(DEPLOYED, name)
    (trust,) = properties(DEPLOYED, role)["AssumeRolePolicyDocument"]["Statement"]
    arn = f"acs:ram::{ACCOUNT}:role/{properties(DEPLOYED, role)['RoleName']}"

    assert role == {"encrypt_on_create": "Role", "sweep": "SweepRole"}[name]
    assert function_props(DEPLOYED, name)["role"] == arn
    assert arn == arn.lower()
    assert (trust["Effect"], trust["Action"]) == ("Allow", "sts:AssumeRole")
    assert trust["Principal"] == {"Service": ["fc.aliyuncs.com"]}


@pytest.mark.parametrize("environment", [{}, NOT_AUDITING], ids=["", "without the audit"])
@pytest.mark.parametrize("role", ["Role", "SweepRole"])
def test_rights_are_named_one_by_one(role: str, environment: dict[str, str]) -> None:
    """No action is a glob, and only listing is granted on everything: its resource is unknown."""
    policy = role_policy(deployment(environment), role)

    everywhere = [one["Action"] for one in policy if "*" in one["Resource"]]

    assert not any("*" in action or "?" in action for action in actions(role, environment))
    assert everywhere == ([["oss:ListTableBuckets"]] if role == "SweepRole" else [])


# What each role may do beside its work in the own account.
OF_OTHERS = {"sts:AssumeRole", "resourcemanager:ListAccounts", "fc:InvokeFunction"}
LISTED = {"GUARD_ACCOUNTS": "2222222222222222"}
ITSELF = f"acs:fc:{REGION}:{ACCOUNT}:functions/{SWEEP['functionName']}"


@pytest.mark.parametrize(
    ("environment", "creation", "sweep"),
    [
        ({}, set(), set()),
        ({"GUARD_ALLOWED_ACCOUNTS": "2222222222222222"}, set(), set()),
        (LISTED, {"sts:AssumeRole"}, {"sts:AssumeRole"}),
        (
            {**LISTED, "ENCRYPTION_GUARD_SHARES": "2"},
            {"sts:AssumeRole"},
            {"sts:AssumeRole", "fc:InvokeFunction"},
        ),
        ({"GUARD_ACCOUNTS": "organization"}, OF_OTHERS - {"fc:InvokeFunction"}, OF_OTHERS),
    ],
    ids=["one account", "an allowed one", "one share", "two shares", "an organization"],
)
def test_rights_for_other_accounts_are_granted_where_there_are_some(
    environment: dict[str, str], creation: set[str], sweep: set[str]
) -> None:
    """The role of members alone, the list for an organization, and calls of itself for shares."""
    assert actions("Role", environment) & OF_OTHERS == creation
    assert actions("SweepRole", environment) & OF_OTHERS == sweep


@pytest.mark.parametrize(
    ("action", "resource", "may"),
    [
        ("sts:AssumeRole", "acs:ram::2222222222222222:role/guarded", True),
        ("sts:AssumeRole", "acs:ram::2222222222222222:role/admin", False),
        ("fc:InvokeFunction", ITSELF, True),
        ("fc:InvokeFunction", f"{ITSELF}/LATEST", True),
        ("fc:InvokeFunction", f"{ITSELF}/2", False),
        ("fc:InvokeFunction", f"acs:fc:{REGION}:{ACCOUNT}:functions/another", False),
        ("fc:InvokeFunction", ITSELF.replace(REGION, "cn-beijing"), False),
        ("resourcemanager:ListAccounts", f"acs:resourcemanager:*:{ACCOUNT}:account/*", True),
        ("resourcemanager:GetAccount", f"acs:resourcemanager:*:{ACCOUNT}:account/*", False),
    ],
)
def test_rights_end_at_the_role_and_the_function(action: str, resource: str, *, may: bool) -> None:
    """No other role is taken, and the sweep function calls no other function."""
    environment = {"GUARD_ACCOUNTS": "organization", "GUARD_MEMBER_ROLE": "guarded"}

    assert deployed_role("sweep", environment).may(action, resource) is may


@pytest.mark.parametrize("audit", ["late", "true", "false"])
@pytest.mark.parametrize("role", ["Role", "SweepRole"])
def test_one_variable_decides_about_the_audit_and_its_rights(role: str, audit: str) -> None:
    """What the functions are told is what the roles are granted for: only `false` goes without."""
    environment = {"GUARD_AUDIT_TABLES": audit}
    told = [
        function_props(deployment(environment), name)["environmentVariables"]["GUARD_AUDIT_TABLES"]
        for name in ("encrypt_on_create", "sweep")
    ]

    assert told == [audit, audit]
    assert actions(role, environment) & AUDIT == (set() if audit == "false" else AUDIT)
    assert actions(role, environment) - AUDIT == actions(role) - AUDIT


@pytest.mark.parametrize(
    ("action", "resource", "creation", "sweep"),
    [
        ("oss:PutTableBucketEncryption", f"acs:osstables:{REGION}:1:bucket/orders", True, True),
        ("oss:PutTableBucketEncryption", "acs:osstables:eu-central-1:1:bucket/o", False, True),
        ("oss:PutTableBucketEncryption", f"acs:oss:{REGION}:1:orders", False, False),
        ("oss:GetTableBucket", f"acs:osstables:{REGION}:1:bucket/orders", False, True),
        ("oss:DeleteTableBucket", f"acs:osstables:{REGION}:1:bucket/orders", False, False),
        ("mns:SendMessage", f"acs:mns:{REGION}:1:/queues/{QUEUE}/messages", True, True),
        ("mns:SendMessage", f"acs:mns:{REGION}:1:/queues/another/messages", False, False),
        ("mns:BatchPeekMessage", f"acs:mns:{REGION}:1:/queues/{QUEUE}/messages", False, True),
        ("mns:PeekMessage", f"acs:mns:{REGION}:1:/queues/{QUEUE}/messages", False, True),
        ("mns:DeleteMessage", f"acs:mns:{REGION}:1:/queues/{QUEUE}/messages", False, False),
    ],
)
def test_rights_end_at_the_region_and_the_queue(
    action: str, resource: str, *, creation: bool, sweep: bool
) -> None:
    """The creation function acts in its region, the sweep in each, and both on one queue."""
    assert ROLE.may(action, resource) is creation
    assert SWEEP_ROLE.may(action, resource) is sweep


@both
def test_the_platform_may_write_where_the_function_logs(function: dict[str, Any]) -> None:
    """The role may post to the log store that the function names and that is created, no other."""
    log = function["logConfig"]
    name = "sweep" if function is SWEEP else "encrypt_on_create"
    role = deployed_role(name)
    place = f"acs:log:{REGION}:{ACCOUNT}:project/{log['project']}/logstore"
    stores = [
        (one["Properties"]["ProjectName"], one["Properties"]["LogstoreName"])
        for one in infrastructure(DEPLOYED).values()
        if one["Type"] == "ALIYUN::SLS::Logstore"
    ]

    assert (log["project"], log["logstore"]) in stores
    # Any rule for where a record begins would glue lines of JSON together.
    assert log["logBeginRule"] == "None"
    assert role.may("log:PostLogStoreLogs", f"{place}/{log['logstore']}")
    assert not role.may("log:PostLogStoreLogs", f"{place}/another")


def test_both_functions_leave_the_same_alone() -> None:
    """An exemption that only one of them knew would end with the other one's next run."""
    chosen = deployment(CHOSEN)
    creation, sweep = (
        function_props(chosen, name)["environmentVariables"]
        for name in ("encrypt_on_create", "sweep")
    )

    assert [creation[name] for name in CHOSEN] == list(CHOSEN.values())
    assert [sweep[name] for name in CHOSEN] == list(CHOSEN.values())


def test_the_timer_calls_the_sweep_each_minute() -> None:
    """Its event is no bucket's."""
    (trigger,) = SWEEP["triggers"]

    assert trigger["triggerType"] == "timer"
    assert trigger["triggerConfig"]["cronExpression"] == "@every 1m"
    assert trigger["triggerConfig"]["enable"] is True
    assert json.loads(TIMER_EVENT)["payload"] == trigger["triggerConfig"]["payload"]
    assert not holds_bucket_event(TIMER_EVENT)


# What other accounts get.

ORGANIZATION = {
    "GUARD_ACCOUNTS": "2222222222222222,3333333333333333",
    "GUARD_ORGANIZATION_FOLDERS": "fd-one",
    "GUARD_ORGANIZATION_BUS": "guard",
    "GUARD_EXTERNAL_ID": "guard-of:1234567890123456",
}
SERVES = {"MemberStacks", "MemberStackInstances", "ForwardRole", "MemberEvents"}


@pytest.mark.parametrize(
    ("missing", "created"),
    [
        (ORGANIZATION.keys(), set()),
        ({"GUARD_ORGANIZATION_FOLDERS", "GUARD_ORGANIZATION_BUS"}, set()),
        ({"GUARD_ORGANIZATION_BUS"}, {"MemberStacks", "MemberStackInstances"}),
        ({"GUARD_ORGANIZATION_FOLDERS"}, {"ForwardRole", "MemberEvents"}),
        (set(), SERVES),
    ],
    ids=["one account", "listed ones", "folders", "a bus", "folders and a bus"],
)
def test_the_stack_does_for_other_accounts_what_is_wanted(
    missing: set[str], created: set[str]
) -> None:
    """A deployment of one account has nothing of it."""
    shell = {name: text for name, text in ORGANIZATION.items() if name not in missing}

    assert infrastructure(deployment(shell)).keys() & SERVES == created


def test_the_default_bus_has_the_functions_trigger_already() -> None:
    """A second rule there would deliver each event twice."""
    shell = {**ORGANIZATION, "GUARD_ORGANIZATION_BUS": "default"}

    assert infrastructure(deployment(shell)).keys() & SERVES == SERVES - {"MemberEvents"}


def test_the_group_goes_before_the_roles_that_its_accounts_trust() -> None:
    """A stack removes what depends on something first: instances, group, roles."""
    stack = DEPLOYED["resources"]["infra"]["props"]["template"]["Resources"]

    assert stack["MemberStackInstances"]["DependsOn"] == "MemberStacks"
    assert set(stack["MemberStacks"]["DependsOn"]) == {"Role", "SweepRole"}
    assert stack["MemberStackInstances"]["Properties"]["RetainStacks"] is False


def test_another_account_trusts_the_roles_of_the_functions() -> None:
    """By the names that the stack gives them, with the external id, and nobody else."""
    created = member_resources(members_of(ORGANIZATION, **HERE).parameters, region=REGION)
    (trust,) = created["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    roles = [properties(DEPLOYED, role)["RoleName"] for role in ("Role", "SweepRole")]
    assert trust["Principal"] == {"RAM": [f"acs:ram::{ACCOUNT}:role/{role}" for role in roles]}
    assert trust["Condition"] == {
        "StringEquals": {"sts:ExternalId": [ORGANIZATION["GUARD_EXTERNAL_ID"]]}
    }
    without = members_of({"GUARD_ACCOUNTS": "organization"}, **HERE).parameters
    (trust,) = member_resources(without, region=REGION)["Role"]["Properties"][
        "AssumeRolePolicyDocument"
    ]["Statement"]
    assert "Condition" not in trust


def test_a_role_is_created_once_and_a_rule_in_each_region() -> None:
    """The stack of another region only forwards the events of that region."""
    parameters = members_of(ORGANIZATION, **HERE).parameters

    here, there = (member_resources(parameters, region=each) for each in (REGION, "cn-beijing"))

    assert [set(here), set(there)] == [{"Role", "Events"}, {"Events"}]
    (target,) = there["Events"]["Properties"]["Targets"]
    assert target["Endpoint"] == f"acs:eventbridge:cn-beijing:{ACCOUNT}:eventbus/guard"


def test_every_rule_has_the_pattern_of_the_trigger() -> None:
    """What other accounts forward is what the function is called for."""
    received = properties(deployment(ORGANIZATION), "MemberEvents")
    forwarded = member_resources(members_of(ORGANIZATION, **HERE).parameters, region=REGION)[
        "Events"
    ]

    assert received["FilterPattern"] == filter_pattern()
    assert forwarded["Properties"]["FilterPattern"] == filter_pattern()


def test_events_of_other_accounts_reach_the_creation_function() -> None:
    """On a bus of their own; those that cannot be delivered go to the queue."""
    received = properties(deployment(ORGANIZATION), "MemberEvents")
    (target,) = received["Targets"]

    function = f"acs:fc:{REGION}:{ACCOUNT}:functions/{FUNCTION['functionName']}"
    assert (received["EventBusName"], target["Endpoint"]) == ("guard", function)
    assert target["DeadLetterQueue"] == {"Arn": QUEUE_ARN}
    forward = properties(deployment(ORGANIZATION), "ForwardRole")
    assert forward["RoleName"] == members_of(ORGANIZATION, **HERE).parameters["ForwardRole"]


@both
def test_the_platforms_limits_are_kept(function: dict[str, Any]) -> None:
    """Sizes and times are within what Function Compute takes."""
    processors, gigabytes = function["cpu"], function["memorySize"] / 1024

    assert function["memorySize"] % 64 == 0
    assert round(processors / 0.05, 6).is_integer()
    assert 1 <= gigabytes / processors <= 4
    assert function["runtime"] == "python3.12"
    assert function["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"] <= 604800
    assert 0 <= function["asyncInvokeConfig"]["maxAsyncRetryAttempts"] <= 8
    assert properties(DEPLOYED, "DeadLetterQueue")["MessageRetentionPeriod"] == 7 * 24 * 3600


@pytest.mark.parametrize(
    ("name", "repeats", "instances", "processors", "megabytes", "seconds"),
    [("encrypt_on_create", 3, 5, 1, 1024, 60), ("sweep", 1, 2, 0.05, 128, 120)],
)
def test_each_function_has_what_the_readme_tells(
    name: str, repeats: int, instances: int, processors: float, megabytes: int, seconds: int
) -> None:
    """How often what failed is repeated, how many run at a time, how fast and how long."""
    function = function_props(DEPLOYED, name)

    assert function["asyncInvokeConfig"]["maxAsyncRetryAttempts"] == repeats
    assert function["concurrencyConfig"] == {"reservedConcurrency": instances}
    assert (function["cpu"], function["memorySize"]) == (processors, megabytes)
    assert function["timeout"] == seconds
    assert {tag["key"]: tag["value"] for tag in function["tags"]} == {
        "application": "oss-tables-encryption-guard",
        "version": "unknown",
    }


def test_events_reach_the_creation_function() -> None:
    """Its trigger is EventBridge's, it is on, and it asks for asynchronous invocations.

    Only then do the retries and the failure destination of Function Compute act.
    """
    (trigger,) = FUNCTION["triggers"]

    assert trigger["triggerType"] == "eventbridge"
    assert trigger["triggerConfig"]["triggerEnable"] is True
    assert trigger["triggerConfig"]["asyncInvocationType"] is False


def test_what_eventbridge_cannot_hand_over_is_kept_where_letters_are() -> None:
    """Its own retries and queue, if they count in this mode; batches would not be CloudEvents."""
    options = FUNCTION["triggers"][0]["triggerConfig"]["runOptions"]
    queue = FUNCTION["environmentVariables"]["GUARD_DEAD_LETTER_QUEUE"]

    assert options == {
        "mode": "event-driven",
        "errorsTolerance": "ALL",
        "retryStrategy": {"PushRetryStrategy": "EXPONENTIAL_DECAY_RETRY"},
        "deadLetterQueue": {"Arn": queue},
    }


def test_the_stack_is_given_every_parameter_it_has() -> None:
    """One that is not passed would silently be empty; the web hook's URL is a secret."""
    stack = DEPLOYED["resources"]["infra"]["props"]

    assert set(stack["parameters"]) == set(stack["template"]["Parameters"])
    assert stack["template"]["Parameters"]["Webhook"]["NoEcho"] is True


def test_no_account_is_written_into_the_template() -> None:
    """Whatever is an account's own is filled in when it is deployed."""
    assert not re.search(r"\d{10,}", TEMPLATE.read_text("utf-8"))


def query(name: str, environment: dict[str, str] | None = None) -> str:
    """What an alert searches the log for."""
    detail = infrastructure(deployment(TOLD | (environment or {})))[name]["Properties"]["Detail"]
    (asked,) = detail["Configuration"]["QueryList"]
    return str(asked["Query"]).partition(" | ")[0]


@pytest.mark.parametrize(
    ("environment", "milliseconds"), [({}, 60000), ({"GUARD_SLOW_AFTER_MS": "5"}, 5)]
)
def test_what_is_slow_is_a_variable(environment: dict[str, str], milliseconds: int) -> None:
    """An encryption is slow after a minute, or as it is said."""
    searched = query("SlowEncryptions", environment)

    assert searched == f"message.time_to_encrypt_ms > {milliseconds}"


def test_an_error_is_a_line_or_a_crash() -> None:
    """The guard's own lines tell of errors, the platform's records of what it could not tell."""
    assert query("ErrorsLogged") == "message.level: ERROR or hasFunctionError: true"


def test_what_is_old_to_a_sweep_is_old_to_the_platform() -> None:
    """As long as an event may still be on its way, its bucket is new and has not drifted."""
    longest = FUNCTION["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"]

    assert MAX_EVENT_AGE.total_seconds() == longest


@pytest.mark.parametrize("spelling", ["acs.oss", "acs:oss", "acs.osstables", "acs:oss-tables"])
@pytest.mark.parametrize("kind", ["ApiCall", "ConsoleOperation", "AliyunServiceEvent"])
@pytest.mark.parametrize("name", ["CreateTableBucket", "DeleteTableBucketEncryption"])
def test_the_rule_lets_in_what_matters(spelling: str, kind: str, name: str) -> None:
    """Whatever the source is called and whoever made the call, both events pass the rule."""
    event = {
        "source": spelling,
        "type": f"oss:ActionTrail:{kind}",
        "data": {"eventName": name},
    }

    assert matches(filter_pattern(), event)


@pytest.mark.parametrize("code", ["", "200", "OK", "ForbiddenException"])
def test_the_rule_does_not_judge_by_an_error_code(code: str) -> None:
    """A success may have one: which is a failure is for the function to tell."""
    data = {"eventName": "DeleteTableBucketEncryption", "errorCode": code}

    assert matches(
        filter_pattern(), {"source": "acs.oss", "type": "oss:ActionTrail:ApiCall", "data": data}
    )


def test_the_rule_keeps_out_what_does_not() -> None:
    """Other calls, other services and OSS's own object events do not start the function."""
    base: dict[str, Any] = {"source": "acs.oss", "type": "oss:ActionTrail:ApiCall"}
    others = [
        base | {"data": {"eventName": "PutBucket"}},
        base | {"data": {"eventName": "CreateTableBucket"}, "source": "acs.ecs"},
        base | {"data": {"eventName": "CreateTableBucket"}, "type": "oss:ObjectCreated:PutObject"},
    ]

    assert [matches(filter_pattern(), event) for event in others] == [False] * 3


def test_no_check_of_a_deployment_complains() -> None:
    """What is held against the real Serverless Devs holds without it, the samples included."""
    assert complaints_about(deployment()["resources"]) == []
