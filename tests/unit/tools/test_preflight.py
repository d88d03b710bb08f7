"""What stops a deployment before it begins, and what is only to be minded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("node", "command", "level"),
    [
        ("20.20.2", "3.1.10", "ok"),
        ("14.14.0", "3.1.10", "ok"),
        ("14.13.9", "3.1.10", "error"),
        ("8.0.0", "3.1.10", "error"),
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
    access = preflight.find_access(SHELL, aliases=set())

    assert isinstance(access, Access)
    assert access.options == ("-a", ALIAS)
    assert json.loads(access.variables[ALIAS]) == {
        "AccountID": "1234567890123456",
        "AccessKeyID": "LTAI5tExample",
        "AccessKeySecret": "not-to-be-seen",
    }


def test_a_temporary_key_takes_its_token_along() -> None:
    """The security token of the shell becomes part of the key that Serverless Devs gets."""
    access = preflight.find_access(
        SHELL | {"ALIBABA_CLOUD_SECURITY_TOKEN": "the-token"}, aliases=set()
    )

    assert isinstance(access, Access)
    assert json.loads(access.variables[ALIAS])["SecurityToken"] == "the-token"


def test_a_key_is_not_shown() -> None:
    """Neither its secret nor more than its first letters stand in what is printed of it."""
    access = preflight.find_access(SHELL, aliases=set())

    assert "not-to-be-seen" not in repr(access)
    assert "5tExample" not in repr(access)


def test_the_variables_of_serverless_devs_win() -> None:
    """Set as it documents them, they are left to it, as it would take them anyway."""
    own = {"AccountID": "1", "AccessKeyID": "LTAI5tOther", "AccessKeySecret": "other"}

    access = preflight.find_access(SHELL | own, aliases={"default"})

    assert access == Access("access key LTAI… of account 1", variables=own)


def test_without_a_key_in_the_shell_the_alias_counts() -> None:
    """What `s config add` has set up is used as the template names it."""
    assert preflight.find_access({}, aliases={"other", "default"}) == Access(
        "the alias `default` of Serverless Devs"
    )


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
    finding = preflight.find_access(
        SHELL | {"ALIBABA_CLOUD_ACCOUNT_ID": account}, aliases={"default"}
    )

    assert isinstance(finding, Finding)
    assert "ALIBABA_CLOUD_ACCOUNT_ID" in finding.remedy


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


def test_the_sweeps_pace_is_told_where_it_is_alone() -> None:
    """Where nothing else protects a region, the finding says how long a bucket may be open."""
    _, events = preflight.check_region(VIRGINIA, {})

    assert "only the sweep, every minute, protects it" in events.message


def test_an_unknown_region_stops_it_unless_it_is_wanted() -> None:
    """OSS Tables may come to further regions: then the least is assumed of them."""
    refused = preflight.find_region("cn-chengdu", any_region=False)

    assert isinstance(refused, Finding)
    assert refused.level == "error"
    assert "ANY_REGION=1" in refused.remedy
    assert preflight.find_region("cn-chengdu", any_region=True) == Region(
        "cn-chengdu", publishes_events=False, runtime="python3.10"
    )


@pytest.mark.parametrize("name", ["", "mars", "cn-hangzhou;rm", "CN-HANGZHOU", "cn-hangzhou.evil"])
def test_what_is_no_region_is_never_taken(name: str) -> None:
    """Not even with ANY_REGION: it becomes part of names and hosts."""
    assert isinstance(preflight.find_region(name, any_region=True), Finding)


def test_good_settings_find_nothing() -> None:
    """With somebody to tell, there is nothing to say."""
    assert preflight.check_settings(TOLD) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUARD_MODE", "protect"),
        ("GUARD_EXEMPTIONS", '[{"bucket": "tmp-*"}]'),
        ("GUARD_EXEMPTIONS", "not JSON"),
        ("GUARD_ALLOWED_ACCOUNTS", "somebody"),
        ("GUARD_SWEEP_REGIONS", "Hangzhou"),
        ("GUARD_SWEEP_EVERY", "15m"),
        ("GUARD_SWEEP_EVERY", "often"),
        ("GUARD_SLOW_AFTER_MS", "a minute"),
        ("GUARD_AUDIT_TABLES", "yes"),
        ("GUARD_WEBHOOK", "hooks.example.com"),
    ],
)
def test_a_wrong_setting_stops_it(name: str, value: str) -> None:
    """What the functions would refuse or drop at their first event is refused before they exist."""
    findings = preflight.check_settings(TOLD | {name: value})

    assert levels(findings) == ["error"]
    assert name in findings[0].message + findings[0].remedy


def test_a_web_hook_is_not_printed() -> None:
    """Its URL lets anybody call it: a wrong one is told by its name alone."""
    findings = preflight.check_settings(
        TOLD | {"GUARD_WEBHOOK": "hooks.example.com/?token=not-shown"}
    )

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

    missing = preflight.check_settings(given)
    Path(FUNCTION_FOLDERS[1], "exempt.json").write_text("[]")

    assert levels(missing) == ["error"]
    assert preflight.check_settings(given) == []


def test_detect_is_told() -> None:
    """Whoever only wants to look first is reminded that nothing is encrypted."""
    (finding,) = preflight.check_settings(TOLD | {"GUARD_MODE": "detect"})

    assert finding.level == "warning"


def test_nobody_to_tell_is_to_be_minded() -> None:
    """A missing contact group and a missing action policy are each to be minded."""
    findings = preflight.check_settings({})

    assert levels(findings) == ["warning", "warning"]
    assert "GUARD_CONTACT_GROUP" in findings[0].remedy
    assert "GUARD_ACTION_POLICY" in findings[1].remedy


def test_a_web_hook_alone_stops_it() -> None:
    """CloudMonitor calls a web hook only beside a contact group: it would never be called."""
    findings = preflight.check_settings(
        {"GUARD_WEBHOOK": "https://hooks.example.com/x", "GUARD_ACTION_POLICY": "sls.builtin"}
    )

    assert levels(findings) == ["error"]
