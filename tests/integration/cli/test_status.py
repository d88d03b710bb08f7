"""`encryption-guard status`: is the guard deployed in a region, and is it alive?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from encryption_guard.cli.accounts import Choice
from encryption_guard.cli.coverage import Organization
from encryption_guard.cli.last_sweep import LastSweep, read_last_sweep
from encryption_guard.cli.status import CREATE, EVENTS, SWEEP, TIMER, RegionReader, Status
from encryption_guard.credentials import Credentials
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import ConfigurationError
from encryption_guard.invocation import Clock, Invocation
from encryption_guard.services.function_compute import FunctionCompute
from encryption_guard.settings import Settings
from encryption_guard.version import __version__
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Effect, Fault, GarbageBody, Refuse, Reset
from tests.emulators.operators_shell import invoke
from tests.unit.fakes import creation_of, dead_letter_of

NOW = Clock().now()
FINE = LastSweep(NOW - timedelta(minutes=3, seconds=5), ok=True)
LETTER = dead_letter_of(creation_of(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedCloud]:
    """A region where the guard is deployed as by `make deploy`."""
    with emulated_cloud(environment={}) as cloud:
        monkeypatch.setenv("SSL_CERT_FILE", str(cloud.certificate))
        monkeypatch.setenv("GUARD_SMQ_ENDPOINT", cloud.queue.url)
        yield cloud


def read(
    cloud: EmulatedCloud, last: LastSweep | Exception | None = FINE, account_id: str = ACCOUNT
) -> Status:
    """Read the region, whose log says this of its last sweep."""

    def read_last_sweep(*_: object) -> LastSweep | None:
        if isinstance(last, Exception):
            raise last
        return last

    settings = Settings(fc_endpoint=cloud.api.url, max_attempts=1)
    with open_command(settings, seconds=30) as opened:
        invocation: Invocation = opened._replace(
            read_credentials=lambda: Credentials(OWNER.id, OWNER.secret)
        )
        reader = RegionReader(
            *(invocation, FunctionCompute(invocation), REGION, account_id, NOW),
            *(Organization(invocation), Choice(), read_last_sweep),
        )
        return reader.read()


def change(cloud: EmulatedCloud, name: str, **variables: str) -> None:
    """Give a deployed function these variables."""
    function = cloud.api.deployed[name].function
    before: Any = function["environmentVariables"]
    changed = {**function, "environmentVariables": {**before, **variables}}
    cloud.api.deployed[name] = replace(cloud.api.deployed[name], function=changed)


def switch_off(cloud: EmulatedCloud, name: str, trigger: str, key: str) -> None:
    """Switch a trigger off."""
    triggers = cloud.api.deployed[name].triggers
    config = json.loads(str(triggers[trigger]["triggerConfig"])) | {key: False}
    changed = {trigger: {**triggers[trigger], "triggerConfig": json.dumps(config)}}
    cloud.api.deployed[name] = replace(cloud.api.deployed[name], triggers=changed)


def test_a_region_where_all_is_well(cloud: EmulatedCloud) -> None:
    """Each value is what is deployed, and nothing is to be done."""
    assert read(cloud) == Status(
        region=REGION,
        deployed="yes",
        version="unknown",
        mode="enforce",
        exemptions="0",
        accounts="1",
        timer="on",
        trigger="on",
        dead_letters="0",
        last_sweep="3 min ago",
    )


def without(name: str) -> Callable[[EmulatedCloud], object]:
    return lambda cloud: cloud.api.deployed.pop(name)


@pytest.mark.parametrize(
    ("spoil", "field", "value", "problem"),
    [
        (without(CREATE), "deployed", "partly", f"{CREATE} is missing"),
        (without(SWEEP), "timer", None, f"{SWEEP} is missing"),
        (
            lambda cloud: change(cloud, SWEEP, GUARD_MODE="detect"),
            *("mode", "enforce | detect", "The functions differ in GUARD_MODE"),
        ),
        (
            lambda cloud: switch_off(cloud, SWEEP, TIMER, "enable"),
            *("timer", "off", f"The trigger sweep of {SWEEP} is off"),
        ),
        (
            lambda cloud: switch_off(cloud, CREATE, EVENTS, "triggerEnable"),
            *("trigger", "off", f"The trigger table-bucket-events of {CREATE} is off"),
        ),
        (
            lambda cloud: cloud.api.deployed.update(
                {SWEEP: replace(cloud.api.deployed[SWEEP], triggers={})}
            ),
            *("timer", "missing", f"{SWEEP} has no trigger sweep"),
        ),
        (
            lambda cloud: cloud.queue.put(QUEUE, LETTER),
            *("dead_letters", "1", f"Dead letters wait in {REGION}"),
        ),
        (
            lambda cloud: [cloud.queue.put(QUEUE, LETTER) for _ in range(20)],
            *("dead_letters", "16 or more", f"Dead letters wait in {REGION}"),
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_said(
    cloud: EmulatedCloud,
    spoil: Callable[[EmulatedCloud], object],
    field: str,
    value: str | None,
    problem: str,
) -> None:
    """In one sentence, beside the value itself."""
    spoil(cloud)

    found = read(cloud)

    assert getattr(found, field) == value
    assert [sentence for sentence in found.problems if sentence.startswith(problem)]
    assert found.unread == ()


@pytest.mark.parametrize(
    ("last", "shown", "problem"),
    [
        (None, "none", "No sweep has ended"),
        (FINE._replace(ok=False), "3 min ago, problems", "The last sweep found problems"),
        (
            FINE._replace(at=NOW - timedelta(minutes=11)),
            *("11 min ago", f"The last sweep in {REGION} ended 11 min ago"),
        ),
        (FINE._replace(at=NOW - timedelta(hours=5)), "5 h ago", "The last sweep in"),
        # Its clock is ahead.
        (FINE._replace(at=NOW + timedelta(minutes=2), ok=False), "0 min ago, problems", "The last"),
    ],
)
def test_a_sweep_that_is_late_or_found_something_is_a_problem(
    cloud: EmulatedCloud, last: LastSweep | None, shown: str, problem: str
) -> None:
    """The guard may not be alive any more."""
    found = read(cloud, last)

    assert found.last_sweep == shown
    assert found.problems[0].startswith(problem)


def test_a_region_without_the_guard(cloud: EmulatedCloud) -> None:
    """Nothing else is asked there."""
    cloud.api.deployed.clear()

    found = read(cloud)

    assert (found.deployed, found.problems) == (
        *("no", (f"No guard is deployed in {REGION} of account {ACCOUNT}.",)),
    )


@pytest.mark.parametrize(
    ("operation", "field"),
    [("GetTrigger", "timer"), ("GetTrigger", "trigger"), ("GetFunction", "deployed")],
)
def test_what_cannot_be_read_is_unknown(cloud: EmulatedCloud, operation: str, field: str) -> None:
    """Not absent; the sentence names the right that is missing."""
    cloud.api.faults.add(Fault(Refuse(403), operation=operation))

    found = read(cloud)

    assert getattr(found, field) == "unknown"
    assert f"their permission fc:{operation}," in found.unread[0]
    assert found.problems == ()


def test_a_queue_or_a_log_that_cannot_be_read_is_unknown(cloud: EmulatedCloud) -> None:
    """The rest is shown all the same."""
    cloud.queue.faults.add(Fault(Refuse(403)))

    found = read(cloud, ConfigurationError("check the right log:GetLogStoreLogs"))

    assert (found.deployed, found.dead_letters, found.last_sweep) == ("yes", "unknown", "unknown")
    assert len(found.unread) == 2


@pytest.mark.parametrize(
    ("exemptions", "shown"),
    [
        ('[{"bucket": "a-*", "reason": "b"}]', "1"),
        ('[{"bucket": "a-*", "reason": "b"}, {"bucket": "c"}]', "1 (1 bad)"),
        ("file:exemptions-0123456789ab.json", "a file"),
        ("", "0"),
    ],
)
def test_exemptions_are_counted(cloud: EmulatedCloud, exemptions: str, shown: str) -> None:
    """As the functions read them."""
    for name in (CREATE, SWEEP):
        change(cloud, name, GUARD_EXEMPTIONS=exemptions)

    assert read(cloud).exemptions == shown


@pytest.mark.parametrize(
    ("of_create", "of_sweep", "shown"),
    [
        (
            [{"Key": "owner"}, {"Key": "version", "Value": __version__}],
            [{"key": "version", "value": "0.1.0"}],
            f"{__version__} | 0.1.0",
        ),
        # Somebody deployed them in another way.
        ([], [], "unknown"),
    ],
    ids=["two", "none"],
)
def test_versions_are_those_of_the_tags(
    cloud: EmulatedCloud, of_create: list[object], of_sweep: list[object], shown: str
) -> None:
    """In whichever casing; functions of two versions are a deployment that stopped."""
    for name, tags in ((CREATE, of_create), (SWEEP, of_sweep)):
        function = {**cloud.api.deployed[name].function, "tags": tags}
        cloud.api.deployed[name] = replace(cloud.api.deployed[name], function=function)

    found = read(cloud)

    assert found.version == shown
    differ = [each for each in found.problems if each.startswith("The functions differ in version")]
    assert len(differ) == (of_create != of_sweep)


# The command.


def shell(cloud: EmulatedCloud, *arguments: str) -> tuple[int, str, str]:
    done = invoke(cloud, "status", *arguments)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_shows_a_line_for_each_region(cloud: EmulatedCloud) -> None:
    """Where all is well it says nothing else, and ends with 0."""
    finished, now = {"message": "sweep finished", "ok": True}, Clock().now().timestamp()
    cloud.log.log(SWEEP, finished | {"ok": False}, at=now - 300)
    cloud.log.log(SWEEP, finished, at=now - 65)
    cloud.log.log(SWEEP, finished | {"message": "watch finished"}, at=now)

    code, output, errors = shell(cloud, "--region", REGION)

    heading, row = output.splitlines()
    assert heading.split()[:2] == ["region", "version"]
    assert row.split() == [REGION, "unknown", "enforce", "0", "on", "on", "0", "1", "min", "ago"]
    assert (code, errors) == (0, "")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Refuse(403), "answered 403 Unauthorized; check the right log:GetLogStoreLogs"),
        (Refuse(503), "answered 503 InternalServerError; a later try may succeed"),
        (Reset(), "gave no answer: check the region and network"),
        (GarbageBody(b"<html>"), "gave an unreadable answer"),
        (GarbageBody(b'[{"message": "x"}]'), "gave an unreadable answer"),
    ],
)
def test_a_log_that_does_not_answer_leaves_the_last_sweep_unknown(
    cloud: EmulatedCloud, fault: Effect, said: str
) -> None:
    """It has an exit code of its own: nothing is wrong, as far as could be seen."""
    cloud.log.faults.add(Fault(fault))

    code, output, errors = shell(cloud, "--region", REGION)

    assert (code, output.split()[-1]) == (3, "unknown")
    assert said in errors


def test_a_temporary_key_may_read_the_log(cloud: EmulatedCloud) -> None:
    """Its token is signed, as the vendor's client signs it."""
    key = replace(OWNER, security_token="a-token")
    for service in (cloud.api, cloud.queue, cloud.sts, cloud.log):
        service.admit(key)
    cloud.log.log(SWEEP, {"message": "sweep finished", "ok": True})

    settings = Settings(fc_endpoint=cloud.api.url, log_endpoint=cloud.log.url)
    with open_command(settings, seconds=30) as opened:
        credentials = Credentials(key.id, key.secret, key.security_token)
        invocation = opened._replace(read_credentials=lambda: credentials)
        found = read_last_sweep(invocation, cloud.api.deployed[SWEEP].function, REGION)

    assert found is not None
    assert found.ok


def test_a_function_without_a_log_says_so(cloud: EmulatedCloud) -> None:
    """Function Compute writes none then."""
    function = {**cloud.api.deployed[SWEEP].function, "logConfig": {}}
    cloud.api.deployed[SWEEP] = replace(cloud.api.deployed[SWEEP], function=function)

    code, _, errors = shell(cloud, "--region", REGION)

    assert code == 3
    assert "The function writes no log" in errors


def test_json_has_every_field(cloud: EmulatedCloud) -> None:
    """With problems and what could not be read as lists."""
    cloud.queue.put(QUEUE, LETTER)

    code, output, _ = shell(cloud, "--region", f"{REGION}", "--output", "json")

    found: Mapping[str, Any] = json.loads(output)
    assert set(found) == set(Status.__dataclass_fields__)
    assert (found["deployed"], found["dead_letters"]) == ("yes", "1")
    assert code == 1


def test_of_all_regions_those_without_the_guard_are_no_problem(cloud: EmulatedCloud) -> None:
    """A region that was named is."""
    cloud.api.deployed.clear()

    assert shell(cloud, "--all-regions")[0] == 0
    code, output, errors = shell(cloud, "--region", REGION)
    assert (code, "not deployed" in output) == (1, True)
    assert "No guard is deployed" in errors


def test_without_an_account_nothing_is_asked(cloud: EmulatedCloud) -> None:
    """It is the caller's, unless it is named."""
    cloud.sts.faults.add(Fault(Refuse(403)))

    code, _, errors = shell(cloud, "--region", REGION)

    assert code == 2
    assert "set FC_ACCOUNT_ID" in errors
    assert cloud.api.requests == []


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_gets_fewer_columns(cloud: EmulatedCloud, columns: int) -> None:
    """One line a region, none of it broken."""
    found = invoke(cloud, "status", "--region", REGION, columns=columns)

    head, row = found.stdout.splitlines()
    assert head.split()[:5] == ["region", "version", "mode", "timer", "letters"]
    assert row.startswith(f"{REGION} ")
    assert max(map(len, (head, row))) <= columns


def test_a_named_account_is_not_asked_for(cloud: EmulatedCloud) -> None:
    """The shell of an operator may name it."""
    found = invoke(cloud, "status", "--region", REGION, FC_ACCOUNT_ID=ACCOUNT)

    assert REGION in found.stdout
    assert cloud.sts.requests == []
