"""template.yaml through the real Serverless Devs CLI: resolved, verified and deployed.

What the CLI resolves is compared with `tests.emulators.template`; the other tests use the latter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from layers.encryption_guard.tools.member_stacks import Home, Members, choose_steps
from layers.encryption_guard.tools.organization import Guarded
from tests.emulators.cloud import ACCOUNT, REPOSITORY
from tests.emulators.serverless_devs import (
    MISSING,
    ServerlessDevs,
    checks,
    serverless_devs,
)
from tests.emulators.template import infrastructure, resolved

needs_serverless_devs = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

Template = dict[str, Any]
Change = Callable[[Template], object]

HERE = {"ALIBABA_CLOUD_REGION": "cn-hangzhou"}
# Nothing as it is by default, and values in which YAML or a template could see something else.
THERE = {
    "ALIBABA_CLOUD_REGION": "ap-southeast-1",
    "GUARD_RUNTIME": "python3.10",
    "GUARD_MODE": "detect",
    "GUARD_AUDIT_TABLES": "true",
    "GUARD_EXEMPTIONS": '[{"bucket": "scratch-*", "reason": "a: #1", "expires": "2099-01-01"}]',
    "GUARD_ALLOWED_ACCOUNTS": "1111111111111111",
    "GUARD_SWEEP_REGIONS": "ap-southeast-1,eu-central-1",
    "GUARD_SWEEP_EVERY": "60",
    "GUARD_CONTACT_GROUP": "operators",
    "GUARD_WEBHOOK": "https://hooks.example/guard?key=1",
    "GUARD_ACTION_POLICY": "sls.builtin",
    "GUARD_ACCOUNTS": "2222222222222222",
    "GUARD_MEMBER_ROLE": "guarded",
    "GUARD_ORGANIZATION_HOME": "ap-southeast-1",
    "GUARD_ORGANIZATION_FOLDERS": "fd-one,r-two",
    "GUARD_ORGANIZATION_BUS": "guard",
    "GUARD_EXTERNAL_ID": "guard-of:1234567890123456",
    "GUARD_DIRECTORY_ENDPOINT": "https://resourcedirectory-intl.aliyuncs.com",
    "GUARD_ACCOUNTS_PER_SHARE": "20",
    "GUARD_SWEEP_CONCURRENCY": "12",
    "ENCRYPTION_GUARD_SHARES": "10",
    "ENCRYPTION_GUARD_SWEEP_CONCURRENCY": "12",
    "ENCRYPTION_GUARD_EVENT_CONCURRENCY": "50",
    "ENCRYPTION_GUARD_SWEEP_CPU": "0.25",
    "ENCRYPTION_GUARD_SWEEP_MEMORY": "256",
}
# What `make deploy` computes of that for other accounts, and leaves to a second step.
THERE |= Members(
    THERE,
    ACCOUNT,
    Home("ap-southeast-1", ("ap-southeast-1",)),
    Guarded((ACCOUNT, THERE["GUARD_ACCOUNTS"])),
).variables("ap-southeast-1")
THERE["EMULATED_BUSES"] = "guard"
SWEEP, CREATION = "oss-tables-encryption-sweep", "oss-tables-encrypt-on-create"

# Settings that the template gives no function, and why.
WITHOUT_A_PLACE = {
    "FC_REGION": "Function Compute sets it",
    "FC_ACCOUNT_ID": "Function Compute sets it",
    "FC_FUNCTION_NAME": "Function Compute sets it",
    "GUARD_FUNCTION": "an operator's: where dead letters are sent again",
    "GUARD_FC_ENDPOINT": "an operator's: where dead letters are sent again",
    "GUARD_SMQ_ENDPOINT": "for tests: the queue's ARN tells the host",
    "GUARD_STS_ENDPOINT": "an operator's: who asks",
    "GUARD_LOG_ENDPOINT": "an operator's: when the last sweep was",
    "GUARD_OSS_TABLES_ENDPOINT": "for tests: the region tells the host",
    "GUARD_OSS_TABLES_ADDRESSING": "for a service that changed: its default is the documented one",
    "GUARD_OSS_TABLES_NETWORK": "for functions within a VPC, which these are not",
    "GUARD_HTTP_TIMEOUT_SECONDS": "its default goes with the functions' time-outs",
    "GUARD_MAX_ATTEMPTS": "its default goes with the functions' time-outs",
    "GUARD_TRUST_ENV": "nothing in Function Compute names a proxy",
}


@pytest.fixture(scope="module")
def s(tmp_path_factory: pytest.TempPathFactory) -> ServerlessDevs:
    """For what changes nothing in the account."""
    return serverless_devs(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", params=[HERE, THERE], ids=["default", "second region"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    chosen: dict[str, str] = request.param
    return chosen


@pytest.fixture
def resources(environment: dict[str, str]) -> dict[str, Any]:
    """What the template resolves to."""
    return resolve(environment)


def resolve(environment: dict[str, str]) -> dict[str, Any]:
    resources: dict[str, Any] = resolved(environment, account=ACCOUNT)["resources"]
    return resources


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Function Compute takes for a layer: it does not look inside."""
    file = tmp_path_factory.mktemp("build") / "layer.zip"
    file.write_bytes(b"the layer")
    return file


def publish(
    s: ServerlessDevs, layer: Path, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Publish the layer as `make deploy` does."""
    done = s.run(
        *("sweep", "layer", "publish", "--layer-name", "encryption-guard"),
        *("--code", str(layer), "-o", "json", "--silent"),
        *("--compatible-runtime", (environment or {}).get("GUARD_RUNTIME", "python3.12")),
        environment=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    published: dict[str, Any] = json.loads(done.stdout)
    return published


def deploy(
    s: ServerlessDevs, environment: dict[str, str] | None = None, template: Path | None = None
) -> str:
    """What a deployment that succeeds prints; AssertionError with what it printed otherwise."""
    done = s.run("deploy", "-y", "--skip-actions", environment=environment, template=template)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def deploy_there(s: ServerlessDevs, version: int) -> None:
    """Deploy to the second region as `make deploy` does, in two steps."""
    environment = {**THERE, "LAYER_VERSION": str(version)}
    first, _ = choose_steps(THERE, None)
    deploy(s, {**environment, **first})
    done = s.run("infra", "deploy", "-y", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, layer: Path
) -> Callable[[], ServerlessDevs]:
    """Makes an account that has the layer, and nothing else."""
    first = serverless_devs(tmp_path_factory.mktemp("home"))
    publish(first, layer)
    account = json.dumps(first.account())

    def another() -> ServerlessDevs:
        s = serverless_devs(tmp_path_factory.mktemp("home"))
        Path(s.environment["EMULATED_ACCOUNT"]).write_text(account, "utf-8")
        return s

    return another


@pytest.fixture(scope="module")
def deployed(published: Callable[[], ServerlessDevs]) -> ServerlessDevs:
    """An account to which the template is deployed."""
    s = published()
    deploy(s)
    return s


def copy(folder: Path, change: Change) -> Path:
    """A template that differs from ours in this, beside the functions' code."""
    template = yaml.safe_load((REPOSITORY / "template.yaml").read_text("utf-8"))
    change(template)
    (folder / "functions").symlink_to(REPOSITORY / "functions")
    file = folder / "template.yaml"
    file.write_text(yaml.safe_dump(template, sort_keys=False), "utf-8")
    return file


def props(template: Template, resource: str = "encrypt_on_create") -> dict[str, Any]:
    found: dict[str, Any] = template["resources"][resource]["props"]
    return found


def ros(template: Template, resource: str) -> dict[str, Any]:
    found: dict[str, Any] = props(template, "infra")["template"]["Resources"][resource]
    return found


# What the template resolves to.


@pytest.mark.slow
@needs_serverless_devs
def test_the_tests_own_reading_of_it_is_the_clis(
    s: ServerlessDevs, environment: dict[str, str]
) -> None:
    """What other tests take from the template without Node.js is what the CLI makes of it."""
    theirs, ours = s.preview(environment), resolve(environment)

    assert list(ours) == list(theirs)
    for name, resource in theirs.items():
        assert ours[name]["component"] == resource["component"]
        assert ours[name]["props"] == resource["props"]


def test_what_it_resolves_to_is_right(resources: dict[str, Any]) -> None:
    """No check finds an error in the template, as it is and for a second region."""
    assert checks.complaints_about(resources) == []


def test_every_setting_has_its_place_or_a_reason(resources: dict[str, Any]) -> None:
    """The functions are given the settings that there are, those left out for a reason aside."""
    functions = checks.functions(resources).values()
    given = {name for function in functions for name in function["environmentVariables"]}

    assert given | set(WITHOUT_A_PLACE) == checks.GIVEN
    assert not given & set(WITHOUT_A_PLACE)


def test_the_region_and_the_runtime_are_what_the_shell_says(
    resources: dict[str, Any], environment: dict[str, str]
) -> None:
    """One variable moves everything to another region, another one to another Python."""
    functions = checks.functions(resources).values()
    runtime = environment.get("GUARD_RUNTIME", "python3.12")

    assert {function["runtime"] for function in functions} == {runtime}
    assert {resource["props"]["region"] for resource in resources.values()} == {
        environment["ALIBABA_CLOUD_REGION"]
    }


@pytest.mark.slow
@needs_serverless_devs
def test_it_verifies(s: ServerlessDevs, environment: dict[str, str]) -> None:
    """The CLI finds nothing wrong in it, as far as it looks."""
    done = s.run("verify", environment=environment)

    assert (done.returncode, "passed" in done.stdout) == (0, True), done.stdout


def test_the_named_receivers_are_notified() -> None:
    """The contact group and its web hook reach the alarm, the action policy reaches both alerts."""
    stack = infrastructure({"resources": resolve(THERE)})

    alarm = stack["DeadLettersWaiting"]["Properties"]
    assert alarm["ContactGroups"] == [THERE["GUARD_CONTACT_GROUP"]]
    assert alarm["Webhook"] == THERE["GUARD_WEBHOOK"]
    alerts = [stack[name]["Properties"] for name in ("ErrorsLogged", "SlowEncryptions")]
    assert {
        alert["Detail"]["Configuration"]["PolicyConfiguration"]["ActionPolicyId"]
        for alert in alerts
    } == {THERE["GUARD_ACTION_POLICY"]}


@pytest.mark.parametrize(("shell", "conditional"), [(HERE, False), (THERE, True)])
def test_a_condition_decides_about_resources(shell: dict[str, str], *, conditional: bool) -> None:
    """With settings for all of them there are all; without, those that have no condition."""
    declared = resolve(shell)["infra"]["props"]["template"]["Resources"]

    assert set(infrastructure({"resources": resolve(shell)})) == {
        name for name, resource in declared.items() if conditional or "Condition" not in resource
    }


# What becomes of it in an account.


@pytest.mark.slow
@needs_serverless_devs
def test_the_sweep_is_there_before_events_are(deployed: ServerlessDevs) -> None:
    """An event that fails before its function has a failure destination is found by the sweep."""
    steps = [step.removeprefix("cn-hangzhou: ") for step in deployed.account()["steps"]]

    events = steps.index(f"trigger {CREATION}/table-bucket-events")
    assert steps[0:2] == ["layer encryption-guard 1", "stack oss-tables-encryption-guard"]
    assert f"function {CREATION}" in steps[:events]
    for step in (f"function {SWEEP}", f"trigger {SWEEP}/sweep", f"asyncInvokeConfig {SWEEP}"):
        assert step in steps[:events]
    assert steps[events + 1] == f"asyncInvokeConfig {CREATION}"


@pytest.mark.slow
@needs_serverless_devs
def test_every_resource_can_be_planned_and_the_functions_called(deployed: ServerlessDevs) -> None:
    """A command for one resource needs nothing that only a deployment of all would tell it."""
    done = {
        (resource, command): deployed.run(resource, command)
        for resource, command in (
            *((resource, "plan") for resource in ("infra", "sweep", "encrypt_on_create")),
            *((function, "invoke") for function in ("sweep", "encrypt_on_create")),
        )
    }

    assert {what: one.returncode for what, one in done.items()} == dict.fromkeys(done, 0)
    assert "infra update" in done["infra", "plan"].stdout
    assert '"not_relevant"' in done["sweep", "invoke"].stdout


@pytest.mark.slow
@needs_serverless_devs
def test_two_regions_do_not_get_in_each_others_way(
    published: Callable[[], ServerlessDevs], layer: Path
) -> None:
    """Roles are the account's, not a region's: a second deployment makes roles of its own."""
    s = published()
    deploy(s)

    version = publish(s, layer, THERE)["version"]
    deploy_there(s, version)

    regions = s.account()["regions"]
    assert version == 1
    assert set(regions) == {"cn-hangzhou", "ap-southeast-1"}
    assert all(set(region["functions"]) == {SWEEP, CREATION} for region in regions.values())


@pytest.mark.slow
@needs_serverless_devs
def test_asked_for_json_the_cli_keeps_failures_to_itself(s: ServerlessDevs) -> None:
    """With `-o` every failure counts as allowed: the exit code says nothing, no output does."""
    command = (
        *("sweep", "layer", "publish", "--layer-name", "guard"),
        *("--code", "build/nothing.zip", "--compatible-runtime", "python3.12"),
    )

    plain, as_json = s.run(*command), s.run(*command, "-o", "json", "--silent")

    assert (plain.returncode, "ENOENT" in plain.stdout) == (101, True)
    assert (as_json.returncode, as_json.stdout) == (0, "")


# That the checks would notice.


def misspell(template: Template) -> None:
    """Another key in each kind of resource, and a type that does not exist."""
    config = props(template)["asyncInvokeConfig"]
    config["destinationsConfig"] = config.pop("destinationConfig")
    props(template)["memory_size"] = 256
    schedule = ros(template, "ErrorsLogged")["Properties"]["Detail"]["Schedule"]
    schedule["Intervall"] = schedule.pop("Interval")
    ros(template, "SweepRole")["Type"] = "ALIYUN::RAM::Roll"


@pytest.mark.slow
@needs_serverless_devs
def test_verify_accepts_any_key(s: ServerlessDevs, tmp_path: Path) -> None:
    """The schema of fc3 allows every key, and ros has none: template_keys.py finds them."""
    done = s.run("verify", template=copy(tmp_path, misspell))

    assert (done.returncode, "passed" in done.stdout) == (0, True), done.stdout


def alarm(template: Template) -> dict[str, Any]:
    """The properties of the alarm on dead letters."""
    found: dict[str, Any] = ros(template, "DeadLettersWaiting")["Properties"]
    return found


def configuration(template: Template, name: str) -> dict[str, Any]:
    """What an alert of the log service is set to."""
    found: dict[str, Any] = ros(template, name)["Properties"]["Detail"]["Configuration"]
    return found


def first_chart(template: Template) -> dict[str, Any]:
    """The first chart of the dashboard."""
    found: dict[str, Any] = ros(template, "Dashboard")["Properties"]["Charts"][0]
    return found


# As the checks see a template: resolved.
TOLD_BY_A_CHECK: dict[str, tuple[Change, str]] = {
    "a misspelt property": (
        lambda r: props(r).update(memorysize=256),
        "encrypt_on_create: : Additional properties are not allowed ('memorysize' was unexpected)",
    ),
    "an alarm on hidden dead letters": (
        lambda r: alarm(r).update(MetricName="InactiveMessages"),
        "oss-tables-encryption-guard-cn-hangzhou-dead-letters: "
        "it does not rise at the first letter",
    ),
    "an alert that counts one thing and judges another": (
        lambda r: configuration(r, "ErrorsLogged")["SeverityConfigurations"][0][
            "EvalCondition"
        ].update(Condition="error > 0"),
        "encryption-guard-errors: its query has no column error",
    ),
    "a chart of a field that nobody indexes": (
        lambda r: first_chart(r)["search"].update(
            query=first_chart(r)["search"]["query"].replace("found_by", "way")
        ),
        "encryption-guard: encryptions-by-way: no such column: message.way",
    ),
    "a variable that is not filled in": (
        lambda r: props(r).update(description="of ${vars.name}"),
        "/encrypt_on_create/props/description: of ${vars.name}",
    ),
    "a handler that is not there": (
        lambda r: props(r).update(handler="index.handel"),
        "encrypt_on_create: index.handel is not in ./functions/encrypt_on_create",
    ),
    "a variable by another name": (
        lambda r: props(r)["environmentVariables"].update(GUARD_MODES="enforce"),
        "encrypt_on_create: GUARD_MODES is no setting",
    ),
    "a role that nobody makes": (
        lambda r: props(r).update(role=f"acs:ram::{ACCOUNT}:role/guard"),
        f"encrypt_on_create: no stack makes acs:ram::{ACCOUNT}:role/guard",
    ),
    "a destination that is another queue": (
        lambda r: props(r)["environmentVariables"].update(
            GUARD_DEAD_LETTER_QUEUE=f"acs:mns:cn-hangzhou:{ACCOUNT}:/queues/others"
        ),
        f"encrypt_on_create: no stack makes acs:mns:cn-hangzhou:{ACCOUNT}:/queues/others",
    ),
    "too little time": (
        lambda r: props(r).update(timeout=30),
        "encrypt_on_create: 30 s, but one bucket may take 38",
    ),
    "too large a processor": (
        lambda r: props(r).update(cpu=0.5, memorySize=256),
        "encrypt_on_create: 0.25 GB do not go with 0.5 processors",
    ),
    "a rule that lets in too much": (
        lambda r: props(r)["triggers"][0]["triggerConfig"].update(
            eventRuleFilterPattern='{"source": [{"prefix": "acs"}]}'
        ),
        "encrypt_on_create: without_event_name passes",
    ),
}


@pytest.mark.parametrize(
    ("change", "complaint"), TOLD_BY_A_CHECK.values(), ids=TOLD_BY_A_CHECK.keys()
)
def test_a_check_tells(change: Change, complaint: str) -> None:
    """What `s verify` does not find, a check finds."""
    resources = resolve(HERE)
    change({"resources": resources})

    assert complaint in checks.complaints_about(resources)


def forbid_sending(template: Template) -> None:
    """Take one right from the creation function's role."""
    (policy,) = ros(template, "Role")["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    statements[:] = [one for one in statements if "mns:SendMessage" not in one.get("Action", [])]


TOLD_BY_THE_DEPLOYMENT: dict[str, tuple[Change, str]] = {
    "a right that is missing": (forbid_sending, "lacks mns:SendMessage on acs:mns:cn-hangzhou"),
    "a misspelt key deep in a resource": (
        lambda t: ros(t, "Role")["Properties"]["Policies"][0].update(Polcy={}),
        "StackValidationFailed: Role.Policies.0: the property Polcy is unknown",
    ),
    "a layer for another Python": (
        lambda t: t["vars"].update(runtime="python3.10"),
        "is not for python3.10",
    ),
}


@pytest.mark.slow
@needs_serverless_devs
@pytest.mark.parametrize(
    ("change", "complaint"),
    TOLD_BY_THE_DEPLOYMENT.values(),
    ids=TOLD_BY_THE_DEPLOYMENT.keys(),
)
def test_the_deployment_tells(
    published: Callable[[], ServerlessDevs], tmp_path: Path, change: Change, complaint: str
) -> None:
    """What no template shows by itself, the platform refuses when it is deployed."""
    with pytest.raises(AssertionError, match=r"^101: ") as refused:
        deploy(published(), template=copy(tmp_path, change))

    assert complaint in str(refused.value)
