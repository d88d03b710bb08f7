"""Check the requirements of a deployment, without any request to the cloud."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from encryption_guard.arn import is_region
from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError
from encryption_guard.services.inventory import REGIONS as OSS_TABLES_REGIONS
from encryption_guard.settings import (
    KNOWN_NAMES,
    ORGANIZATION,
    Exemption,
    Settings,
    unknown_names,
)
from encryption_guard.untrusted import as_object
from encryption_guard.version import __version__
from layers.encryption_guard.tools.serverless_devs import ALIAS_ENDING
from layers.encryption_guard.tools.template_keys import find_unknown_keys


@dataclass(frozen=True)
class Region:
    """A region that offers OSS Tables.

    `runtime` is the newest Python that Function Compute documents for this region.
    """

    name: str
    publishes_events: bool
    runtime: str


# https://www.alibabacloud.com/help/en/oss/user-guide/quick-start (OSS Tables, a preview)
# https://www.alibabacloud.com/help/en/eventbridge/user-guide/oss-events
# https://www.alibabacloud.com/help/en/functioncompute/fc/python/
WITHOUT_EVENTS = {"cn-wulanchabu", "eu-central-1", "us-east-1"}
WITHOUT_NEWEST_PYTHON = {"cn-wulanchabu", "ap-southeast-1"}
REGIONS = {
    name: Region(
        name,
        publishes_events=name not in WITHOUT_EVENTS,
        runtime="python3.10" if name in WITHOUT_NEWEST_PYTHON else "python3.12",
    )
    for name in OSS_TABLES_REGIONS
}
# The folders that Serverless Devs uploads as the code of the functions.
FUNCTION_FOLDERS = ("functions/encrypt_on_create", "functions/sweep")
RUNTIMES = ("python3.10", "python3.12")
MIN_NODE_VERSION = (14, 14)
# `s -a NAME` reads the access key from the variable NAME if the name has this ending.
ALIAS = "encryption_guard_serverless_devs_key"
# A stack is created in less than a minute.
MAX_SECONDS_AHEAD = 15.0
KEY_PAIR = ("AccountID", "AccessKeyID", "AccessKeySecret")
TOKEN = "SecurityToken"  # noqa: S105  the name of the variable
# What Serverless Devs calls the parts of a key, and the variables of Alibaba Cloud's tools.
SHELL_NAMES = {
    "AccountID": "ALIBABA_CLOUD_ACCOUNT_ID",
    "AccessKeyID": "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "AccessKeySecret": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    TOKEN: "ALIBABA_CLOUD_SECURITY_TOKEN",
}

# Variables that only the template reads: the pattern of a value, and its description.
FORMATS = {
    "GUARD_SLOW_AFTER_MS": (r"[1-9][0-9]*", "a number of milliseconds"),
    "GUARD_WEBHOOK": (r"https?://\S+", "the URL of a web hook"),
    "GUARD_AUDIT_TABLES": (r"late|true|false", "late, true or false"),
    "GUARD_SWEEP_CONCURRENCY": (r"[1-9][0-9]*", "a number of instances"),
    "GUARD_ORGANIZATION_FOLDERS": (
        r"(?:fd|r)-[A-Za-z0-9]+(?:,(?:fd|r)-[A-Za-z0-9]+){0,19}",
        "1 to 20 ids of folders (fd-...) or of the root (r-...), separated by commas",
    ),
    "GUARD_ORGANIZATION_BUS": (r"[A-Za-z0-9-]{1,127}", "the name of an event bus"),
}

# Serverless Devs replaces these in every value that it reads, with a variable or a file of the
# deployer.
_EXPANDED = re.compile(r"\$[A-Za-z0-9_{]")
# Whether there is a web hook: a deployment tells the template.
COMPUTED = "GUARD_HAS_WEBHOOK"
# Settings that an operator's shell has for the commands alone.
OF_COMMANDS = {
    *("GUARD_DEAD_LETTER_QUEUE", "GUARD_FUNCTION", "GUARD_FC_ENDPOINT", "GUARD_SMQ_ENDPOINT"),
    *("GUARD_STS_ENDPOINT", "GUARD_DIRECTORY_ENDPOINT", "GUARD_LOG_ENDPOINT"),
}
# https://www.alibabacloud.com/help/en/functioncompute/fc/product-overview/limits
MAX_ENVIRONMENT_BYTES = 4 * 1024
_SHORTER = {"GUARD_ACCOUNTS": f"set it to `{ORGANIZATION}`, all of the resource directory"}
REMEDY_FOR_SETTINGS = "Correct it where it is stated: in your shell, or in guard.toml."
REMEDY_FOR_EXEMPTIONS = (
    "Correct GUARD_EXEMPTIONS, or the file that it names. If it names what another checkout"
    " deployed, state the exemptions in guard.toml."
)
# https://www.alibabacloud.com/help/en/sls/limits-on-basic-resources and the RAM and SMQ limits.
MAX_PROJECT_LENGTH, MAX_ROLE_LENGTH = 63, 64

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The result of a check; `remedy` is empty if there is nothing to do."""

    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Access:
    """The credentials of Serverless Devs: its options, and variables to add to the shell's.

    `account_id` and `credentials` are None for an alias of Serverless Devs, which only that program
    reads.
    """

    description: str
    account_id: str | None = None
    credentials: Credentials | None = None
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def check_tools(node: str | None, serverless_devs: str | None) -> list[Finding]:
    """Check the versions of Node.js and Serverless Devs; None means that the tool does not run."""
    remedy = "Install Node.js 14.14 or newer, with npm."
    if node is None:
        return [Finding("error", "Node.js is not installed", remedy)]
    version = tuple(int(number) for number in re.findall(r"\d+", node)[:2])
    if version < MIN_NODE_VERSION:
        return [Finding("error", f"Node.js {node} is too old", remedy)]
    if serverless_devs is None:
        remedy = "Run `make serverless-devs`, which installs it into node_modules/."
        return [Finding("error", "Serverless Devs does not run", remedy)]
    return [Finding("ok", f"Node.js {node}, Serverless Devs {serverless_devs}")]


def find_access(environment: Mapping[str, str], aliases: Collection[str]) -> Access | Finding:
    """Find the credentials: in the environment, or else in the alias `default`.

    `aliases` are the names that `s config add` has stored.
    """
    if all(environment.get(name) for name in KEY_PAIR):
        key = {name: environment[name] for name in (*KEY_PAIR, TOKEN) if environment.get(name)}
        return _access(key, "AccountID", variables=key)
    key = {name: environment[own] for name, own in SHELL_NAMES.items() if environment.get(own)}
    if "AccessKeyID" in key and "AccessKeySecret" in key:
        account = SHELL_NAMES["AccountID"]
        return _access(key, account, options=("-a", ALIAS), variables={ALIAS: json.dumps(key)})
    if "default" in aliases:
        return Access("the alias `default` of Serverless Devs")
    return Finding(
        "error",
        "There are no credentials",
        "Set ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and "
        "ALIBABA_CLOUD_ACCOUNT_ID (and ALIBABA_CLOUD_SECURITY_TOKEN for a temporary key), "
        "or set up the alias `default` with `node_modules/.bin/s config add`.",
    )


def _access(
    key: Mapping[str, str],
    account_variable: str,
    *,
    options: tuple[str, ...] = (),
    variables: Mapping[str, str],
) -> Access | Finding:
    key_id, account = key["AccessKeyID"], key.get("AccountID", "")
    if not re.fullmatch(r"[0-9]{5,20}", account, re.ASCII):
        remedy = f"Set {account_variable} to the number of the account that owns the key."
        return Finding("error", f"The account of the access key {key_id[:4]}… is not set", remedy)
    try:
        credentials = Credentials(key_id, key["AccessKeySecret"], key.get(TOKEN))
    except ConfigurationError:
        remedy = "It contains a space, a line break or another invalid character; set it again."
        return Finding("error", f"The access key {key_id[:4]}… is not usable", remedy)
    description = f"access key {key_id[:4]}… of account {account}"
    return Access(description, account, credentials, options, variables)


def check_clock(seconds_ahead: float | None) -> list[Finding]:
    """Check that this machine's clock is not ahead; None means that it is not known.

    The component ros ignores the events of a stack from before its own start. With a clock that is
    ahead it waits for a newer one for ever.
    """
    if seconds_ahead is None or seconds_ahead <= MAX_SECONDS_AHEAD:
        return []
    remedy = "Set the clock, such as with NTP: Serverless Devs would wait for events that are over."
    return [Finding("error", f"This machine's clock is {seconds_ahead:.0f} s ahead", remedy)]


def check_files(folder: Path) -> list[Finding]:
    """Check that Serverless Devs reads nothing but the template and the shell.

    A file `.env` beside the template, or in the folder of a function, replaces the account, the key
    and the settings.
    """
    if not (folder / "template.yaml").is_file():
        remedy = "Run the command in the folder of the repository."
        return [Finding("error", "There is no template.yaml in the current folder", remedy)]
    return [
        Finding(
            "error",
            f"Serverless Devs would read {file}, and with it another account and other settings",
            "Move the file away, and set its variables in your shell.",
        )
        for file in (Path(place, ".env") for place in (".", *FUNCTION_FOLDERS))
        if (folder / file).exists()
    ]


def check_aliases(environment: Mapping[str, str]) -> list[Finding]:
    """Check the keys that Serverless Devs would take from the shell by their names."""
    return [
        Finding(
            "error",
            f"The variable {name} is not an access key in JSON",
            "Unset it, or set it to an object with AccountID, AccessKeyID and AccessKeySecret.",
        )
        for name, value in environment.items()
        if name.endswith(ALIAS_ENDING) and as_object(value) is None
    ]


def template_variables(region: Region, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the template that depend on the region and the guard's version."""
    return {
        "ALIBABA_CLOUD_REGION": region.name,
        "ENCRYPTION_GUARD_VERSION": __version__,
        "GUARD_RUNTIME": environment.get("GUARD_RUNTIME") or region.runtime,
    }


def check_region(region: Region, environment: Mapping[str, str]) -> list[Finding]:
    """Check the runtime that is chosen for the region, and whether OSS publishes events there."""
    runtime = template_variables(region, environment)["GUARD_RUNTIME"]
    return [_check_runtime(region, runtime), _check_events(region)]


def _check_runtime(region: Region, runtime: str) -> Finding:
    if runtime not in RUNTIMES:
        remedy = f"Unset GUARD_RUNTIME, or set it to {' or '.join(RUNTIMES)}."
        return Finding("error", f"No layer can be built for {runtime}", remedy)
    if RUNTIMES.index(runtime) > RUNTIMES.index(region.runtime):
        remedy = f"Unset GUARD_RUNTIME: the default there is {region.runtime}."
        return Finding("error", f"{runtime} is not documented for {region.name}", remedy)
    return Finding("ok", f"{runtime} in {region.name}")


def _check_events(region: Region) -> Finding:
    if region.publishes_events:
        return Finding(
            "ok", f"OSS publishes its events in {region.name}; a sweep runs every minute"
        )
    return Finding(
        "warning",
        f"OSS publishes no events in {region.name}: only the sweep, every minute, protects it",
        "A new bucket can be unencrypted for that minute; create it with encryption if you can.",
    )


def find_region(name: str, *, any_region: bool) -> Region | Finding:
    """Find the region of this name.

    With `any_region`, an unknown region is accepted: without events, and with the oldest runtime.
    """
    if name in REGIONS:
        return REGIONS[name]
    if any_region and is_region(name):
        return Region(name, publishes_events=False, runtime=RUNTIMES[0])
    return Finding(
        "error",
        f"OSS Tables is not documented for the region {name!r}",
        f"Choose one of {', '.join(REGIONS)}; if {name} offers OSS Tables now, set ANY_REGION=1.",
    )


def check_names(environment: Mapping[str, str], of_template: Collection[str]) -> list[Finding]:
    """Check the names of the shell's GUARD_* variables; `of_template` are those that it reads."""
    findings = [
        Finding("error", f"{name} is not a setting", advice)
        for name, advice in unknown_names(environment).items()
    ]
    for name in sorted(KNOWN_NAMES & environment.keys()):
        if name == COMPUTED:
            findings.append(Finding("error", f"A deployment sets {name} itself", "Unset it."))
        elif name not in OF_COMMANDS | set(of_template):
            remedy = "If the functions need it, set it in template.yaml."
            findings.append(Finding("warning", f"A deployment does not pass on {name}", remedy))
    return findings


def check_expansion(environment: Mapping[str, str], names: Collection[str]) -> list[Finding]:
    """Check that Serverless Devs will not replace a part of these variables.

    It takes `$NAME` and `${...}` for a variable or a file of the deployer, in single quotes too.
    """
    return [
        Finding(
            "error",
            f"{name} contains a $ that Serverless Devs would replace",
            "Remove the $, or put another character than a letter, a digit, _ or { after it.",
        )
        for name in sorted(names)
        if _EXPANDED.search(environment.get(name, ""))
    ]


def without_dollars(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with each $ of the exemptions' JSON written as an escape.

    Serverless Devs would expand it; the functions read the same text.
    """
    exemptions = environment.get("GUARD_EXEMPTIONS", "")
    if exemptions.startswith("file:") or "$" not in exemptions:
        return dict(environment)
    return {**environment, "GUARD_EXEMPTIONS": exemptions.replace("$", "\\u0024")}


def check_settings(
    environment: Mapping[str, str],
    *,
    today: date,
    any_region: bool,
    account_id: str | None = None,
) -> list[Finding]:
    """Check the shell's settings as the functions and the template will read them.

    A function skips an exemption that it cannot read, and only logs this. So the deployment stops.
    `account_id` is the deployment's own account, if it is known.
    """
    variables = {name: value for name, value in environment.items() if name.startswith("GUARD_")}
    try:
        read = Settings.from_environment(variables)
    except ConfigurationError as error:
        return [Finding("error", str(error), REMEDY_FOR_SETTINGS)]
    findings = [
        Finding("error", problem, REMEDY_FOR_EXEMPTIONS)
        for problem in _find_exemption_errors(variables)
    ]
    findings += _check_formats(variables)
    if read.mode == "detect":
        findings.append(Finding("warning", "GUARD_MODE=detect: no bucket will be encrypted"))
    exempt = [region for each in read.exemptions if (region := each.place[0]) != "*"]
    home = [name] if (name := variables.get("GUARD_ORGANIZATION_HOME")) else []
    findings += _check_regions([*read.sweep_regions, *exempt, *home], any_region=any_region)
    accounts = None
    if account_id and read.accounts != ORGANIZATION:
        accounts = {account_id, *read.allowed_accounts, *read.accounts}
    findings += [_describe_exemption(each, today, accounts) for each in read.exemptions]
    return [*findings, *_check_notifications(variables), *_check_organization(variables)]


def _check_formats(variables: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            "error",
            f"{_describe_variable(name, variables)} is not {description}",
            REMEDY_FOR_SETTINGS,
        )
        for name, (pattern, description) in FORMATS.items()
        if variables.get(name) and not re.fullmatch(pattern, variables[name], re.ASCII)
    ]


def _check_regions(names: Iterable[str], *, any_region: bool) -> list[Finding]:
    found = [find_region(name, any_region=any_region) for name in dict.fromkeys(names)]
    return [region for region in found if isinstance(region, Finding)]


def _describe_exemption(
    exemption: Exemption, today: date, accounts: Collection[str] | None
) -> Finding:
    label = f"Exempt: {exemption.bucket} ({exemption.reason})"
    _, account_id, _ = exemption.place
    if exemption.is_over(today):
        remedy = "Remove it, or renew it if the buckets are to stay exempt."
        return Finding("warning", f"{label} ended after {exemption.expires}", remedy)
    if accounts and account_id != "*" and account_id not in accounts:
        remedy = "Correct the account, or add it to GUARD_ACCOUNTS or GUARD_ALLOWED_ACCOUNTS."
        return Finding("warning", f"{label} is of an account that is not guarded", remedy)
    if exemption.has_every_name:
        where = exemption.where
        what = "no bucket there" if where else "nothing"
        return Finding("warning", f"{label} is every bucket{where}: {what} will be encrypted")
    until = f", until {exemption.expires}" if exemption.expires else ""
    return Finding("ok", f"{label}{until}")


def check_keys(resources: Mapping[str, Any]) -> list[Finding]:
    """Check the keys of the resolved template: `s verify` accepts misspelt ones.

    The other checks need the keys, so this one comes first. `resources` are as for them.
    """
    return [
        Finding(
            "error",
            f"{name}: {unknown}",
            "Correct it in template.yaml. For a new key, extend the lists beside template_keys.py.",
        )
        for name, props in resources.items()
        for unknown in find_unknown_keys("ros" if name == "infra" else "fc3", props)
    ]


def check_resources(resources: Mapping[str, Any]) -> list[Finding]:
    """Check the resolved template against the platform's limits.

    `resources` are the properties by the names in template.yaml. The platform counts the variables
    of a function by the bytes of their names and values.
    """
    findings = []
    for function in (each for each in resources.values() if "environmentVariables" in each):
        variables = function["environmentVariables"]
        sizes = {name: len(f"{name}{value}".encode()) for name, value in variables.items()}
        if (size := sum(sizes.values())) > MAX_ENVIRONMENT_BYTES:
            largest = max(sizes, key=lambda name: sizes[name])
            shorten = _SHORTER.get(largest, "shorten it")
            remedy = f"{largest} has {sizes[largest]:,} bytes: {shorten}."
            what = f"The variables of {function['functionName']} have {size:,} bytes"
            findings.append(
                Finding("error", f"{what}, {MAX_ENVIRONMENT_BYTES:,} are allowed", remedy)
            )
    template = resources["infra"]["template"]["Resources"]
    names = [
        (resources["sweep"]["logConfig"]["project"], MAX_PROJECT_LENGTH),
        *((each["Properties"].get("RoleName", ""), MAX_ROLE_LENGTH) for each in template.values()),
    ]
    return findings + [
        Finding(
            "error",
            f"The name {name} has {len(name)} characters, {longest} are allowed",
            "Choose another region.",
        )
        for name, longest in names
        if len(name) > longest
    ]


def _describe_variable(name: str, variables: Mapping[str, str]) -> str:
    # The URL of a web hook is a secret: anyone who has it can call it.
    return name if name == "GUARD_WEBHOOK" else f"{name}={variables[name]!r}"


def _find_exemption_errors(variables: Mapping[str, str]) -> list[str]:
    """Return the errors in the exemptions; each function reads a file from its own folder."""
    environments = [{**variables, "FC_FUNC_CODE_PATH": folder} for folder in FUNCTION_FOLDERS]
    errors = [
        error
        for environment in environments
        for error in Settings.from_environment(environment).exemption_errors
    ]
    return list(dict.fromkeys(errors))


def _check_organization(variables: Mapping[str, str]) -> list[Finding]:
    remedy = f"Set GUARD_ACCOUNTS too: account ids, or `{ORGANIZATION}` for all of them."
    return [
        Finding("error", f"{name} is set without other accounts to guard", remedy)
        for name in ("GUARD_ORGANIZATION_FOLDERS", "GUARD_ORGANIZATION_BUS")
        if variables.get(name) and not variables.get("GUARD_ACCOUNTS")
    ]


def _check_notifications(variables: Mapping[str, str]) -> list[Finding]:
    findings = []
    if variables.get("GUARD_WEBHOOK") and not variables.get("GUARD_CONTACT_GROUP"):
        remedy = "Set GUARD_CONTACT_GROUP too: CloudMonitor calls a web hook only beside a group."
        findings.append(Finding("error", "GUARD_WEBHOOK is set without a contact group", remedy))
    elif not variables.get("GUARD_CONTACT_GROUP"):
        remedy = "Set GUARD_CONTACT_GROUP to a contact group of CloudMonitor."
        findings.append(Finding("warning", "No alarm will report dead letters", remedy))
    if not variables.get("GUARD_ACTION_POLICY"):
        remedy = "Set GUARD_ACTION_POLICY to an action policy of the log service."
        findings.append(Finding("warning", "No alert will report errors in the log", remedy))
    return findings
