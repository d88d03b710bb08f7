"""template.yaml through the real Serverless Devs CLI: resolved, verified, deployed, removed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from copy import deepcopy
from fnmatch import fnmatchcase
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

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

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


@pytest.fixture(scope="module")
def here(s: ServerlessDevs) -> dict[str, Any]:
    """What the template resolves to in a shell that sets nothing."""
    return s.preview()


@pytest.fixture(scope="module", params=[HERE, THERE], ids=["default", "second region"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    chosen: dict[str, str] = request.param
    return chosen


@pytest.fixture(scope="module")
def resources(
    s: ServerlessDevs, environment: dict[str, str], here: dict[str, Any]
) -> dict[str, Any]:
    """What the template resolves to."""
    return here if environment is HERE else s.preview(environment)


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


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_what_it_resolves_to_is_right(
    resources: dict[str, Any], check: Callable[[checks.Resources], list[str]]
) -> None:
    """Every check is content with the template, as it is and for a second region."""
    assert check(resources) == []


def test_the_tests_own_reading_of_it_is_the_clis(
    resources: dict[str, Any], environment: dict[str, str]
) -> None:
    """What other tests take from the template without Node.js is what the CLI makes of it."""
    from tests.emulators.template import resolved

    ours = resolved({} if environment is HERE else environment, account=ACCOUNT)["resources"]

    assert list(ours) == list(resources)
    for name, resource in resources.items():
        assert ours[name]["component"] == resource["component"]
        assert ours[name]["props"] == resource["props"]


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


def test_it_verifies(s: ServerlessDevs, environment: dict[str, str]) -> None:
    """The CLI finds nothing wrong in it, as far as it looks."""
    done = s.run("verify", environment=environment)

    assert (done.returncode, "passed" in done.stdout) == (0, True), done.stdout


# What becomes of it in an account.


def test_the_sweep_is_there_before_events_are(deployed: ServerlessDevs) -> None:
    """An event that fails before its function has a failure destination is found by the sweep."""
    steps = [step.removeprefix("cn-hangzhou: ") for step in deployed.account()["steps"]]

    events = steps.index(f"trigger {CREATION}/table-bucket-events")
    assert steps[0:2] == ["layer encryption-guard 1", "stack oss-tables-encryption-guard"]
    assert f"function {CREATION}" in steps[:events]
    for step in (f"function {SWEEP}", f"trigger {SWEEP}/sweep", f"asyncInvokeConfig {SWEEP}"):
        assert step in steps[:events]
    assert steps[events + 1] == f"asyncInvokeConfig {CREATION}"


def test_each_role_may_write_where_its_function_logs(deployed: ServerlessDevs) -> None:
    """Without that right Function Compute keeps quiet, and no log is ever written."""
    place = deployed.account()["regions"]["cn-hangzhou"]
    (stack,) = place["stacks"].values()
    roles = {
        f"acs:ram::{ACCOUNT}:role/{made['properties']['RoleName']}": made["properties"]["Policies"]
        for made in stack["resources"].values()
        if made["type"] == "ALIYUN::RAM::Role"
    }

    for function in place["functions"].values():
        logs = function["logConfig"]
        store = f"project/{logs['project']}/logstore/{logs['logstore']}"
        (statement,) = [
            one
            for policy in roles[function["role"]]
            for one in policy["PolicyDocument"]["Statement"]
            if "log:PostLogStoreLogs" in one["Action"]
        ]
        (resource,) = statement["Resource"]
        assert fnmatchcase(f"acs:log:cn-hangzhou:{ACCOUNT}:{store}", resource)


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


def test_everything_can_be_removed_one_by_one(published: Callable[[], ServerlessDevs]) -> None:
    """Each resource goes by itself, the functions first, and the layer too."""
    s = published()
    deploy(s)

    codes = [
        s.run(*command).returncode
        for command in (
            ("encrypt_on_create", "remove", "-y"),
            ("sweep", "remove", "-y"),
            ("sweep", "layer", "remove", "--layer-name", "encryption-guard", "-y"),
            ("infra", "remove", "-y"),
        )
    ]

    assert codes == [0] * 4
    left = s.account()["regions"]["cn-hangzhou"]
    assert left == {"stacks": {}, "layers": {"encryption-guard": []}, "functions": {}}


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
    # With somebody to tell there are alarms; without, none.
    here, there = (
        set(next(iter(regions[region]["stacks"].values()))["resources"])
        for region in ("cn-hangzhou", "ap-southeast-1")
    )
    template = yaml.safe_load((REPOSITORY / "template.yaml").read_text("utf-8"))
    declared = props(template, "infra")["template"]["Resources"]
    assert there == set(declared)
    assert here == {name for name, resource in declared.items() if "Condition" not in resource}


def test_whoever_is_named_is_told(published: Callable[[], ServerlessDevs], layer: Path) -> None:
    """The contact group and its web hook reach the alarm, the action policy reaches both alerts."""
    s = published()
    version = publish(s, layer, THERE)["version"]
    deploy_there(s, version)

    (stack,) = s.account()["regions"]["ap-southeast-1"]["stacks"].values()
    told = {name: resource["properties"] for name, resource in stack["resources"].items()}

    assert told["DeadLettersWaiting"]["ContactGroups"] == [THERE["GUARD_CONTACT_GROUP"]]
    assert told["DeadLettersWaiting"]["Webhook"] == THERE["GUARD_WEBHOOK"]
    policies = {
        told[name]["Detail"]["Configuration"]["PolicyConfiguration"]["ActionPolicyId"]
        for name in ("ErrorsLogged", "SlowEncryptions")
    }
    assert policies == {THERE["GUARD_ACTION_POLICY"]}


def test_credentials_of_an_alias_reach_the_components_and_stay_out_of_the_books(
    s: ServerlessDevs,
) -> None:
    """Temporary keys come as one variable; only the end of a key's id is ever written down."""
    key = {
        "AccountID": ACCOUNT,
        "AccessKeyID": "STS.temporary-1234",
        "AccessKeySecret": "alias-secret",
        "SecurityToken": "alias-token",
    }
    alias = "guard_serverless_devs_key"

    done = s.run("infra", "plan", "-a", alias, environment={alias: json.dumps(key)})

    assert done.returncode == 0, done.stdout
    call = s.calls()[-1]
    assert (call["component"], call["method"], call["resource"]) == ("ros", "plan", "infra")
    assert (call["account"], call["key_ending"]) == (ACCOUNT, "1234")
    assert "alias-" not in json.dumps(s.account())


# The stand-ins' own ways.


def test_a_layer_has_a_new_version_only_if_it_is_another(s: ServerlessDevs, tmp_path: Path) -> None:
    """The same bytes are the same version."""
    layer = tmp_path / "layer.zip"
    versions = []
    for content in (b"one", b"one", b"two"):
        layer.write_bytes(content)
        versions.append(publish(s, layer)["version"])

    assert versions == [1, 1, 2]


def test_asked_for_json_the_cli_keeps_failures_to_itself(s: ServerlessDevs) -> None:
    """With `-o` every failure counts as allowed: the exit code says nothing, no output does."""
    command = (
        *("sweep", "layer", "publish", "--layer-name", "guard"),
        *("--code", "build/nothing.zip", "--compatible-runtime", "python3.12"),
    )

    plain, as_json = s.run(*command), s.run(*command, "-o", "json", "--silent")

    assert (plain.returncode, "ENOENT" in plain.stdout) == (101, True)
    assert (as_json.returncode, as_json.stdout) == (0, "")


def test_the_function_called_is_the_command_given(deployed: ServerlessDevs) -> None:
    """It has the event and its variables; what it prints is the answer, and errors say so."""
    program = (
        "import os, sys; "
        "print(sys.stdin.read(), os.environ['GUARD_MODE'], os.environ['FC_REGION']); "
        "sys.exit('fail' in sys.argv)"
    )
    command = [sys.executable, "-c", program]

    well, badly = (
        deployed.run(
            *("sweep", "invoke", "-e", "the event"),
            environment={"EMULATED_FUNCTION": json.dumps(argv)},
        ).stdout
        for argv in (command, [*command, "fail"])
    )

    assert "Invoke Result:\n\x1b[32mthe event enforce cn-hangzhou\x1b[39m" in well
    assert "Error Type" not in well
    assert "Error Type: UnhandledInvocationError" in badly
    assert "\x1b[31mthe event enforce cn-hangzhou\x1b[39m" in badly


# That the checks would notice.


def test_a_copy_is_as_good(s: ServerlessDevs, tmp_path: Path, here: dict[str, Any]) -> None:
    """What the tests below find is in the change alone."""
    template = copy(tmp_path, lambda template: template)

    assert s.run("verify", template=template).returncode == 0
    assert s.preview(template=template) == here


TOLD_BY_VERIFY: dict[str, tuple[Change, str]] = {
    "a value that is no string": (
        lambda t: props(t)["environmentVariables"].update(GUARD_MODE=5),
        "encrypt_on_create/props/environmentVariables/GUARD_MODE must be string",
    ),
    "a trigger without its configuration": (
        lambda t: props(t)["triggers"][0].pop("triggerConfig"),
        "triggers/0 must have required property 'triggerConfig'",
    ),
    "a size that is none": (
        lambda t: props(t).update(memorySize=200),
        "encrypt_on_create/props/memorySize must be multiple of 64",
    ),
    "a Python that is not there": (
        lambda t: props(t).update(runtime="python3.13"),
        "encrypt_on_create/props/runtime must be equal to one of the allowed values",
    ),
}


@pytest.fixture(scope="module")
def verified(s: ServerlessDevs, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the CLI says of a template with all of that at once: it does not stop at the first."""

    def spoil(template: Template) -> None:
        for change, _complaint in TOLD_BY_VERIFY.values():
            change(template)

    done = s.run("verify", template=copy(tmp_path_factory.mktemp("spoilt"), spoil))
    assert done.returncode == 1
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "complaint",
    [complaint for _change, complaint in TOLD_BY_VERIFY.values()],
    ids=TOLD_BY_VERIFY.keys(),
)
def test_verify_tells(verified: list[str], complaint: str) -> None:
    """A template that the platform would not take, or would take for another, does not verify."""
    assert any(complaint in line for line in verified)


def misspell(template: Template) -> None:
    """Another key in each kind of resource, and a type that does not exist."""
    config = props(template)["asyncInvokeConfig"]
    config["destinationsConfig"] = config.pop("destinationConfig")
    props(template)["memory_size"] = 256
    schedule = ros(template, "ErrorsLogged")["Properties"]["Detail"]["Schedule"]
    schedule["Intervall"] = schedule.pop("Interval")
    ros(template, "SweepRole")["Type"] = "ALIYUN::RAM::Roll"


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


def asked(template: Template, name: str) -> dict[str, Any]:
    """The one query of an alert."""
    (query,) = configuration(template, name)["QueryList"]
    found: dict[str, Any] = query
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
    "a trigger without its sink": (
        lambda r: props(r)["triggers"][0]["triggerConfig"].pop("eventSinkConfig"),
        "encrypt_on_create: triggers/0/triggerConfig: 'eventSinkConfig' is a required property",
    ),
    "an alarm on another queue": (
        lambda r: alarm(r)["Resources"][0].update(queue="others"),
        "oss-tables-encryption-guard-cn-hangzhou-dead-letters: nobody makes "
        f"{{'userId': '{ACCOUNT}', 'region': 'cn-hangzhou', 'queue': 'others'}}",
    ),
    "an alarm in another region": (
        lambda r: alarm(r)["Resources"][0].update(region="cn-beijing"),
        "oss-tables-encryption-guard-cn-hangzhou-dead-letters: nobody makes "
        f"{{'userId': '{ACCOUNT}', 'region': 'cn-beijing', "
        "'queue': 'oss-tables-encryption-guard-dead-letters'}",
    ),
    "an alarm at the hundredth letter": (
        lambda r: alarm(r)["Escalations"]["Critical"].update(Threshold="100"),
        "oss-tables-encryption-guard-cn-hangzhou-dead-letters: "
        "it does not rise at the first letter",
    ),
    "an alarm on hidden letters": (
        lambda r: alarm(r).update(MetricName="InactiveMessages"),
        "oss-tables-encryption-guard-cn-hangzhou-dead-letters: "
        "it does not rise at the first letter",
    ),
    "an alert on another store": (
        lambda r: asked(r, "ErrorsLogged").update(Store="others"),
        "encryption-guard-errors: nobody writes to cn-hangzhou/"
        f"oss-tables-encryption-guard-cn-hangzhou-{ACCOUNT}/others",
    ),
    "an alert on a field that nobody indexes": (
        lambda r: asked(r, "SlowEncryptions").update(
            Query="message.time_to_encrypt > 1 | select count(*) as slow"
        ),
        "encryption-guard-slow: message.time_to_encrypt is not indexed for >",
    ),
    "an alert on a column that nobody indexes": (
        lambda r: asked(r, "EncryptionsRemovedAgain").update(
            Query=asked(r, "EncryptionsRemovedAgain")["Query"].replace("message.by", "message.who")
        ),
        "encryption-guard-removed-again: no such column: message.who",
    ),
    "an alert for each bucket that does not know the bucket": (
        lambda r: configuration(r, "EncryptionsRemoved")["GroupConfiguration"].update(
            Fields=["bucket"]
        ),
        "encryption-guard-removed: its query has no column bucket",
    ),
    "an index of words where numbers are compared": (
        lambda r: ros(r, "LogIndex")["Properties"]["KeyIndices"][-1]["JsonKeyIndices"][-1].update(
            Type="text"
        ),
        "encryption-guard-slow: message.time_to_encrypt_ms is not indexed for >",
    ),
    "an alert that counts one thing and judges another": (
        lambda r: configuration(r, "ErrorsLogged")["SeverityConfigurations"][0][
            "EvalCondition"
        ].update(Condition="error > 0"),
        "encryption-guard-errors: its query has no column error",
    ),
    "an alert that is off": (
        lambda r: ros(r, "ErrorsLogged")["Properties"]["Detail"].update(State="Disabled"),
        "encryption-guard-errors: it is off",
    ),
    "an alert with a blind time": (
        lambda r: asked(r, "ErrorsLogged").update(Start="-1m"),
        "encryption-guard-errors: it does not look at all of the time that has passed",
    ),
    "an alert whose condition nobody understands": (
        lambda r: configuration(r, "SweepsMissing")["SeverityConfigurations"][0][
            "EvalCondition"
        ].update(Condition="finished is 0"),
        "encryption-guard-silent: nobody understands 'finished is 0'",
    ),
    "a chart of another store": (
        lambda r: first_chart(r)["search"].update(logstore="others"),
        "encryption-guard: encryptions-by-way: nobody writes to "
        f"oss-tables-encryption-guard-cn-hangzhou-{ACCOUNT}/others",
    ),
    "a chart of a field that nobody indexes": (
        lambda r: first_chart(r)["search"].update(
            query=first_chart(r)["search"]["query"].replace("found_by", "way")
        ),
        "encryption-guard: encryptions-by-way: no such column: message.way",
    ),
    "a chart that draws what its query does not have": (
        lambda r: first_chart(r)["display"].update(yAxis=["lines"]),
        "encryption-guard: encryptions-by-way: its query has no column lines",
    ),
    "a chart below another": (
        lambda r: first_chart(r)["display"].update(width=5),
        "encryption-guard: time-to-encrypt: it has no place of its own",
    ),
    "a variable by another name": (
        lambda r: props(r)["environmentVariables"].update(GUARD_MODES="enforce"),
        "encrypt_on_create: GUARD_MODES is no setting",
    ),
    "a value that is no string": (
        lambda r: props(r)["environmentVariables"].update(GUARD_AUDIT_TABLES=True),
        "encrypt_on_create: GUARD_AUDIT_TABLES is not a string",
    ),
    "a value that is none": (
        lambda r: props(r)["environmentVariables"].update(GUARD_MODE="enfroce"),
        'encrypt_on_create: GUARD_MODE is "enfroce", but has to be enforce or detect; '
        "correct the variable.",
    ),
    "a handler that is not there": (
        lambda r: props(r).update(handler="index.handel"),
        "encrypt_on_create: index.handel is not in ./functions/encrypt_on_create",
    ),
    "a file that is not there": (
        lambda r: props(r).update(handler="main.handler"),
        "encrypt_on_create: main.handler is not in ./functions/encrypt_on_create",
    ),
    "a variable that is not filled in": (
        lambda r: props(r).update(description="of ${vars.name}"),
        "/encrypt_on_create/props/description: of ${vars.name}",
    ),
    "a role with capitals": (
        lambda r: props(r).update(role=f"acs:ram::{ACCOUNT}:role/Guard"),
        f"encrypt_on_create: acs:ram::{ACCOUNT}:role/Guard is no role's ARN in lower case",
    ),
    "a role that nobody makes": (
        lambda r: props(r).update(role=f"acs:ram::{ACCOUNT}:role/guard"),
        f"encrypt_on_create: no stack makes acs:ram::{ACCOUNT}:role/guard",
    ),
    "an ARN that is none": (
        lambda r: props(r).update(layers=["acs:fc:cn-hangzhou:layers/guard/versions/1"]),
        "/encrypt_on_create/props/layers/0: acs:fc:cn-hangzhou:layers/guard/versions/1 is no ARN",
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
    "a processor that is none": (
        lambda r: props(r).update(cpu=0.24),
        "encrypt_on_create: 0.24 is no multiple of 0.05",
    ),
    "too large a processor": (
        lambda r: props(r).update(cpu=0.5, memorySize=256),
        "encrypt_on_create: 0.25 GB do not go with 0.5 processors",
    ),
}


@pytest.mark.parametrize(
    ("change", "complaint"), TOLD_BY_A_CHECK.values(), ids=TOLD_BY_A_CHECK.keys()
)
def test_a_check_tells(here: dict[str, Any], change: Change, complaint: str) -> None:
    """What `s verify` does not find, a check finds."""
    resources = deepcopy(here)
    change({"resources": resources})

    assert complaint in checks.complaints_about(resources)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ('{"source": ["acs.ecs"]}', "response_elements_arn does not pass"),
        ('{"source": [{"prefix": "acs"}]}', "without_event_name passes"),
        ('{"source": ["acs.oss"]', "Expecting ',' delimiter"),
    ],
    ids=["nothing", "everything", "no JSON"],
)
def test_a_rule_is_tried_on_every_sample(
    here: dict[str, Any], pattern: str, complaint: str
) -> None:
    """A pattern that lets in too little or too much, or is none, is told."""
    resources = deepcopy(here)
    trigger = props({"resources": resources})["triggers"][0]
    trigger["triggerConfig"]["eventRuleFilterPattern"] = pattern

    assert any(complaint in one for one in checks.patterns(resources))


def forbid_sending(template: Template) -> None:
    """Take one right from the creation function's role."""
    (policy,) = ros(template, "Role")["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    statements[:] = [one for one in statements if "mns:SendMessage" not in one.get("Action", [])]


TOLD_BY_THE_DEPLOYMENT: dict[str, tuple[Change, str]] = {
    "a right that is missing": (forbid_sending, "lacks mns:SendMessage on acs:mns:cn-hangzhou"),
    "a queue that is missing": (
        lambda t: ros(t, "DeadLetterQueue")["Properties"].update(QueueName="others"),
        "the destination acs:mns:cn-hangzhou",
    ),
    "a role that is missing": (
        lambda t: ros(t, "Role")["Properties"].update(RoleName="others"),
        "EntityNotExist.Role",
    ),
    "a file that is missing": (
        lambda t: props(t).update(handler="main.handler"),
        "main.handler: there is no",
    ),
    "a log that is missing": (
        lambda t: ros(t, "LogStore")["Properties"].update(LogstoreName="others"),
        "LogStoreNotExist",
    ),
    "a resource of no type": (
        lambda t: ros(t, "DeadLetterQueue").update(Type="ALIYUN::MNS::Queu"),
        "the resource type ALIYUN::MNS::Queu is unknown",
    ),
    "a misspelt property of a resource": (
        lambda t: ros(t, "DeadLetterQueue")["Properties"].update(MessageRetention=604800),
        "StackValidationFailed: DeadLetterQueue: the property MessageRetention is unknown",
    ),
    "a misspelt key deep in a resource": (
        lambda t: ros(t, "Role")["Properties"]["Policies"][0].update(Polcy={}),
        "StackValidationFailed: Role.Policies.0: the property Polcy is unknown",
    ),
    "a switch that is neither on nor off": (
        lambda t: t["vars"].update(auditTables="maybe"),
        "AuditTables may not be maybe",
    ),
    "a layer for another Python": (
        lambda t: t["vars"].update(runtime="python3.10"),
        "is not for python3.10",
    ),
    "a Python that the region has not": (
        lambda t: t["vars"].update(region="ap-southeast-1"),
        "ap-southeast-1 has no python3.12",
    ),
}


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
