"""What stops a deployment before it begins, and what is only to be minded."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.settings import VARIABLES
from encryption_guard.version import __version__
from layers.encryption_guard.tools import preflight
from layers.encryption_guard.tools.preflight import (
    ALIAS,
    FUNCTION_FOLDERS,
    REGIONS,
    Access,
    Finding,
    Region,
)

SHELL = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI5tExample",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "not-to-be-seen",
    "ALIBABA_CLOUD_ACCOUNT_ID": "1234567890123456",
}
TOLD = {"GUARD_CONTACT_GROUP": "security", "GUARD_ACTION_POLICY": "sls.builtin"}
HANGZHOU, SINGAPORE, VIRGINIA = (
    REGIONS[name] for name in ("cn-hangzhou", "ap-southeast-1", "us-east-1")
)


TODAY = date(2026, 12, 1)
OWN = "1234567890123456"


def settings_of(
    environment: dict[str, str], *, any_region: bool = False, account_id: str | None = None
) -> list[Finding]:
    """What the settings of a shell are found to be."""
    return preflight.check_settings(
        environment, today=TODAY, any_region=any_region, account_id=account_id
    )


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("node", "command", "level"),
    [
        ("20.20.2", "3.1.10", "ok"),
        ("14.14.0", "3.1.10", "ok"),
        ("14.13.9", "3.1.10", "error"),
        (None, None, "error"),
        ("20.20.2", None, "error"),
    ],
)
def test_the_tools_have_to_be_there(node: str | None, command: str | None, level: str) -> None:
    """Without Node.js of a version that Serverless Devs runs on, and itself, nothing begins."""
    (finding,) = preflight.check_tools(node, command)

    assert finding.level == level
    assert bool(finding.remedy) == (level == "error")


def test_the_shells_key_becomes_an_alias() -> None:
    """The key of the shell reaches Serverless Devs in a variable, never in an argument."""
    shell = SHELL | {"ALIBABA_CLOUD_SECURITY_TOKEN": "the-token"}
    access = preflight.find_access(shell, aliases=set())

    assert isinstance(access, Access)
    assert access.options == ("-a", ALIAS)
    assert json.loads(access.variables[ALIAS]) == {
        "AccountID": "1234567890123456",
        "AccessKeyID": "LTAI5tExample",
        "AccessKeySecret": "not-to-be-seen",
        "SecurityToken": "the-token",
    }


def test_a_key_is_not_shown() -> None:
    """Neither its secret nor more than its first letters stand in what is printed of it."""
    access = preflight.find_access(SHELL, aliases=set())

    assert "not-to-be-seen" not in repr(access)
    assert "5tExample" not in repr(access)


@pytest.mark.parametrize("token", [None, "the-token"])
def test_the_variables_of_serverless_devs_win(token: str | None) -> None:
    """Set as it documents them, they are left to it, as it would take them anyway."""
    own = {"AccountID": "22222", "AccessKeyID": "LTAI5tOther", "AccessKeySecret": "other"}
    own |= {"SecurityToken": token} if token else {}

    access = preflight.find_access(SHELL | own, aliases={"default"})

    credentials = Credentials("LTAI5tOther", "other", token)
    description = "access key LTAI… of account 22222"
    assert access == Access(description, "22222", credentials, variables=own)


@pytest.mark.parametrize("broken", ["seen\nseen", "seen seen", "seen\u00a0"])
@pytest.mark.parametrize("name", ["AccessKeySecret", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"])
def test_a_key_that_no_header_can_carry_stops_it(name: str, broken: str) -> None:
    """As when a line break was pasted with it; the secret is not shown."""
    own = {"AccountID": "22222", "AccessKeyID": "LTAI5tOther", "AccessKeySecret": "other"}
    shell = SHELL | (own if name in own else {}) | {name: broken}

    finding = preflight.find_access(shell, aliases=set())

    assert isinstance(finding, Finding)
    assert "is not usable" in finding.message
    assert "seen" not in str(finding)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI5tExample"},
        {"AccountID": "1", "AccessKeyID": "LTAI5tExample"},
        dict.fromkeys(SHELL, ""),
    ],
    ids=["nothing", "half a key", "two of three", "empty"],
)
def test_no_credentials_stop_it(environment: dict[str, str]) -> None:
    """Without a whole key nothing begins, and the variables are named."""
    finding = preflight.find_access(environment, aliases={"other"})

    assert isinstance(finding, Finding)
    assert finding.level == "error"
    assert "ALIBABA_CLOUD_ACCESS_KEY_SECRET" in finding.remedy


@pytest.mark.parametrize("account", ["", "my-account", "123", "١٢٣٤٥٦"])
def test_a_key_without_its_account_stops_it(account: str) -> None:
    """The template needs the account's number; nothing can look it up."""
    shell = SHELL | {"ALIBABA_CLOUD_ACCOUNT_ID": account}
    own = {"AccountID": account or "?", "AccessKeyID": "LTAI5tOther", "AccessKeySecret": "other"}

    finding, of_its_own = (preflight.find_access(one, {"default"}) for one in (shell, SHELL | own))

    assert isinstance(finding, Finding)
    assert isinstance(of_its_own, Finding)
    assert "ALIBABA_CLOUD_ACCOUNT_ID" in finding.remedy
    assert "AccountID" in of_its_own.remedy


@pytest.mark.parametrize(
    ("region", "environment", "told"),
    [
        (HANGZHOU, {}, {"GUARD_RUNTIME": "python3.12"}),
        (SINGAPORE, {}, {"GUARD_RUNTIME": "python3.10"}),
        (HANGZHOU, {"GUARD_RUNTIME": "python3.10"}, {"GUARD_RUNTIME": "python3.10"}),
    ],
    ids=["the newest Python", "older Python", "the shell's choice"],
)
def test_a_region_decides_what_the_shell_does_not(
    region: Region, environment: dict[str, str], told: dict[str, str]
) -> None:
    """The runtime that is there."""
    assert preflight.template_variables(region, environment) == {
        "ALIBABA_CLOUD_REGION": region.name,
        "ENCRYPTION_GUARD_VERSION": __version__,
        **told,
    }


@pytest.mark.parametrize(
    ("region", "environment", "expected"),
    [
        (HANGZHOU, {}, ["ok", "ok"]),
        (VIRGINIA, {}, ["ok", "warning"]),
        (SINGAPORE, {"GUARD_RUNTIME": "python3.12"}, ["error", "ok"]),
        (HANGZHOU, {"GUARD_RUNTIME": "python3.10"}, ["ok", "ok"]),
        (HANGZHOU, {"GUARD_RUNTIME": "python3.13"}, ["error", "ok"]),
    ],
    ids=["all", "no events", "no such Python there", "an older one", "no layer for it"],
)
def test_what_a_region_lacks_is_said(
    region: Region, environment: dict[str, str], expected: list[str]
) -> None:
    """Missing events are to be minded; a runtime that the region does not have stops it."""
    assert levels(preflight.check_region(region, environment)) == expected


def test_an_unknown_region_stops_it_unless_it_is_wanted() -> None:
    """OSS Tables may come to further regions: then the least is assumed of them."""
    refused = preflight.find_region("cn-chengdu", any_region=False)

    assert isinstance(refused, Finding)
    assert refused.level == "error"
    assert "ANY_REGION=1" in refused.remedy
    assert preflight.find_region("cn-chengdu", any_region=True) == Region(
        "cn-chengdu", publishes_events=False, runtime="python3.10"
    )


@pytest.mark.parametrize("name", ["", "cn-hangzhou;rm", "cn-hangzhou.evil"])
def test_what_is_no_region_is_never_taken(name: str) -> None:
    """Not even with ANY_REGION: it becomes part of names and hosts."""
    assert isinstance(preflight.find_region(name, any_region=True), Finding)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUARD_MODE", "protect"),
        ("GUARD_EXEMPTIONS", '[{"bucket": "tmp-*"}]'),
        ("GUARD_ALLOWED_ACCOUNTS", "somebody"),
        ("GUARD_SWEEP_REGIONS", "Hangzhou"),
        ("GUARD_SWEEP_EVERY", "15m"),
        ("GUARD_SLOW_AFTER_MS", "a minute"),
        ("GUARD_AUDIT_TABLES", "yes"),
        ("GUARD_WEBHOOK", "hooks.example.com"),
    ],
)
def test_a_wrong_setting_stops_it(name: str, value: str) -> None:
    """What the functions would refuse or drop at their first event is refused before they exist."""
    findings = settings_of(TOLD | {name: value})

    assert levels(findings) == ["error"]
    assert name in findings[0].message + findings[0].remedy


def test_a_web_hook_is_not_printed() -> None:
    """Its URL lets anybody call it: a wrong one is told by its name alone."""
    findings = settings_of(TOLD | {"GUARD_WEBHOOK": "hooks.example.com/?token=not-shown"})

    assert levels(findings) == ["error"]
    assert "not-shown" not in str(findings)


def test_a_file_of_exemptions_lies_with_both_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read where the functions will read it, and one that lacks it stops the deployment."""
    monkeypatch.chdir(tmp_path)
    given = TOLD | {"GUARD_EXEMPTIONS": "file:exempt.json"}
    for folder in FUNCTION_FOLDERS:
        Path(folder).mkdir(parents=True)
    Path(FUNCTION_FOLDERS[0], "exempt.json").write_text(
        '[{"bucket": "tmp-*", "reason": "scratch"}]'
    )

    missing = settings_of(given)
    Path(FUNCTION_FOLDERS[1], "exempt.json").write_text("[]")

    assert levels(missing) == ["error"]
    assert settings_of(given) == []


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (TOLD, []),
        (TOLD | {"GUARD_MODE": "detect"}, ["warning"]),
        ({"GUARD_CONTACT_GROUP": "security"}, ["warning"]),
        ({"GUARD_ACTION_POLICY": "sls.builtin"}, ["warning"]),
        (
            {"GUARD_WEBHOOK": "https://hooks.example.com/x", "GUARD_ACTION_POLICY": "sls.builtin"},
            ["error"],
        ),
    ],
    ids=["fine", "detect", "no action policy", "no contact group", "a web hook alone"],
)
def test_what_nobody_would_notice_is_said(shell: dict[str, str], expected: list[str]) -> None:
    """That nothing is encrypted, or nobody is notified; a web hook alone is never called."""
    assert levels(settings_of(shell)) == expected


# What Serverless Devs would read, or do to values.


@pytest.mark.parametrize("folder", [".", *FUNCTION_FOLDERS])
def test_a_file_that_would_choose_the_account_stops_it(folder: str, tmp_path: Path) -> None:
    """A `.env` beside the template or in the code of a function is named, whatever is in it."""
    (tmp_path / "template.yaml").touch()
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    clean = preflight.check_files(tmp_path)
    (tmp_path / folder / ".env").touch()

    (finding,) = preflight.check_files(tmp_path)

    assert clean == []
    assert finding.level == "error"
    assert str(Path(folder, ".env")) in finding.message


def test_another_folder_than_the_templates_stops_it(tmp_path: Path) -> None:
    """Serverless Devs resolves paths against the current folder."""
    assert levels(preflight.check_files(tmp_path)) == ["error"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ["error"]), ("no JSON", ["error"]), ("[]", ["error"]), ('{"AccountID": "1"}', [])],
)
def test_a_key_that_is_no_json_stops_it(value: str, expected: list[str]) -> None:
    """A continuous integration may set the variable, and have no secret for it."""
    findings = preflight.check_aliases({"ci_serverless_devs_key": value})

    assert levels(findings) == expected
    assert value == "" or value not in str(findings)


@pytest.mark.parametrize(
    ("name", "level", "remedy"),
    [
        ("GUARD_MOD", "error", "Did you mean GUARD_MODE?"),
        ("GUARD_XYZZY", "error", "Unset it."),
        ("guard_mode", "error", "Did you mean GUARD_MODE?"),
        ("GUARD_HAS_WEBHOOK", "error", "Unset it."),
        ("GUARD_MAX_ATTEMPTS", "warning", "set it in template.yaml"),
    ],
)
def test_a_name_that_is_no_setting_stops_it(name: str, level: str, remedy: str) -> None:
    """An operator who wanted to look first must not enforce because of a typing error."""
    (finding,) = preflight.check_names({name: "x"}, {"GUARD_MODE", "GUARD_EXEMPTIONS"})

    assert finding.level == level
    assert remedy in finding.remedy


ENDPOINTS = {each.name for each in VARIABLES.values() if each.name.endswith("_ENDPOINT")}


def test_the_settings_of_commands_are_nothing_to_mind() -> None:
    """An operator's shell has the queue and the function, and each service may be elsewhere."""
    names = ENDPOINTS - {"GUARD_OSS_TABLES_ENDPOINT"} | {"GUARD_DEAD_LETTER_QUEUE"}
    shell = dict.fromkeys(names, "x") | {"GUARD_FUNCTION": "f", "GUARD_MODE": "detect"}

    assert preflight.check_names(shell, {"GUARD_MODE"}) == []


@pytest.mark.parametrize("value", ["costs $5", "$HOME", "${env('HOME')}", "a${b", "$_"])
def test_what_serverless_devs_would_replace_stops_it(value: str) -> None:
    """It would put a variable or a file of the deployer into the function."""
    (finding,) = preflight.check_expansion({"GUARD_CONTACT_GROUP": value}, {"GUARD_CONTACT_GROUP"})

    assert "GUARD_CONTACT_GROUP" in finding.message


@pytest.mark.parametrize("value", ["", "ops", "a $ b", "5$", "$-"])
def test_a_lone_dollar_is_nothing_to_mind(value: str) -> None:
    """It stands for itself."""
    assert preflight.check_expansion({"GUARD_CONTACT_GROUP": value}, {"GUARD_CONTACT_GROUP"}) == []


def test_the_reason_of_an_exemption_may_have_a_dollar() -> None:
    """It is handed over as an escape of JSON, and means the same."""
    exemptions = [{"bucket": "a-*", "reason": "costs $5, see ${env('HOME')}"}]
    shell = {"GUARD_EXEMPTIONS": json.dumps(exemptions), "GUARD_MODE": "detect"}

    handed_over = preflight.without_dollars(shell)

    assert "$" not in handed_over["GUARD_EXEMPTIONS"]
    assert json.loads(handed_over["GUARD_EXEMPTIONS"]) == exemptions
    assert handed_over["GUARD_MODE"] == "detect"


@pytest.mark.parametrize("shell", [{}, {"GUARD_EXEMPTIONS": "file:$x.json"}])
def test_what_is_no_json_is_handed_over_as_it_is(shell: dict[str, str]) -> None:
    """The name of a file has no escapes: its $ is refused, not changed."""
    assert preflight.without_dollars(shell) == shell


# What is said of exemptions and regions.


@pytest.mark.parametrize(
    ("entry", "level", "message"),
    [
        ({"bucket": "tmp-*"}, "ok", "Exempt: tmp-* (a test)"),
        ({"bucket": "tmp-*", "expires": "2026-12-01"}, "ok", "(a test), until 2026-12-01"),
        ({"bucket": "tmp-*", "expires": "2026-11-30"}, "warning", "ended after 2026-11-30"),
        ({"bucket": "*"}, "warning", "is every bucket: nothing will be encrypted"),
        ({"bucket": "?*"}, "warning", "is every bucket: nothing will be encrypted"),
        (
            {"bucket": f"acs:osstables:cn-hangzhou:{OWN}:bucket/*"},
            "warning",
            f"is every bucket of region cn-hangzhou of account {OWN}: no bucket there will be",
        ),
        (
            {"bucket": "acs:osstables:*:99999:bucket/tmp-*"},
            "warning",
            "is of an account that is not guarded",
        ),
        ({"bucket": "acs:osstables:*:22222:bucket/tmp-*"}, "ok", "22222"),
        ({"bucket": f"acs:osstables:*:{OWN}:bucket/tmp-*"}, "ok", OWN),
    ],
)
def test_an_exemption_is_said_aloud(entry: dict[str, str], level: str, message: str) -> None:
    """Nobody switches the guard off, or has an exemption that is over, without a word."""
    exemptions = json.dumps([entry | {"reason": "a test"}])

    shell = TOLD | {"GUARD_EXEMPTIONS": exemptions, "GUARD_ALLOWED_ACCOUNTS": "22222"}
    (finding,) = settings_of(shell, account_id=OWN)

    assert finding.level == level
    assert message in finding.message


def test_the_account_of_an_exemption_may_be_unknown() -> None:
    """Where only Serverless Devs has the key, nobody knows which accounts are guarded."""
    exemptions = '[{"bucket": "acs:osstables:*:99999:bucket/tmp-*", "reason": "a test"}]'

    (finding,) = settings_of(TOLD | {"GUARD_EXEMPTIONS": exemptions})

    assert finding.level == "ok"


@pytest.mark.parametrize("bucket", ["Scratch-*", "acs:oss:*:*:orders", "^tmp-.*$"])
def test_an_exemption_that_matches_nothing_stops_it(bucket: str) -> None:
    """A capital, an ARN or a regular expression is a mistake that nobody would notice."""
    exemptions = json.dumps([{"bucket": bucket, "reason": "a mistake"}])

    (finding,) = settings_of(TOLD | {"GUARD_EXEMPTIONS": exemptions})

    assert finding.level == "error"
    assert '"bucket" can match no ' in finding.message
    assert bucket in finding.message


@pytest.mark.parametrize(
    "shell",
    [
        {"GUARD_SWEEP_REGIONS": "cn-hangzhou,cn-hangzou"},
        {
            "GUARD_EXEMPTIONS": '[{"bucket": "acs:osstables:cn-hangzou:*:bucket/a-*",'
            ' "reason": "a test", "expires": "2026-01-01"}]'
        },
    ],
    ids=["to sweep", "of an exemption"],
)
def test_a_region_that_is_unknown_stops_it(shell: dict[str, str]) -> None:
    """It would be swept or exempt in vain, unless it is wanted."""
    shell = TOLD | shell

    finding, *_ = settings_of(shell)

    assert finding.level == "error"
    assert "'cn-hangzou'" in finding.message
    assert "error" not in levels(settings_of(shell, any_region=True))


# What the resolved template holds.


def resolved(
    *, project: str = "p", role: str = "r", **variables: str
) -> dict[str, dict[str, object]]:
    """The properties of each resource, as far as the checks look at them."""
    function: dict[str, object] = {
        "functionName": "f",
        "environmentVariables": variables,
        "logConfig": {"project": project},
    }
    of_stack = {"Role": {"Properties": {"RoleName": role}}, "Queue": {"Properties": {}}}
    infra: dict[str, object] = {"template": {"Resources": of_stack}}
    return {"infra": infra, "sweep": function}


def test_variables_of_four_kilobytes_fit() -> None:
    """Names and values count together, in bytes of UTF-8."""
    fits = "x" * (4096 - len("GUARD_EXEMPTIONS"))

    assert preflight.check_resources(resolved(GUARD_EXEMPTIONS=fits)) == []
    for too_large in (fits + "x", "é" * (len(fits) // 2 + 1)):
        (finding,) = preflight.check_resources(resolved(GUARD_EXEMPTIONS=too_large))
        assert "4,096 are allowed" in finding.message
        assert "shorten it" in finding.remedy


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("GUARD_SWEEP_REGIONS", "shorten it."),
        ("GUARD_ACCOUNTS", "set it to `organization`, all of the resource directory."),
    ],
)
def test_the_largest_variable_is_named(name: str, what: str) -> None:
    """It is the one to shorten; all accounts together have a short name."""
    (finding,) = preflight.check_resources(resolved(A="x", **{name: "x" * 4096}))

    assert finding.remedy == f"{name} has {4096 + len(name):,} bytes: {what}"


@pytest.mark.parametrize("name", ["GUARD_ORGANIZATION_FOLDERS", "GUARD_ORGANIZATION_BUS"])
def test_what_is_for_other_accounts_needs_some(name: str) -> None:
    """Nobody would take the role, or act on the events."""
    stated = TOLD | {name: "fd-a"}

    assert levels(settings_of(stated)) == ["error"]
    assert levels(settings_of(stated | {"GUARD_ACCOUNTS": "organization"})) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUARD_SWEEP_CONCURRENCY", "0"),
        ("GUARD_ORGANIZATION_FOLDERS", "fd-a,"),
        ("GUARD_ORGANIZATION_FOLDERS", ",".join(f"fd-{number}" for number in range(21))),
        ("GUARD_ORGANIZATION_BUS", "a/b"),
        ("GUARD_ORGANIZATION_HOME", "cn-hangzou"),
    ],
)
def test_a_setting_of_an_organization_that_nobody_takes_is_an_error(name: str, value: str) -> None:
    """It would fail in the middle of the deployment."""
    stated = TOLD | {"GUARD_ACCOUNTS": "organization", name: value}

    (finding,) = settings_of(stated)

    assert finding.level == "error"
    assert value.partition(",")[0] in finding.message


@pytest.mark.parametrize(("part", "longest"), [("project", 63), ("role", 64)])
def test_a_name_that_the_platform_refuses_stops_it(part: str, longest: int) -> None:
    """A region with a long name would fail in the middle of the deployment."""
    assert preflight.check_resources(resolved(**{part: "x" * longest})) == []
    (finding,) = preflight.check_resources(resolved(**{part: "x" * (longest + 1)}))
    assert f"{longest} are allowed" in finding.message


@pytest.mark.parametrize("seconds", [None, -3000.0, 0.0, 15.0])
def test_a_clock_that_is_not_ahead_is_fine(seconds: float | None) -> None:
    """One that is behind has events to read, and nobody knows about an unknown one."""
    assert preflight.check_clock(seconds) == []


def test_a_clock_that_is_ahead_is_an_error() -> None:
    """With how far it is ahead."""
    (finding,) = preflight.check_clock(61.4)

    assert (finding.level, finding.message) == ("error", "This machine's clock is 61 s ahead")
