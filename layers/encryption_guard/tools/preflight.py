"""What must be so before anything is deployed: decided from what is given, nothing is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from encryption_guard.arn import is_region
from encryption_guard.errors import ConfigurationError
from encryption_guard.services.inventory import REGIONS as SWEPT
from encryption_guard.settings import Settings
from encryption_guard.version import __version__


@dataclass(frozen=True)
class Region:
    """A region where OSS Tables is offered, and what else it has.

    `runtime` is the newest Python that Function Compute is documented to have there.
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
    for name in SWEPT
}
# What is shipped, and will be where the functions run.
CODE = ("functions/encrypt_on_create", "functions/sweep")
RUNTIMES = ("python3.10", "python3.12")
MIN_NODE_VERSION = (14, 14)
# What `-a` calls a key of the environment: Serverless Devs knows such names by their ending.
ALIAS = "encryption_guard_serverless_devs_key"
KEY_PAIR = ("AccountID", "AccessKeyID", "AccessKeySecret")

# Variables that only the template reads: their form, and that form in words.
FORMATS = {
    "GUARD_SLOW_AFTER_MS": (r"[1-9][0-9]*", "a number of milliseconds"),
    "GUARD_WEBHOOK": (r"https?://\S+", "the URL of a web hook"),
    "GUARD_AUDIT_TABLES": (r"true|false", "true or false"),
}

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What a check found, and, where it is not fine, what to do."""

    level: Level
    what: str
    todo: str = ""


@dataclass(frozen=True)
class Access:
    """How Serverless Devs gets its credentials: options, and variables besides the shell's."""

    whose: str
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def tools(node: str | None, serverless_devs: str | None) -> list[Finding]:
    """Whether Node.js and Serverless Devs are there; each is given as it tells its version."""
    todo = "Install Node.js 14.14 or newer, with npm."
    if node is None:
        return [Finding("error", "Node.js is not installed", todo)]
    version = tuple(int(number) for number in re.findall(r"\d+", node)[:2])
    if version < MIN_NODE_VERSION:
        return [Finding("error", f"Node.js {node} is too old", todo)]
    if serverless_devs is None:
        todo = "Run `make serverless-devs`, which installs it into node_modules/."
        return [Finding("error", "Serverless Devs does not run", todo)]
    return [Finding("ok", f"Node.js {node}, Serverless Devs {serverless_devs}")]


def access(environment: Mapping[str, str], aliases: Collection[str]) -> Access | Finding:
    """Where the credentials come from: the environment, else the alias `default`.

    `aliases` are those that `s config add` has set up.
    """
    if all(environment.get(name) for name in KEY_PAIR):
        own = {name: environment[name] for name in KEY_PAIR}
        whose = f"access key {own['AccessKeyID'][:4]}… of account {own['AccountID']}"
        return Access(whose, variables=own)
    key_id = environment.get("ALIBABA_CLOUD_ACCESS_KEY_ID")
    secret = environment.get("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
    if key_id and secret:
        return _of_the_shell(key_id, secret, environment)
    if "default" in aliases:
        return Access("the alias `default` of Serverless Devs")
    return Finding(
        "error",
        "There are no credentials",
        "Set ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and "
        "ALIBABA_CLOUD_ACCOUNT_ID (of a temporary key ALIBABA_CLOUD_SECURITY_TOKEN too), "
        "or set up the alias `default` with `node_modules/.bin/s config add`.",
    )


def _of_the_shell(key_id: str, secret: str, environment: Mapping[str, str]) -> Access | Finding:
    account = environment.get("ALIBABA_CLOUD_ACCOUNT_ID", "")
    if not re.fullmatch(r"[0-9]{5,20}", account, re.ASCII):
        todo = "Set ALIBABA_CLOUD_ACCOUNT_ID to the number of the account that owns the key."
        return Finding("error", f"The access key {key_id[:4]}… comes without its account", todo)
    key = {"AccountID": account, "AccessKeyID": key_id, "AccessKeySecret": secret}
    if token := environment.get("ALIBABA_CLOUD_SECURITY_TOKEN"):
        key["SecurityToken"] = token
    whose = f"access key {key_id[:4]}… of account {account}"
    return Access(whose, ("-a", ALIAS), {ALIAS: json.dumps(key)})


def variables(region: Region, environment: Mapping[str, str]) -> dict[str, str]:
    """What the template is told of the region, where the shell does not say otherwise."""
    return {
        "ALIBABA_CLOUD_REGION": region.name,
        "ENCRYPTION_GUARD_VERSION": __version__,
        "GUARD_RUNTIME": environment.get("GUARD_RUNTIME") or region.runtime,
    }


def region_findings(region: Region, environment: Mapping[str, str]) -> list[Finding]:
    """What differs in this region, and whether the shell's own choices fit it."""
    return [_runtime(region, variables(region, environment)["GUARD_RUNTIME"]), _events(region)]


def _runtime(region: Region, runtime: str) -> Finding:
    if runtime not in RUNTIMES:
        todo = f"Unset GUARD_RUNTIME, or set it to {' or '.join(RUNTIMES)}."
        return Finding("error", f"No layer can be built for {runtime}", todo)
    if RUNTIMES.index(runtime) > RUNTIMES.index(region.runtime):
        todo = f"Unset GUARD_RUNTIME: {region.runtime} is taken there."
        return Finding("error", f"{region.name} is not known to have {runtime}", todo)
    return Finding("ok", f"{runtime} in {region.name}")


def _events(region: Region) -> Finding:
    if region.publishes_events:
        return Finding("ok", f"OSS publishes its events in {region.name}; a sweep every minute")
    return Finding(
        "warning",
        f"OSS publishes no events in {region.name}: the sweep alone protects it, every minute",
        "A new bucket can be open that long; create it with its encryption where you can.",
    )


def region(name: str, *, any_region: bool) -> Region | Finding:
    """The region of this name; one that is not known is taken to have the least, if it is taken."""
    if name in REGIONS:
        return REGIONS[name]
    if any_region and is_region(name):
        return Region(name, publishes_events=False, runtime=RUNTIMES[0])
    return Finding(
        "error",
        f"OSS Tables is not known to be offered in {name!r}",
        f"Choose one of {', '.join(REGIONS)}; if it is offered there by now, say ANY_REGION=1.",
    )


def settings(environment: Mapping[str, str]) -> list[Finding]:
    """What the functions and the template would make of the shell's settings.

    An exemption that the function would drop stops the deployment: nobody is at its log yet.
    """
    given = {name: value for name, value in environment.items() if name.startswith("GUARD_")}
    try:
        read = Settings.from_environment(given)
    except ConfigurationError as error:
        return [Finding("error", str(error), "Correct it in your shell, or unset it.")]
    findings = [
        Finding("error", sentence, "Correct GUARD_EXEMPTIONS, or the file that it names.")
        for sentence in _dropped(given)
    ]
    findings += [
        Finding("error", f"{_shown(name, given)} is not {allowed}", "Correct it, or unset it.")
        for name, (form, allowed) in FORMATS.items()
        if given.get(name) and not re.fullmatch(form, given[name], re.ASCII)
    ]
    if read.mode == "detect":
        findings.append(Finding("warning", "GUARD_MODE=detect: nothing will be encrypted"))
    return [*findings, *_notifications(given)]


def _shown(name: str, given: Mapping[str, str]) -> str:
    # Whoever knows the URL of a web hook can call it, so it is not printed.
    return name if name == "GUARD_WEBHOOK" else f"{name}={given[name]!r}"


def _dropped(given: Mapping[str, str]) -> list[str]:
    """What either function would say of its exemptions; a file of them lies in its own folder."""
    places = [{**given, "FC_FUNC_CODE_PATH": folder} for folder in CODE]
    variables_of_s = [
        error for place in places for error in Settings.from_environment(place).exemption_errors
    ]
    return list(dict.fromkeys(variables_of_s))


def _notifications(given: Mapping[str, str]) -> list[Finding]:
    findings = []
    if given.get("GUARD_WEBHOOK") and not given.get("GUARD_CONTACT_GROUP"):
        todo = "Set GUARD_CONTACT_GROUP too: CloudMonitor calls a web hook only beside a group."
        findings.append(Finding("error", "GUARD_WEBHOOK is set without a contact group", todo))
    elif not given.get("GUARD_CONTACT_GROUP"):
        todo = "Set GUARD_CONTACT_GROUP to a contact group of CloudMonitor."
        findings.append(Finding("warning", "Nobody will be told of dead letters", todo))
    if not given.get("GUARD_ACTION_POLICY"):
        todo = "Set GUARD_ACTION_POLICY to an action policy of the log service."
        findings.append(Finding("warning", "Nobody will be told of errors in the log", todo))
    return findings
