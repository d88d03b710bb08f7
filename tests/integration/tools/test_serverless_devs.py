"""template.yaml through the real Serverless Devs CLI: resolved and verified.

What the CLI resolves is compared with `tests.emulators.template`; the other tests use the latter.
"""

from __future__ import annotations

from typing import Any

import pytest

from layers.encryption_guard.tools.member_stacks import Home, Members
from layers.encryption_guard.tools.organization import Guarded
from tests.emulators.cloud import ACCOUNT
from tests.emulators.serverless_devs import (
    MISSING,
    ServerlessDevs,
    checks,
    serverless_devs,
)
from tests.emulators.template import infrastructure, resolved

needs_serverless_devs = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

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


def test_two_regions_do_not_get_in_each_others_way() -> None:
    """Roles are the account's, not a region's: a second deployment makes roles of its own."""
    here, there = (
        {
            each["Properties"]["RoleName"]
            for each in infrastructure({"resources": resolve(shell)}).values()
            if each["Type"] == "ALIYUN::RAM::Role"
        }
        for shell in (HERE, THERE)
    )

    assert (len(here) > 1, here & there) == (True, set())


# What becomes of it in an account.


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


# As the checks see a template: resolved.
