"""The settings of a deployment: where each comes from, and what it changes."""

from __future__ import annotations

import json
import re

import pytest

from encryption_guard.errors import ConfigurationError
from layers.encryption_guard.tools import configuration
from layers.encryption_guard.tools.configuration import (
    SECRET,
    UNKNOWN,
    VARIABLES,
    Change,
    Value,
    describe,
    find_changes,
    parse,
    resolve,
    shorten_exemptions,
    variables_of,
)
from tests.emulators.cloud import REPOSITORY

HOOK = "https://hooks.example.com/robot?key=not-to-be-seen"


def resolved(
    *,
    shell: dict[str, str] | None = None,
    file: dict[str, str] | None = None,
    deployed: dict[str, str] | None = None,
) -> dict[str, Value]:
    """The values of these sources, and of a template with two defaults."""
    defaults = {"GUARD_MODE": "enforce", "GUARD_SWEEP_EVERY": "300"}
    return resolve(shell=shell or {}, file=file or {}, deployed=deployed or {}, defaults=defaults)


# The file.


def test_the_example_states_every_setting() -> None:
    """Each key is in it, in use or behind a #, and all of it is valid."""
    text = (REPOSITORY / "guard.example.toml").read_text("utf-8")
    used = text.replace("# [", "[").replace("# bucket", "bucket").replace("# reason", "reason")
    used = used.replace("# expires", "expires").replace("# runtime", "runtime")
    used = used.replace("# mode = ", "mode = ").replace("# sweep_conc", "sweep_conc")

    file = parse(used, file="guard.example.toml")

    assert set(file.values) == set(VARIABLES)
    assert file.of("cn-shanghai")["GUARD_MODE"] == "detect"
    assert set(parse(text, file="guard.example.toml").values) == set(VARIABLES) - {
        "GUARD_RUNTIME",
        "GUARD_EXEMPTIONS",
        "GUARD_SWEEP_CONCURRENCY",
    }


def test_what_the_template_reads_can_be_stated() -> None:
    """But for what a deployment computes."""
    template = (REPOSITORY / "template.yaml").read_text("utf-8")
    names = {name for name in VARIABLES if f"env('{name}'" in template}

    assert names == set(VARIABLES)


TEXTS = {
    'mode = "detect"': ("GUARD_MODE", "detect"),
    "sweep_every = 600": ("GUARD_SWEEP_EVERY", "600"),
    "watch_seconds = 0": ("GUARD_WATCH_SECONDS", "0"),
    "audit_tables = true": ("GUARD_AUDIT_TABLES", "true"),
    "audit_tables = false": ("GUARD_AUDIT_TABLES", "false"),
    'audit_tables = "late"': ("GUARD_AUDIT_TABLES", "late"),
    'allowed_accounts = ["1234567890123456", "2222222222222222"]': (
        "GUARD_ALLOWED_ACCOUNTS",
        "1234567890123456,2222222222222222",
    ),
    "sweep_regions = []": ("GUARD_SWEEP_REGIONS", ""),
    'accounts = "organization"': ("GUARD_ACCOUNTS", "organization"),
    'accounts = ["1111111111111111", "2222222222222222"]': (
        "GUARD_ACCOUNTS",
        "1111111111111111,2222222222222222",
    ),
    'organization_folders = ["fd-a", "r-b"]': ("GUARD_ORGANIZATION_FOLDERS", "fd-a,r-b"),
    "accounts_per_share = 20": ("GUARD_ACCOUNTS_PER_SHARE", "20"),
    '[[exemptions]]\nbucket = "a-*"\nreason = "公开"\nexpires = 2027-01-31': (
        "GUARD_EXEMPTIONS",
        '[{"bucket": "a-*", "reason": "公开", "expires": "2027-01-31"}]',
    ),
}


@pytest.mark.parametrize(("text", "variable"), TEXTS.items(), ids=range(len(TEXTS)))
def test_a_key_becomes_the_text_of_its_variable(text: str, variable: tuple[str, str]) -> None:
    """As an operator would have exported it."""
    assert parse(text, file="guard.toml").values == dict([variable])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mode =", "guard.toml is not TOML: "),
        ("regions = 7", "guard.toml: regions has to hold tables such as [regions.cn-hangzhou]."),
        ("[regions]\ncn-hangzhou = 7", "regions has to hold tables"),
        ("[regions.cn-beijing]\nmod = 1", 'guard.toml, region cn-beijing: "mod" is not a setting'),
        ("modes = 1", "did you mean mode?"),
        ("xyzzy = 1", "known are mode, exemptions"),
        ("mode = 1", 'guard.toml: mode is "1", but has to be "enforce" or "detect"; correct it.'),
        ("audit_tables = 1", "audit_tables is"),
        ('audit_tables = "true"', 'but has to be true, false or "late"'),
        ('audit_tables = "Late"', 'but has to be true, false or "late"'),
        ("sweep_every = 1.5", "sweep_every is"),
        ("sweep_every = true", "sweep_every is"),
        ('sweep_regions = "cn-beijing"', "a list of region ids"),
        ("allowed_accounts = [1234567890123456]", "a list of account ids in quotes"),
        ('accounts = "all"', 'a list of account ids in quotes, or "organization"'),
        ("accounts = [1]", "a list of account ids in quotes"),
        ("exemptions = 7", "tables [[exemptions]]"),
        ("exemptions = [7]", "tables [[exemptions]]"),
        ("[[exemptions]]\nexpires = 2027-01-31T10:00:00", "tables [[exemptions]]"),
    ],
)
def test_a_wrong_file_is_refused(text: str, sentence: str) -> None:
    """With the place, the key, its value and what is allowed."""
    with pytest.raises(ConfigurationError) as refused:
        parse(text, file="guard.toml")

    assert sentence in str(refused.value)


# The four sources.


def test_the_first_source_that_states_it_counts() -> None:
    """Shell, file, what is deployed, the template; an empty variable of the shell is none."""
    sources = {
        "shell": {"GUARD_MODE": "a", "GUARD_WEBHOOK": ""},
        "file": {"GUARD_MODE": "b", "GUARD_SWEEP_EVERY": "c", "GUARD_CONTACT_GROUP": ""},
        "deployed": {"GUARD_SWEEP_EVERY": "d", "GUARD_CONTACT_GROUP": "e", "GUARD_RUNTIME": "f"},
    }

    values = resolved(**sources)

    assert values["GUARD_MODE"] == Value("a", "shell")
    assert values["GUARD_SWEEP_EVERY"] == Value("c", "file")
    assert values["GUARD_CONTACT_GROUP"] == Value("", "file")
    assert values["GUARD_RUNTIME"] == Value("f", "deployed")
    assert values["GUARD_WEBHOOK"] == Value("", "default")
    assert resolved()["GUARD_SWEEP_EVERY"] == Value("300", "default")


def test_a_deployed_function_tells_its_settings() -> None:
    """What it has beside them is left out; that there is a web hook is all that it tells of it."""
    function: dict[str, object] = {
        "runtime": "python3.10",
        "environmentVariables": {
            "GUARD_MODE": "detect",
            "GUARD_HAS_WEBHOOK": "true",
            "GUARD_DEAD_LETTER_QUEUE": "q",
        },
    }

    assert configuration.of_function(function) == {
        "GUARD_MODE": "detect",
        "GUARD_RUNTIME": "python3.10",
        "GUARD_WEBHOOK": SECRET,
    }
    assert configuration.of_function({}) == {}


def test_functions_that_share_a_setting_have_one_value() -> None:
    """Where they differ, both are shown; what only one of them has is its own."""
    first = {"GUARD_MODE": "detect", "GUARD_RUNTIME": "python3.12"}
    second = {"GUARD_MODE": "enforce", "GUARD_RUNTIME": "python3.12", "GUARD_SWEEP_EVERY": "300"}

    assert configuration.merge(first, second) == {
        "GUARD_MODE": "detect | sweep: enforce",
        "GUARD_RUNTIME": "python3.12",
        "GUARD_SWEEP_EVERY": "300",
    }
    assert configuration.merge({}, second) == second


def test_a_web_hook_is_in_no_error() -> None:
    """It is a secret also where it is no string."""
    with pytest.raises(ConfigurationError, match="webhook has to be a URL") as refused:
        parse(f'webhook = ["{HOOK}"]', file="guard.toml")

    assert "not-to-be-seen" not in str(refused.value)


@pytest.mark.parametrize(("hook", "state"), [(HOOK, "true"), ("", "")])
def test_the_template_learns_whether_there_is_a_web_hook(hook: str, state: str) -> None:
    """Its URL goes to the alarm alone."""
    variables = variables_of(resolved(file={"GUARD_WEBHOOK": hook}))

    assert (variables["GUARD_WEBHOOK"], variables["GUARD_HAS_WEBHOOK"]) == (hook, state)


# Changes.


def changes(deployed: dict[str, str], stated: dict[str, str]) -> list[Change]:
    """The changes of a region whose deployment left its receivers in its variables."""
    recorded = {"GUARD_SLOW_AFTER_MS": "60000", **deployed} if deployed else {}
    return find_changes(recorded, resolved(file=stated, deployed=recorded), region="a")


def test_a_first_deployment_changes_nothing() -> None:
    """There is nothing that could be turned back."""
    assert changes({}, {"GUARD_MODE": "detect"}) == []


@pytest.mark.parametrize(
    ("name", "before", "after", "question"),
    [
        ("GUARD_MODE", "enforce", "detect", "New buckets will stay unencrypted"),
        ("GUARD_MODE", "detect", "enforce", "Unencrypted buckets will be encrypted"),
        ("GUARD_SWEEP_REGIONS", "a,b", "", "No longer swept: b"),
        ("GUARD_SWEEP_REGIONS", "", "b", "No longer swept: a"),
        ("GUARD_SWEEP_REGIONS", "a", "a,b", None),
        ("GUARD_SWEEP_EVERY", "300", "600", None),
        ("GUARD_ALLOWED_ACCOUNTS", "11111,22222", "22222", "No longer protected: buckets of 11111"),
        ("GUARD_ALLOWED_ACCOUNTS", "", "11111", None),
        ("GUARD_CONTACT_GROUP", "ops", "", "GUARD_CONTACT_GROUP is gone"),
        ("GUARD_CONTACT_GROUP", "ops", "security", None),
        ("GUARD_ACTION_POLICY", "p", "", "GUARD_ACTION_POLICY is gone"),
        ("GUARD_RUNTIME", "python3.10", "python3.12", None),
        ("GUARD_ACCOUNTS", "", "11111", None),
        ("GUARD_ACCOUNTS", "11111", "organization", None),
        ("GUARD_ACCOUNTS", "11111,22222", "22222", "No longer protected: buckets of 11111"),
        ("GUARD_ACCOUNTS", "organization", "11111", "of the organization other than 11111"),
        ("GUARD_ACCOUNTS", "organization", "", "of the organization other than the own one"),
        ("GUARD_MEMBER_ROLE", "a", "b", "to be the same in every other account (a -> b)"),
        ("GUARD_EXTERNAL_ID", "", "id", "to be the same in every other account (none -> id)"),
        ("GUARD_ORGANIZATION_FOLDERS", "", "fd-a", None),
        ("GUARD_ORGANIZATION_FOLDERS", "fd-a,fd-b", "fd-a", "removed from the accounts in fd-b"),
        ("GUARD_ORGANIZATION_HOME", "", "cn-a", None),
        ("GUARD_ORGANIZATION_HOME", "cn-b", "cn-a", "stays in cn-b until cn-b is deployed (home: "),
        ("GUARD_ORGANIZATION_BUS", "", "guard", None),
        ("GUARD_ORGANIZATION_BUS", "guard", "", "no longer send events to guard"),
    ],
)
def test_what_opens_buckets_or_silences_somebody_is_a_question(
    name: str, before: str, after: str, question: str | None
) -> None:
    """It names what would be; any other change is only shown."""
    (change,) = changes({name: before}, {name: after})

    assert (change.before, change.after) == (before, Value(after, "file"))
    assert (change.question is None) is (question is None)
    assert (question or "") in (change.question or "")


def exemptions(*buckets: str) -> str:
    return json.dumps([{"bucket": bucket, "reason": "a test"} for bucket in buckets])


@pytest.mark.parametrize(
    ("before", "after", "question"),
    [
        (exemptions("a"), exemptions("a", "b"), "No longer protected: b"),
        (exemptions("a", "b"), exemptions("a"), "No longer exempt, so encrypted: b"),
        (exemptions("a"), "[]", "No longer exempt, so encrypted: a"),
        ("", exemptions("a"), "No longer protected: a"),
        ("file:x.json", "[]", "Other exemptions than those of the deployed file:x.json"),
        (exemptions("a"), exemptions("a").replace("a test", "another"), None),
        (
            exemptions("acs:osstables:*:11111:bucket/a-*"),
            exemptions("acs:osstables:*:22222:bucket/a-*"),
            "No longer protected: acs:osstables:*:22222:bucket/a-*; No longer exempt, so encrypted:"
            " acs:osstables:*:11111:bucket/a-*",
        ),
        (exemptions("acs:osstables:*:*:bucket/a-*"), exemptions(" a-*"), None),
        (
            exemptions("acs:oss-tables:*:11111:bucket/a-*"),
            exemptions("acs:osstables:*:11111:bucket/a-*"),
            None,
        ),
        (
            '[{"bucket": "a", "reason": "r", "expires": "2026-12-31"}]',
            '[{"bucket": "a", "reason": "r", "expires": "2030-12-31"}]',
            "Exempt until another day: a (2026-12-31 -> 2030-12-31)",
        ),
        (
            '[{"bucket": "a", "reason": "r", "expires": "2026-12-31"}]',
            exemptions("a"),
            "Exempt until another day: a (2026-12-31 -> no end)",
        ),
    ],
)
def test_exemptions_are_compared_one_by_one(before: str, after: str, question: str | None) -> None:
    """Each that comes or goes is named; another reason is only shown."""
    (change,) = changes({"GUARD_EXEMPTIONS": before}, {"GUARD_EXEMPTIONS": after})

    assert change.question == question


def test_long_exemptions_are_named_by_their_content() -> None:
    """The name is the same for the same exemptions, however their JSON is written."""
    short, long = exemptions("a" * 1400), exemptions(*map(str, range(100)))

    assert shorten_exemptions(short) == short
    name = shorten_exemptions(long)
    assert re.fullmatch(r"file:exemptions-[0-9a-f]{12}\.json", name)
    assert shorten_exemptions(json.dumps(json.loads(long), indent=1)) == name
    assert shorten_exemptions(long.replace("99", "98")) != name
    assert changes({"GUARD_EXEMPTIONS": name}, {"GUARD_EXEMPTIONS": long}) == []
    variables = variables_of(resolved(file={"GUARD_EXEMPTIONS": long}))
    assert variables["GUARD_EXEMPTIONS"] == name


def test_the_form_of_exemptions_is_no_change() -> None:
    """Blanks and escapes of JSON mean the same."""
    before = '[{"bucket":"a","reason":"\\u0024"}]'

    assert (
        changes({"GUARD_EXEMPTIONS": before}, {"GUARD_EXEMPTIONS": before.replace(",", " , ")})
        == []
    )


def test_receivers_of_an_older_version_are_asked_about() -> None:
    """It did not leave them where a deployment reads: one that is stated now is no question."""
    deployed = {"GUARD_MODE": "enforce"}
    values = resolved(file={"GUARD_CONTACT_GROUP": "ops"}, deployed=deployed)

    found = find_changes(deployed, values, region="a")

    assert [(change.name, change.before) for change in found] == [
        ("GUARD_WEBHOOK", UNKNOWN),
        ("GUARD_ACTION_POLICY", UNKNOWN),
    ]
    assert all("older version" in str(change.question) for change in found)


def test_an_older_version_had_no_watch() -> None:
    """Where its deployment gets one by default, that is shown as a change; its price asks."""
    after = Value("5", "default")
    defaults = {"GUARD_WATCH_SECONDS": "5"}
    deployed = {"GUARD_MODE": "enforce", "GUARD_SLOW_AFTER_MS": "60000"}
    values = resolve(shell={}, file={}, deployed=deployed, defaults=defaults)

    assert find_changes(deployed, values, region="a") == [Change("GUARD_WATCH_SECONDS", "0", after)]
    assert find_changes({}, values, region="a") == []


def test_a_web_hook_has_to_be_stated_again() -> None:
    """Its URL cannot be read back: without it the alarm would lose its receiver."""
    (gone,) = changes({"GUARD_WEBHOOK": SECRET}, {})

    assert gone.after == Value("", "default")
    assert gone.question is not None
    assert changes({"GUARD_WEBHOOK": SECRET}, {"GUARD_WEBHOOK": HOOK}) == []


def test_each_stated_or_changed_setting_is_shown() -> None:
    """With what is deployed, what will be, and the source; never with the URL of a web hook."""
    recorded = {"GUARD_SLOW_AFTER_MS": "60000"}
    deployed = {
        "GUARD_MODE": "detect",
        "GUARD_SWEEP_EVERY": "300",
        "GUARD_WEBHOOK": SECRET,
    } | recorded
    values = resolved(deployed=deployed, file={"GUARD_MODE": "enforce", "GUARD_WEBHOOK": HOOK})

    rows = describe(values, find_changes(deployed, values, region="a"))

    assert rows == [
        ("GUARD_MODE", "detect", "enforce", "file"),
        ("GUARD_SWEEP_EVERY", "300", "300", "deployed"),
        ("GUARD_WEBHOOK", "(set)", "(set)", "file"),
        ("GUARD_SLOW_AFTER_MS", "60000", "60000", "deployed"),
    ]
