"""Settings and credentials, from the environment that holds them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from encryption_guard.arn import BUCKET_NAME, TableBucketArn
from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError
from encryption_guard.settings import (
    KNOWN_NAMES,
    VARIABLES,
    Exemption,
    FunctionArn,
    LogSettings,
    QueueArn,
    Settings,
    unknown_names,
)

QUEUE_ARN = "acs:mns:cn-hangzhou:1234567890123456:/queues/dead-letters"
QUEUE = QueueArn("cn-hangzhou", "1234567890123456", "dead-letters")


def refusal(**variables: str) -> str:
    """The sentence with which an environment is refused."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(variables)
    return str(caught.value)


# Settings.


@pytest.mark.parametrize(
    ("setting", "default"),
    [
        ("mode", "enforce"),
        ("dead_letter_queue", None),
        ("allowed_accounts", frozenset()),
        ("accounts", frozenset()),
        ("member_role", "oss-tables-encryption-guard-member"),
        ("external_id", None),
        ("accounts_per_share", 10),
        ("directory_endpoint", None),
        ("exemptions", ()),
        ("exemption_errors", ()),
        ("addressing", "path"),
        ("network", "public"),
        ("oss_tables_endpoint", None),
        ("function", None),
        ("fc_endpoint", None),
        ("smq_endpoint", None),
        ("http_timeout_seconds", 5),
        ("max_attempts", 4),
        ("sweep_regions", ()),
        ("sweep_every", 300),
        ("watch_seconds", 5),
        ("audit_tables", "late"),
        ("trust_env", False),
        ("region", None),
        ("account_id", None),
        ("function_name", None),
    ],
)
@pytest.mark.parametrize("value", [None, ""], ids=["not set", "empty"])
def test_a_setting_has_a_default(setting: str, default: object, value: str | None) -> None:
    """What is not set, or set to nothing, has the default of the contract."""
    names = {*KNOWN_NAMES, *(variable.name for variable in VARIABLES.values())}
    environment = {} if value is None else dict.fromkeys(names, value)

    settings = Settings.from_environment(environment)

    assert getattr(settings, setting) == default


@pytest.mark.parametrize(
    ("variable", "value", "setting", "expected"),
    [
        ("GUARD_MODE", "enforce", "mode", "enforce"),
        ("GUARD_MODE", "detect", "mode", "detect"),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN, "dead_letter_queue", QUEUE),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN + "/messages", "dead_letter_queue", QUEUE),
        ("GUARD_DEAD_LETTER_QUEUE", "file:/var/dead", "dead_letter_queue", Path("/var/dead")),
        ("GUARD_DEAD_LETTER_QUEUE", "file:dead.jsonl", "dead_letter_queue", Path("dead.jsonl")),
        ("GUARD_ALLOWED_ACCOUNTS", "12345", "allowed_accounts", frozenset({"12345"})),
        (
            "GUARD_ALLOWED_ACCOUNTS",
            "12345, 9876543210987654,12345",
            "allowed_accounts",
            frozenset({"12345", "9876543210987654"}),
        ),
        ("GUARD_ACCOUNTS", "organization", "accounts", "organization"),
        ("GUARD_ACCOUNTS", " 12345,67890,", "accounts", frozenset({"12345", "67890"})),
        ("GUARD_MEMBER_ROLE", "R", "member_role", "R"),
        ("GUARD_MEMBER_ROLE", "a.b_c-1" + "d" * 57, "member_role", "a.b_c-1" + "d" * 57),
        ("GUARD_EXTERNAL_ID", "a-", "external_id", "a-"),
        ("GUARD_ACCOUNTS_PER_SHARE", "1", "accounts_per_share", 1),
        ("GUARD_ACCOUNTS_PER_SHARE", "1000", "accounts_per_share", 1000),
        ("GUARD_EXTERNAL_ID", "Aa0_+=,.@:/-" * 102, "external_id", "Aa0_+=,.@:/-" * 102),
        ("GUARD_OSS_TABLES_ADDRESSING", "path", "addressing", "path"),
        ("GUARD_OSS_TABLES_ADDRESSING", "virtual", "addressing", "virtual"),
        ("GUARD_OSS_TABLES_NETWORK", "public", "network", "public"),
        ("GUARD_OSS_TABLES_NETWORK", "internal", "network", "internal"),
        (
            "GUARD_OSS_TABLES_ENDPOINT",
            "https://{region}.tables.example.com:8443",
            "oss_tables_endpoint",
            "https://{region}.tables.example.com:8443",
        ),
        ("GUARD_FUNCTION", "guard", "function", FunctionArn("guard")),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "0.5", "http_timeout_seconds", 0.5),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "60", "http_timeout_seconds", 60),
        ("GUARD_MAX_ATTEMPTS", "1", "max_attempts", 1),
        ("GUARD_SWEEP_EVERY", "0", "sweep_every", 0.0),
        ("GUARD_SWEEP_EVERY", "86400", "sweep_every", 86400.0),
        ("GUARD_WATCH_SECONDS", "0", "watch_seconds", 0.0),
        ("GUARD_WATCH_SECONDS", "60", "watch_seconds", 60.0),
        ("GUARD_MAX_ATTEMPTS", "20", "max_attempts", 20),
        ("GUARD_SWEEP_REGIONS", "cn-hangzhou", "sweep_regions", ("cn-hangzhou",)),
        (
            "GUARD_SWEEP_REGIONS",
            " us-east-1,cn-hangzhou ,\teu-central-1, us-east-1,,",
            "sweep_regions",
            ("us-east-1", "cn-hangzhou", "eu-central-1"),
        ),
        ("GUARD_SWEEP_REGIONS", " , ", "sweep_regions", ()),
        ("GUARD_SWEEP_REGIONS", "cn-" + "a" * 51, "sweep_regions", ("cn-" + "a" * 51,)),
        ("GUARD_AUDIT_TABLES", "late", "audit_tables", "late"),
        ("GUARD_AUDIT_TABLES", "true", "audit_tables", "true"),
        ("GUARD_AUDIT_TABLES", "false", "audit_tables", "false"),
        ("GUARD_TRUST_ENV", "true", "trust_env", True),
        ("GUARD_TRUST_ENV", "false", "trust_env", False),
        ("FC_REGION", "cn-hangzhou", "region", "cn-hangzhou"),
        ("FC_ACCOUNT_ID", "1234567890123456", "account_id", "1234567890123456"),
    ],
)
def test_a_setting_takes_what_is_allowed(
    variable: str, value: str, setting: str, expected: object
) -> None:
    """Each variable, all of them strings, sets its setting."""
    settings = Settings.from_environment({variable: value})

    assert getattr(settings, setting) == expected


QUEUE_FORM = "acs:mns:<region>:<account id>:/queues/<name>, or outside Function Compute file:<path>"
ACCOUNTS_FORM = "account ids of 5 to 20 digits, separated by commas"
HOST_FORM = "https://<host>[:<port>], or http:// to this machine (localhost, 127.0.0.1, [::1])"
TABLES_FORM = f"{HOST_FORM}; {{region}} stands for the region id"
FUNCTION_FORM = (
    "a function's name or ARN, acs:fc:<region>:<account id>:functions/<name>; in FC 2.0"
    " <service>$<name> or ...:services/<service>/functions/<name>"
)
SECONDS_FORM = "a number of seconds above 0, at most 60"
ATTEMPTS_FORM = "a whole number from 1 to 20"
MEMBERS_FORM = f"{ACCOUNTS_FORM}, or organization"
ROLE_FORM = "the name of a role, not its ARN: 1 to 64 letters, digits and . _ -"
EXTERNAL_ID_FORM = "2 to 1224 letters, digits and _ + = , . @ : / -"
REGIONS_FORM = "region ids such as cn-hangzhou, separated by commas"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("GUARD_MODE", "audit", "enforce or detect"),
        ("GUARD_MODE", "Enforce", "enforce or detect"),
        ("GUARD_DEAD_LETTER_QUEUE", "dead-letters", QUEUE_FORM),
        ("GUARD_DEAD_LETTER_QUEUE", "file:", QUEUE_FORM),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN + "\n", QUEUE_FORM),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN + "/../other", QUEUE_FORM),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN.replace("queues", "topics"), QUEUE_FORM),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN.replace("cn-hangzhou", "evil.com#"), QUEUE_FORM),
        ("GUARD_DEAD_LETTER_QUEUE", QUEUE_ARN.replace("1234567890123456", "me"), QUEUE_FORM),
        ("GUARD_ALLOWED_ACCOUNTS", "1234", ACCOUNTS_FORM),
        ("GUARD_ALLOWED_ACCOUNTS", "12345,me", ACCOUNTS_FORM),
        ("GUARD_ALLOWED_ACCOUNTS", "١٢٣٤٥", ACCOUNTS_FORM),
        ("GUARD_ACCOUNTS", "Organization", MEMBERS_FORM),
        ("GUARD_ACCOUNTS", "organization,12345", MEMBERS_FORM),
        ("GUARD_ACCOUNTS", "1234", MEMBERS_FORM),
        ("GUARD_MEMBER_ROLE", "acs:ram::12345:role/guard", ROLE_FORM),
        ("GUARD_MEMBER_ROLE", "a" * 65, ROLE_FORM),
        ("GUARD_MEMBER_ROLE", "r\u00f4le", ROLE_FORM),
        ("GUARD_EXTERNAL_ID", "a", EXTERNAL_ID_FORM),
        ("GUARD_EXTERNAL_ID", "a*", EXTERNAL_ID_FORM),
        ("GUARD_EXTERNAL_ID", "\u00e9\u00e9", EXTERNAL_ID_FORM),
        ("GUARD_ACCOUNTS_PER_SHARE", "0", "a whole number from 1 to 1000"),
        ("GUARD_ACCOUNTS_PER_SHARE", "1001", "a whole number from 1 to 1000"),
        ("GUARD_ACCOUNTS_PER_SHARE", "ten", "a whole number from 1 to 1000"),
        ("GUARD_DIRECTORY_ENDPOINT", "https://{region}.example.com", HOST_FORM),
        ("GUARD_OSS_TABLES_ADDRESSING", "host", "path or virtual"),
        ("GUARD_OSS_TABLES_NETWORK", "vpc", "public or internal"),
        ("GUARD_OSS_TABLES_ENDPOINT", "https://example.com/path", TABLES_FORM),
        ("GUARD_OSS_TABLES_ENDPOINT", "https://example.com?a=b", TABLES_FORM),
        ("GUARD_OSS_TABLES_ENDPOINT", "https://example.com:65536", TABLES_FORM),
        ("GUARD_OSS_TABLES_ENDPOINT", "https://{account}.example.com", TABLES_FORM),
        ("GUARD_FUNCTION", "my function", FUNCTION_FORM),
        ("GUARD_FC_ENDPOINT", "https://{region}.fc.example.com", HOST_FORM),
        ("GUARD_SMQ_ENDPOINT", "https://{region}.smq.example.com", HOST_FORM),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "0", SECONDS_FORM),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "-1", SECONDS_FORM),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "nan", SECONDS_FORM),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "61", SECONDS_FORM),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "5s", SECONDS_FORM),
        ("GUARD_MAX_ATTEMPTS", "0", ATTEMPTS_FORM),
        ("GUARD_SWEEP_EVERY", "86401", "a whole number of seconds, at most 86400"),
        ("GUARD_WATCH_SECONDS", "61", "a whole number of seconds, at most 60"),
        ("GUARD_WATCH_SECONDS", "2.5", "a whole number of seconds, at most 60"),
        ("GUARD_SWEEP_EVERY", "15m", "a whole number of seconds, at most 86400"),
        ("GUARD_MAX_ATTEMPTS", "21", ATTEMPTS_FORM),
        ("GUARD_MAX_ATTEMPTS", "2.5", ATTEMPTS_FORM),
        ("GUARD_MAX_ATTEMPTS", "many", ATTEMPTS_FORM),
        ("GUARD_SWEEP_REGIONS", "hangzhou", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "*", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "CN-HANGZHOU", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "cn-hangzhou;us-east-1", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "us-east-1,evil.com#", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "cn-hangzhou\n-internal", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "cn-\u0663", REGIONS_FORM),
        ("GUARD_SWEEP_REGIONS", "cn-" + "a" * 52, REGIONS_FORM),
        ("GUARD_AUDIT_TABLES", "True", "late, true or false"),
        ("GUARD_TRUST_ENV", "yes", "true or false"),
        ("GUARD_AUDIT_TABLES", " true", "late, true or false"),
        ("GUARD_AUDIT_TABLES", "true\n", "late, true or false"),
    ],
)
def test_a_bad_setting_is_refused_in_one_sentence(variable: str, value: str, allowed: str) -> None:
    """The sentence names the variable, its value and what is allowed."""
    sentence = refusal(**{variable: value})

    assert sentence == (
        f"{variable} is {json.dumps(value)}, but has to be {allowed}; correct the variable."
    )


ENDPOINTS = (
    *("GUARD_OSS_TABLES_ENDPOINT", "GUARD_SMQ_ENDPOINT", "GUARD_FC_ENDPOINT"),
    "GUARD_DIRECTORY_ENDPOINT",
)
LOCAL = (
    *("http://localhost", "http://LocalHost:9000", "http://127.0.0.1:9000/", "http://127.255.0.9"),
    *("http://[::1]", "http://[::1]:9000/", "http://[0:0:0:0:0:0:0:1]:9000"),
)
ENCRYPTED = (
    *("https://example.com", "https://example.com.:8443/", "https://localhost", "https://a-b.c"),
    *("https://10.0.0.1", "https://[2001:db8::1]:9000", "https://127.0.0.1.example.com"),
)


@pytest.mark.parametrize("url", [*LOCAL, *ENCRYPTED])
@pytest.mark.parametrize("variable", ENDPOINTS)
def test_an_endpoint_is_encrypted_or_on_this_machine(variable: str, url: str) -> None:
    """Plain HTTP is for an emulator beside the command."""
    setting = variable.removeprefix("GUARD_").lower()

    assert getattr(Settings.from_environment({variable: url}), setting) == url.rstrip("/")


IN_CLEAR_TEXT = {
    "a name": "http://example.com",
    "a name of one label": "http://emulator:9000",
    "a region": "http://{region}",
    "a region as an address": "http://{region}.0.0.1",
    "a name that begins like this machine": "http://localhost.example.com",
    "a name that begins like its address": "http://127.0.0.1.example.com",
    "a name that ends like this machine": "http://example.localhost",
    "a dot at the end": "http://localhost.",
    "another address": "http://10.0.0.1",
    "every address": "http://0.0.0.0:9000",
    "a short address": "http://127.1",
    "an address as a number": "http://2130706433",
    "a hexadecimal address": "http://0x7f.0.0.1",
    "digits of another script": "http://\u0661\u0662\u0667.0.0.1",
    "a full stop of another script": "http://127\u30020.0.1",
    "another IPv6 address": "http://[2001:db8::1]",
    "every IPv6 address": "http://[::]:9000",
    "an IPv4 address within": "http://[::ffff:127.0.0.1]",
    "an IPv6 address of a zone": "http://[::1%25lo]",
    "an IPv6 address without brackets": "http://::1",
    "a user": "http://user@127.0.0.1",
    "a user that looks local": "http://127.0.0.1@example.com",
    "a user and a password": "http://127.0.0.1:80@example.com",
    "a backslash": "http://127.0.0.1\\@example.com",
    "a fragment": "http://127.0.0.1#@example.com",
    "a query": "http://127.0.0.1?@example.com",
    "a line break": "http://127.0.0.1\n.example.com",
    "capitals": "HTTP://127.0.0.1",
    "a socket": "unix:///var/run/emulator",
    "port 0": "http://127.0.0.1:0",
    "a port out of range": "http://127.0.0.1:65536",
    "no port": "http://127.0.0.1:",
}
NO_HOST = {
    "an address that is none": "https://999.0.0.1",
    "an IPv6 address that is none": "https://[:::1]",
    "IPv4 in brackets": "https://[127.0.0.1]",
    "two dots": "https://a..b",
    "a hyphen first": "https://-a.b",
    "an underscore": "https://a_b",
    "64 characters in a label": f"https://{'a' * 64}.b",
}
REFUSED_ENDPOINTS = IN_CLEAR_TEXT | NO_HOST


@pytest.mark.parametrize("url", REFUSED_ENDPOINTS.values(), ids=REFUSED_ENDPOINTS)
@pytest.mark.parametrize("variable", ENDPOINTS)
def test_an_endpoint_in_clear_text_is_refused(variable: str, url: str) -> None:
    """Whoever listens there would read the security token of each request."""
    sentence = refusal(**{variable: url})

    assert sentence.startswith(f'{variable} is "')
    assert HOST_FORM in sentence


SECRET_HOLDERS = ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN")


@pytest.mark.parametrize("holder", SECRET_HOLDERS)
@pytest.mark.parametrize(
    "variable", ["GUARD_MODE", "GUARD_DEAD_LETTER_QUEUE", "GUARD_SWEEP_REGIONS", "GUARD_FUNCTION"]
)
def test_a_secret_in_the_wrong_variable_is_not_shown(variable: str, holder: str) -> None:
    """What the shell also holds as a secret is none of a sentence's business."""
    sentence = refusal(**{variable: "mis/placed+ ", holder: "mis/placed+"})

    assert sentence.startswith(f'{variable} is "[redacted] ", but has to be ')
    assert "placed" not in sentence


def test_a_secret_in_the_place_of_a_queue_on_function_compute_is_not_shown() -> None:
    """A file is no queue there, whatever its name."""
    sentence = refusal(
        FC_FUNCTION_NAME="f",
        GUARD_DEAD_LETTER_QUEUE="file:misplaced",
        ALIBABA_CLOUD_ACCESS_KEY_SECRET="misplaced",
    )

    assert sentence.startswith('GUARD_DEAD_LETTER_QUEUE is "file:[redacted]", but on Function')


def test_a_secret_in_the_place_of_exemptions_is_not_shown() -> None:
    """This sentence goes to the log."""
    settings = exempted("misplaced", ALIBABA_CLOUD_SECURITY_TOKEN="misplaced")

    assert settings.exemption_errors == (
        'GUARD_EXEMPTIONS is "[redacted]", but cannot be read (it is not a JSON list); no bucket'
        " is exempt until you correct it.",
    )


@pytest.mark.parametrize("user", ["user:pass", "user:p/a@ss", ":token"])
def test_a_password_in_an_address_is_not_shown(user: str) -> None:
    """An endpoint has none, so a sentence is about it; the rest of the address helps."""
    sentence = refusal(GUARD_SMQ_ENDPOINT=f"https://{user}@example.com")

    assert sentence.startswith('GUARD_SMQ_ENDPOINT is "https://[redacted]@example.com", but has')


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        pytest.param({}, "is not set", id="not set"),
        pytest.param({"GUARD_DEAD_LETTER_QUEUE": ""}, "is not set", id="empty"),
        pytest.param({"GUARD_DEAD_LETTER_QUEUE": "file:/d"}, 'is "file:/d"', id="a file"),
    ],
)
def test_on_function_compute_nothing_but_a_queue_will_do(
    variables: dict[str, str], found: str
) -> None:
    """There the queue is required, and a file, which would vanish with the disk, is refused."""
    sentence = refusal(FC_FUNCTION_NAME="guard", **variables)

    assert sentence == (
        f"GUARD_DEAD_LETTER_QUEUE {found}, but on Function Compute it has to be"
        " acs:mns:<region>:<account id>:/queues/<name>, because the function's disk is temporary;"
        " set the variable."
    )


def test_the_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the process's environment counts, as it is at that moment."""
    monkeypatch.setenv("GUARD_MODE", "detect")
    before = Settings.from_environment().mode
    monkeypatch.setenv("GUARD_MODE", "enforce")

    after = Settings.from_environment().mode

    assert (before, after) == ("detect", "enforce")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, ("11111", "us-east-1"), id="not set"),
        pytest.param({"FC_ACCOUNT_ID": "", "FC_REGION": ""}, ("11111", "us-east-1"), id="empty"),
        pytest.param(
            {"FC_ACCOUNT_ID": "22222", "FC_REGION": "cn-beijing"},
            ("22222", "cn-beijing"),
            id="set",
        ),
    ],
)
def test_the_context_stands_in_for_the_environment(
    environment: dict[str, str], expected: tuple[str, str]
) -> None:
    """FC_ACCOUNT_ID and FC_REGION, else what the function's context says."""
    settings = Settings.from_environment(environment, account_id="11111", region="us-east-1")

    assert (settings.account_id, settings.region) == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        pytest.param("detect", "detect", id="another value"),
        pytest.param(None, "enforce", id="none"),
        pytest.param("", "enforce", id="empty, which is the default"),
    ],
)
def test_an_override_counts_before_the_environment(override: str | None, expected: str) -> None:
    """What a command's option says wins; an option that was not given changes nothing."""
    settings = Settings.from_environment(
        {"GUARD_MODE": "enforce", "GUARD_MAX_ATTEMPTS": "7"}, overrides={"GUARD_MODE": override}
    )

    assert (settings.mode, settings.max_attempts) == (expected, 7)


def test_an_override_counts_before_the_processs_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An override is laid over the process's environment, and does not get into it."""
    monkeypatch.setenv("GUARD_FUNCTION", "guard")

    settings = Settings.from_environment(overrides={"GUARD_FUNCTION": "svc$fn"})

    assert settings.function == FunctionArn("fn", service="svc")
    assert Settings.from_environment().function == FunctionArn("guard")


# Names.

UNKNOWN_NAMES = {
    "GUARD_MOD": "Did you mean GUARD_MODE?",
    "GUARD_MODES": "Did you mean GUARD_MODE?",
    "guard_mode": "Did you mean GUARD_MODE?",
    "Guard_Exemption": "Did you mean GUARD_EXEMPTIONS?",
    "GUARD_DEADLETTER_QUEUE": "Did you mean GUARD_DEAD_LETTER_QUEUE?",
    "GUARD_CONTACTGROUP": "Did you mean GUARD_CONTACT_GROUP?",
    "GUARD_": "Unset it.",
    "GUARD_FOO": "Unset it.",
    "GUARD_\udcff": "Unset it.",
}


@pytest.mark.parametrize(("name", "advice"), UNKNOWN_NAMES.items(), ids=ascii)
def test_a_misspelt_name_is_found(name: str, advice: str) -> None:
    """With the nearest name that is known, if one is near."""
    assert unknown_names({name: "x", "GUARD_MODE": "detect", "PATH": "/bin"}) == {name: advice}


def test_a_known_name_is_not_misspelt() -> None:
    """Nor is one of another program, or an empty one; those of the platform are not the guard's."""
    known = dict.fromkeys(KNOWN_NAMES, "x")

    assert unknown_names(known | {"GUARDIAN_HOME": "x", "MY_GUARD_MOD": "x", "GUARD_MOD": ""}) == {}
    assert "FC_REGION" not in KNOWN_NAMES


def test_the_environment_of_the_process_has_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument they are those of the process."""
    monkeypatch.setenv("GUARD_EXEMPTION", "[]")

    assert unknown_names() == {"GUARD_EXEMPTION": "Did you mean GUARD_EXEMPTIONS?"}


# A function.

REGION, ACCOUNT = "cn-hangzhou", "1234567890123456"
PLACE = f"acs:fc:{REGION}:{ACCOUNT}:"
FUNCTIONS = {
    "a name": ("guard", FunctionArn("guard"), "functions/guard"),
    "every character of a name": ("_A-z_9", FunctionArn("_A-z_9"), "functions/_A-z_9"),
    "128 characters": ("g" * 128, FunctionArn("g" * 128), "functions/" + "g" * 128),
    "an ARN without its place": ("functions/guard", FunctionArn("guard"), "functions/guard"),
    "an ARN": (
        f"{PLACE}functions/guard",
        FunctionArn("guard", REGION, ACCOUNT),
        f"{PLACE}functions/guard",
    ),
    "2.0, a name": ("svc$fn", FunctionArn("fn", service="svc"), "services/svc/functions/fn"),
    "2.0, an ARN without its place": (
        "services/svc/functions/fn",
        FunctionArn("fn", service="svc"),
        "services/svc/functions/fn",
    ),
    "2.0, a version": (
        "services/svc.7/functions/fn",
        FunctionArn("fn", service="svc", qualifier="7"),
        "services/svc.7/functions/fn",
    ),
    "2.0, an ARN with an alias": (
        f"{PLACE}services/svc.prod-1/functions/fn",
        FunctionArn("fn", REGION, ACCOUNT, "svc", "prod-1"),
        f"{PLACE}services/svc.prod-1/functions/fn",
    ),
    "from 2.0 to 3.0, an ARN": (
        f"{PLACE}functions/svc$fn",
        FunctionArn("fn", REGION, ACCOUNT, "svc"),
        f"{PLACE}services/svc/functions/fn",
    ),
}


@pytest.mark.parametrize(("text", "function", "shown"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_is_read_and_shown(text: str, function: FunctionArn, shown: str) -> None:
    """A name or an ARN of either version says which function; it is shown as an ARN."""
    parsed = FunctionArn.parse(text)

    assert parsed == function
    assert str(parsed) == shown
    assert FunctionArn.parse(shown) == function


NO_FUNCTIONS = {
    "nothing": "",
    "a space": "my guard",
    "a newline at the end": "guard\n",
    "a newline at the end of an ARN": f"{PLACE}functions/guard\n",
    "129 characters": "g" * 129,
    "a service of 129 characters": "s" * 129 + "$fn",
    "a digit first": "9guard",
    "letters of another script": "größe",
    "digits of another script": f"acs:fc:{REGION}:١٢٣٤٥٦٧٨٩٠:functions/guard",
    "a path": "functions/guard/../other",
    "a query": "guard?qualifier=LATEST",
    "percent": "guard%2f",
    "no name": "functions/",
    "no service": "$fn",
    "no service in an ARN": "services//functions/fn",
    "an empty qualifier": "services/svc./functions/fn",
    "a service alone": f"{PLACE}services/svc",
    "a layer": f"{PLACE}layers/guard/versions/1",
    "a region that is a host": f"acs:fc:evil.com#:{ACCOUNT}:functions/guard",
    "no account": f"acs:fc:{REGION}::functions/guard",
    "a queue": QUEUE_ARN,
}


@pytest.mark.parametrize("text", NO_FUNCTIONS.values(), ids=NO_FUNCTIONS)
def test_anything_else_is_no_function(text: str) -> None:
    """What a function names becomes a host and a path: only its own alphabet will do."""
    with pytest.raises(ValueError, match=r"^$"):
        FunctionArn.parse(text)


def test_every_setting_but_the_exemptions_has_its_variable() -> None:
    """What no variable is read for would keep its default for ever."""
    assert {*VARIABLES} == {*Settings._fields} - {"exemptions", "exemption_errors"}


# Exemptions.


def exempted(value: str, **variables: str) -> Settings:
    return Settings.from_environment({"GUARD_EXEMPTIONS": value, **variables})


SCRATCH = {"bucket": "scratch-*", "reason": "scratch data"}
LEGACY = {"bucket": "legacy", "reason": "migration", "expires": "2027-01-31"}
EXEMPT_SCRATCH = Exemption(bucket="scratch-*", reason="scratch data")
EXEMPT_LEGACY = Exemption.read({"bucket": "legacy", "reason": "migration", "expires": "2027-01-31"})


@pytest.mark.parametrize(
    ("glob", "bucket", "covered"),
    [
        ("scratch-*", "scratch-1", True),
        ("scratch-*", "scratch-", True),
        ("scratch-*", "scratch", False),
        ("scratch-*", "my-scratch-1", False),
        ("scratch-*", "SCRATCH-1", False),
        ("legacy", "legacy", True),
        ("legacy", "legacy-2", False),
        ("legacy-?", "legacy-2", True),
        ("legacy-[13]", "legacy-2", False),
    ],
)
def test_a_glob_covers_the_whole_name(glob: str, bucket: str, covered: bool) -> None:
    """The glob is held against the whole name, in its casing."""
    exemption = Exemption(bucket=glob, reason="whatever")
    arn = TableBucketArn(REGION, ACCOUNT, bucket)

    assert exemption.matches(arn, on=date(2026, 11, 22)) == covered


OF_ARNS = {
    f"acs:osstables:{REGION}:{ACCOUNT}:bucket/scratch-*": (True, False, False, False),
    f"acs:osstables:{REGION}:*:bucket/scratch-*": (True, True, False, False),
    f"acs:osstables:*:{ACCOUNT}:bucket/scratch-*": (True, False, True, False),
    "acs:osstables:*:*:bucket/scratch-*": (True, True, True, False),
    "acs:osstables:*:*:bucket/*": (True, True, True, True),
    "scratch-*": (True, True, True, False),
}


@pytest.mark.parametrize(("buckets", "covered"), OF_ARNS.items(), ids=OF_ARNS)
def test_an_exemption_may_be_of_a_region_and_an_account(
    buckets: str, covered: tuple[bool, ...]
) -> None:
    """Each of the three parts has to match; a name alone counts everywhere."""
    exemption = Exemption.read({"bucket": buckets, "reason": "a test"})
    arns = (
        TableBucketArn(REGION, ACCOUNT, "scratch-1"),
        TableBucketArn(REGION, "99999", "scratch-1"),
        TableBucketArn("us-east-1", ACCOUNT, "scratch-1"),
        TableBucketArn(REGION, ACCOUNT, "orders"),
    )

    assert tuple(exemption.matches(arn, on=date(2026, 11, 22)) for arn in arns) == covered


@pytest.mark.parametrize("service", ["oss-tables", "osstable", "osstables"])
def test_the_service_of_an_exemption_may_be_spelt_in_three_ways(service: str) -> None:
    """As in the ARN of a bucket, and it is shown in one."""
    exemption = Exemption.read({"bucket": f"acs:{service}:*:{ACCOUNT}:bucket/a-*", "reason": "r"})

    assert exemption.bucket == f"acs:osstables:*:{ACCOUNT}:bucket/a-*"


@pytest.mark.parametrize(
    "glob", ["*", "**", "?*", "*??", "???*", "[a-z0-9]*", "*[!-]", "[!-]*[0-9a-z]", "?[a-z0-9-]*"]
)
@pytest.mark.parametrize("place", ["", f"acs:osstables:{REGION}:*:bucket/"], ids=["name", "ARN"])
def test_an_exemption_may_leave_no_name(place: str, glob: str) -> None:
    """No bucket can have a name that one of these does not match."""
    assert Exemption.read({"bucket": place + glob, "reason": "a test"}).has_every_name


@pytest.mark.parametrize(
    "glob", ["????*", "*-*", "???", "[a-z]*", "*[0-9]", "?[a-z0-9]*", "a*", "*?[a-z]?*"]
)
def test_another_exemption_leaves_some_names(glob: str) -> None:
    """A name of three characters, one of digits alone, or one with a hyphen in the middle."""
    assert not Exemption.read({"bucket": glob, "reason": "a test"}).has_every_name


@pytest.mark.parametrize(
    ("day", "covered"),
    [
        (date(2026, 11, 22), True),
        (date(2027, 1, 31), True),
        (date(2027, 2, 1), False),
    ],
    ids=str,
)
def test_an_exemption_counts_through_its_last_day(day: date, covered: bool) -> None:
    """The day it expires still counts."""
    arn = TableBucketArn(REGION, ACCOUNT, "legacy")

    assert EXEMPT_LEGACY.matches(arn, on=day) == covered


def test_an_exemption_warns_before_it_ends() -> None:
    """One sentence names the glob, the reason, the day and the variable, foreign parts quoted."""
    exemption = Exemption.read({"bucket": "legacy-*", "reason": "a\nb", "expires": "2027-01-31"})

    assert exemption.warning == (
        'The exemption of "legacy-*" ("a\\nb") ends after 2027-01-31; then the guard encrypts'
        " its buckets. To keep them exempt, renew it in GUARD_EXEMPTIONS."
    )


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"bucket": "legacy"}, id="no reason"),
        pytest.param({"bucket": "legacy", "reason": ""}, id="an empty reason"),
        pytest.param({"bucket": "legacy", "reason": "  "}, id="a blank reason"),
        pytest.param({"bucket": "legacy", "reason": None}, id="a null reason"),
        pytest.param({"reason": "migration"}, id="no bucket"),
        pytest.param({"bucket": "", "reason": "migration"}, id="an empty bucket"),
        pytest.param({"bucket": 17, "reason": "migration"}, id="a number for a bucket"),
        pytest.param(LEGACY | {"expires": "31.01.2027"}, id="another form of a day"),
        pytest.param(LEGACY | {"expires": "2027-02-30"}, id="no day of the calendar"),
        pytest.param(LEGACY | {"expires": "soon"}, id="no day"),
        pytest.param(LEGACY | {"expires": ""}, id="an empty day"),
        pytest.param(LEGACY | {"expires": 1801353600}, id="a number for a day"),
        pytest.param(LEGACY | {"expire": "2027-01-31"}, id="a misspelled key"),
        pytest.param("legacy", id="a text"),
        pytest.param(17, id="a number"),
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
    ],
)
def test_a_bad_entry_is_dropped_alone(bad: object) -> None:
    """The other entries count, and one sentence says which entry was dropped."""
    settings = exempted(json.dumps([SCRATCH, bad, LEGACY]))

    assert settings.exemptions == (EXEMPT_SCRATCH, EXEMPT_LEGACY)
    assert [error.partition(":")[0] for error in settings.exemption_errors] == [
        "GUARD_EXEMPTIONS, entry 2"
    ]


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (LEGACY | {"expire": "2027-01-31"}, '"expire" is not a known key'),
        (LEGACY | {"expires": "2027-02-30"}, '"expires" is a date that does not exist'),
        (17, "it is not a JSON object"),
    ],
    ids=["a key", "a date", "a number"],
)
def test_a_bad_entry_says_what_is_wrong_with_it(bad: object, fault: str) -> None:
    """So that its author finds the place."""
    (error,) = exempted(json.dumps([bad])).exemption_errors

    assert error.startswith(f"GUARD_EXEMPTIONS, entry 1: {fault}, in {json.dumps(bad)}. ")


GLOBS = {
    "*": True,
    "**": True,
    "scratch-*": True,
    "[ab]-?": True,
    "[!a]bc": True,
    "[]a]bc": True,
    "a" * 63: True,
    "abc": True,
    "ab": False,
    "a" * 64: False,
    "a*" + "b" * 63: False,
    "-ab": False,
    "ab-": False,
    "[A-Z]bc": False,
    "[abc": False,
    "a-1,b-2": False,
    "team_a.*": False,
    "acs:oss:*:*:orders": False,
    "ä-bucket": False,
}


@pytest.mark.parametrize(("glob", "possible"), GLOBS.items(), ids=ascii)
def test_a_glob_that_matches_no_name_is_a_bad_entry(glob: str, possible: bool) -> None:
    """Its buckets would be encrypted although somebody had exempted them."""
    alone = exempted(json.dumps([{"bucket": glob, "reason": "a test"}]))
    of_arns = exempted(
        json.dumps([{"bucket": f"acs:osstables:*:*:bucket/{glob}", "reason": "a test"}])
    )

    for settings in (alone, of_arns):
        assert len(settings.exemptions) == possible
        assert len(settings.exemption_errors) == (not possible)
    assert all("can match no" in error for error in alone.exemption_errors)


NO_ARNS = {
    "another service": f"acs:oss:{REGION}:{ACCOUNT}:bucket/a-*",
    "a service in capitals": f"acs:OSSTABLES:{REGION}:{ACCOUNT}:bucket/a-*",
    "a part of a region": f"acs:osstables:cn-*:{ACCOUNT}:bucket/a-*",
    "a region of 55 characters": f"acs:osstables:cn-{'a' * 52}:{ACCOUNT}:bucket/a-*",
    "a part of an account": f"acs:osstables:{REGION}:12345*:bucket/a-*",
    "an account of 4 digits": f"acs:osstables:{REGION}:1234:bucket/a-*",
    "digits of another script": f"acs:osstables:{REGION}:١٢٣٤٥٦٧:bucket/a-*",
    "no kind": f"acs:osstables:{REGION}:{ACCOUNT}:a-*",
    "no name": f"acs:osstables:{REGION}:{ACCOUNT}:bucket/",
    "a table": f"acs:osstables:{REGION}:{ACCOUNT}:bucket/a-*/table/1",
    "a line break": f"acs:osstables:{REGION}:{ACCOUNT}:bucket/a\nb",
    "an ARN in capitals": f"ACS:osstables:{REGION}:{ACCOUNT}:bucket/a-*",
}


@pytest.mark.parametrize("buckets", NO_ARNS.values(), ids=NO_ARNS)
def test_what_is_no_arn_of_table_buckets_is_a_bad_entry(buckets: str) -> None:
    """The sentence shows the entry, and what is allowed."""
    entry = {"bucket": buckets, "reason": "a test"}

    settings = exempted(json.dumps([SCRATCH, entry]))

    assert settings.exemptions == (EXEMPT_SCRATCH,)
    (error,) = settings.exemption_errors
    assert error.startswith('GUARD_EXEMPTIONS, entry 2: "bucket" can match no ')
    assert json.dumps(entry, ensure_ascii=False)[:60] in error
    assert "acs:osstables:<region or *>:<account id or *>:bucket/<glob>" in error


@given(st.from_regex(rf"{BUCKET_NAME}", fullmatch=True), st.data())
def test_a_glob_that_matches_a_name_is_possible(name: str, data: st.DataObject) -> None:
    """No exemption that is in use is dropped: any part of a name may be a wildcard."""
    wild = data.draw(st.sampled_from(["*", "?", "[a-z0-9-]"]))
    at = data.draw(st.integers(0, len(name) - 1))
    glob = name[:at] + wild + name[at + 1 :]
    assume(fnmatchcase(name, glob))

    assert len(exempted(json.dumps([{"bucket": glob, "reason": "a test"}])).exemptions) == 1


def test_a_bad_entry_shows_no_secret() -> None:
    """A key that was pasted into the list is redacted in its sentence, which is cut."""
    entry = {"bucket": "misplaced", "reason": "x" * 300, "misspelt": "a" * 300}

    settings = exempted(json.dumps([entry]), ALIBABA_CLOUD_SECURITY_TOKEN="misplaced")

    (error,) = settings.exemption_errors
    assert "misplaced" not in error
    assert '{"bucket": "[redacted]"' in error
    assert len(error) < 600


@pytest.mark.parametrize(
    "value",
    ["scratch-*", "{}", "17", "null", '"x"', "[", '[{"bucket": "a"}', "[]]", "\udcff"],
    ids=ascii,
)
def test_an_unreadable_list_is_dropped_as_a_whole(value: str) -> None:
    """It does not stop the function, which would leave buckets open, but is told."""
    settings = exempted(value)

    assert settings.exemptions == ()
    assert settings.exemption_errors == (
        f"GUARD_EXEMPTIONS is {json.dumps(value)}, but cannot be read (it is not a JSON list);"
        " no bucket is exempt until you correct it.",
    )


def test_exemptions_are_read_from_a_file(tmp_path: Path) -> None:
    """file:<path> is relative to the function's code."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "exemptions.json").write_text(json.dumps([LEGACY]), "utf-8")

    settings = exempted("file:config/exemptions.json", FC_FUNC_CODE_PATH=str(tmp_path))

    assert (settings.exemptions, settings.exemption_errors) == ((EXEMPT_LEGACY,), ())


@pytest.mark.parametrize(
    "environment", [{"FC_FUNC_CODE_PATH": "/code"}, {}], ids=["a function", "a command"]
)
def test_an_absolute_file_is_read_too(tmp_path: Path, environment: dict[str, str]) -> None:
    """Wherever the code is, and where nothing says where it is."""
    path = tmp_path / "exemptions.json"
    path.write_text(json.dumps([SCRATCH, 17]), "utf-8")

    settings = exempted(f"file:{path}", **environment)

    assert settings.exemptions == (EXEMPT_SCRATCH,)
    assert len(settings.exemption_errors) == 1


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("absent.json", "No such file or directory"),
        ("", "Is a directory"),
        ("binary.json", "it is not a JSON list"),
        ("text.json", "it is not a JSON list"),
        ("\0", "it is not a JSON list"),
    ],
    ids=ascii,
)
def test_an_unreadable_file_is_dropped_as_a_whole(tmp_path: Path, path: str, why: str) -> None:
    """A file that is not there, or no list, leaves nothing exempt and says so."""
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe[]")
    (tmp_path / "text.json").write_text("scratch-*", "utf-8")

    settings = exempted(f"file:{path}", FC_FUNC_CODE_PATH=str(tmp_path))

    assert settings.exemptions == ()
    assert settings.exemption_errors == (
        f"GUARD_EXEMPTIONS is {json.dumps('file:' + path)}, but cannot be read ({why}); no"
        " bucket is exempt until you correct it.",
    )


# Credentials.

ID, SECRET, TOKEN = "LTAI5tExampleKeyId", "ExampleSecretOfTheKey", "ExampleSecurityToken"


@dataclass
class Context:
    """Function Compute's context as far as credentials go."""

    credentials: Any


def held(access_key_id: str | None = ID, token: str | None = TOKEN) -> Context:
    return Context(
        SimpleNamespace(access_key_id=access_key_id, access_key_secret=SECRET, security_token=token)
    )


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"ALIBABA_CLOUD_{name.upper()}", value)


def test_the_contexts_credentials_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to python3.10 the context carries the credentials: they win over the environment."""
    set_environment(monkeypatch, access_key_id="E", access_key_secret="e", security_token="t")

    credentials = Credentials.read(held())

    assert credentials == Credentials(ID, SECRET, TOKEN)


@pytest.mark.parametrize("token", [None, ""], ids=["null", "empty"])
def test_the_contexts_credentials_need_no_token(token: str | None) -> None:
    """A key without a token is a permanent one."""
    credentials = Credentials.read(held(token=token))

    assert credentials == Credentials(ID, SECRET, None)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(None, id="no context"),
        pytest.param(SimpleNamespace(request_id="r"), id="python3.12"),
        pytest.param(Context(None), id="null credentials"),
        pytest.param(held(access_key_id=""), id="empty credentials"),
    ],
)
def test_else_the_environments_are_taken(monkeypatch: pytest.MonkeyPatch, context: object) -> None:
    """On python3.12, and in an operator's shell, the variables hold them."""
    set_environment(monkeypatch, access_key_id=ID, access_key_secret=SECRET, security_token=TOKEN)

    credentials = Credentials.read(context)

    assert credentials == Credentials(ID, SECRET, TOKEN)


def test_the_environment_is_read_anew_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary credentials are renewed in a living instance: nothing is kept from before."""
    set_environment(monkeypatch, access_key_id=ID, access_key_secret=SECRET, security_token="old")
    before = Credentials.read()
    set_environment(monkeypatch, security_token="new")

    after = Credentials.read()

    assert (before.security_token, after.security_token) == ("old", "new")


@pytest.mark.parametrize("token", [None, ""], ids=["not set", "empty"])
def test_the_environments_credentials_need_no_token(
    monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """An operator's permanent key has none."""
    set_environment(monkeypatch, access_key_id=ID, access_key_secret=SECRET)
    if token is not None:
        set_environment(monkeypatch, security_token=token)

    credentials = Credentials.read()

    assert credentials == Credentials(ID, SECRET, None)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"access_key_id": ID}, id="no secret"),
        pytest.param({"access_key_secret": SECRET}, id="no id"),
        pytest.param({"access_key_id": ID, "access_key_secret": ""}, id="an empty secret"),
        pytest.param({"security_token": TOKEN}, id="only a token"),
    ],
)
def test_missing_credentials_are_named(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    """The sentence names the variables and tells nothing that stands in them."""
    set_environment(monkeypatch, **values)

    with pytest.raises(ConfigurationError) as caught:
        Credentials.read()

    assert str(caught.value) == (
        "ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not both set; set them"
        " in your shell."
    )


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(SimpleNamespace(), id="python3.12"),
        pytest.param(SimpleNamespace(credentials=None), id="python3.10"),
        pytest.param(
            SimpleNamespace(credentials=SimpleNamespace(access_key_id="", access_key_secret="")),
            id="python3.10, empty",
        ),
    ],
)
def test_a_function_without_credentials_is_told_what_takes_them(
    monkeypatch: pytest.MonkeyPatch, context: object
) -> None:
    """A role that is missing, or the platform's setting that keeps its credentials back."""
    set_environment(monkeypatch)

    with pytest.raises(ConfigurationError) as caught:
        Credentials.read(context)

    assert str(caught.value) == (
        "ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not both set; give the"
        " function a role, and check that its setting disableInjectCredentials is None: Env,"
        " Request and All remove the role's credentials."
    )


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param("{}".format, id="format"),
        pytest.param(lambda credentials: repr([credentials])[1:-1], id="in a list"),
    ],
)
def test_credentials_never_show_their_secrets(shown: Any) -> None:
    """Whatever prints them shows the first four characters of the key id and nothing else."""
    text = shown(Credentials(ID, SECRET, TOKEN))

    assert text == "Credentials(LTAI...)"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FC_REGION", "evil.com#"),
        ("FC_ACCOUNT_ID", "12x4567"),
        ("GUARD_MAX_ATTEMPTS", "1_0"),
        ("GUARD_MAX_ATTEMPTS", "4.0"),
        ("GUARD_HTTP_TIMEOUT_SECONDS", "1_0"),
    ],
)
def test_what_only_looks_like_a_value_is_refused(variable: str, value: str) -> None:
    """Numbers are written as people write them, and ids are held to their alphabet."""
    with pytest.raises(ConfigurationError, match=f"^{variable} is "):
        Settings.from_environment({variable: value})


def test_a_context_may_hold_credentials_without_a_token() -> None:
    """Long-lived keys come without a security token."""
    held = SimpleNamespace(access_key_id="AKID", access_key_secret="SECRET")

    credentials = Credentials.read(SimpleNamespace(credentials=held))

    assert credentials == Credentials("AKID", "SECRET", None)


@pytest.mark.parametrize(
    ("variable", "value", "level", "left"),
    [
        ("POWERTOOLS_LOG_LEVEL", "debug", "DEBUG", "debug"),
        ("LOG_LEVEL", "WARN", "WARN", "WARN"),
        ("LOG_LEVEL", "verbose", "INFO", None),
        # It would suppress a dead letter that the log alone has.
        ("POWERTOOLS_LOG_LEVEL", "CRITICAL", "INFO", None),
        ("AWS_LAMBDA_LOG_LEVEL", "20", "INFO", None),
        ("LOG_LEVEL", "INFO ", "INFO", None),
        ("LOG_LEVEL", "", "INFO", None),
        ("POWERTOOLS_LOGGER_SAMPLE_RATE", ".5", "INFO", ".5"),
        ("POWERTOOLS_LOGGER_SAMPLE_RATE", "1.5", "INFO", None),
        ("POWERTOOLS_LOGGER_SAMPLE_RATE", "nan", "INFO", None),
        ("POWERTOOLS_DEV", "Yes", "INFO", "Yes"),
        ("POWERTOOLS_DEV", "maybe", "INFO", None),
        ("POWERTOOLS_SERVICE_NAME", "of somebody", "INFO", "of somebody"),
    ],
)
def test_the_environment_keeps_what_the_logger_can_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, level: str, left: str | None
) -> None:
    """What is empty or wrong is taken out, since the logger would raise for it."""
    monkeypatch.setenv(variable, value)

    settings = LogSettings.from_environment()

    assert (settings.level, os.environ.get(variable)) == (level, left)  # noqa: TID251
    assert [error.split(" is ")[0] for error in settings.errors] == (
        [variable] if value and left is None else []
    )


def test_a_wrong_log_setting_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was put there by mistake is not quoted."""
    set_environment(monkeypatch, access_key_secret=SECRET)
    monkeypatch.setenv("LOG_LEVEL", SECRET)

    (error,) = LogSettings.from_environment().errors

    assert SECRET not in error
    assert error.startswith('LOG_LEVEL is "[redacted]", but has to be')
