"""What has to hold of a template's resources as they resolve, beyond what `s verify` finds.

Each check returns its complaints; none is well.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from encryption_guard.enforcement.policy import CAUSES
from encryption_guard.errors import ConfigurationError
from encryption_guard.http.retries import FIRST_BACKOFF_SECONDS
from encryption_guard.invocation import REQUEST_SHARE
from encryption_guard.services.oss_tables import ADVICE_SECONDS
from encryption_guard.settings import VARIABLES, Settings
from layers.encryption_guard.tools.configuration import RECORDED
from tests.emulators.cloud import REPOSITORY
from tests.emulators.event_bridge import matches
from tests.emulators.log_alerts import Alert, Chart, LogStore, minutes

Resources = Mapping[str, Any]
Complaints = list[str]

SETTINGS = frozenset({variable.name for variable in VARIABLES.values()} | {"GUARD_EXEMPTIONS"})
GIVEN = SETTINGS | RECORDED
# Namespace, metric, and how the metric is compared.
AT_THE_FIRST_LETTER = (
    *("acs_mns_new", "ActiveMessages"),
    *("Maximum", "GreaterThanOrEqualToThreshold", "1", 1),
)
# Of a dashboard: in the samples of the documentation, two charts of width 5 are side by side.
COLUMNS = 10
QUEUE_VARIABLE = "GUARD_DEAD_LETTER_QUEUE"
_REGION, _ACCOUNT = r"[a-z]{2}(?:-[a-z0-9]+)+", r"[0-9]{5,20}"
# The service, its region, the account and what is meant; in a policy each may be a `*`.
_ARN = re.compile(rf"acs:[a-z]+:(?:{_REGION}|\*)?:(?:{_ACCOUNT}|\*)?:(?![/ ]*$)\S+", re.ASCII)
# Where a text is no whole ARN: a pattern of events, and a template with its functions.
_OF_PARTS = re.compile(r"/(?:FilterPattern|TemplateBody)/")
_ROLE = re.compile(rf"acs:ram::{_ACCOUNT}:role/[a-z0-9.-]{{1,64}}", re.ASCII)


def functions(resources: Resources) -> dict[str, dict[str, Any]]:
    """The properties of every function."""
    return {name: one["props"] for name, one in resources.items() if one["component"] == "fc3"}


def made(resources: Resources, kind: str) -> list[dict[str, Any]]:
    """The properties of every resource of this type in the stacks."""
    return [
        resource["Properties"]
        for one in resources.values()
        if one["component"] == "ros"
        for resource in one["props"]["template"]["Resources"].values()
        if resource["Type"] == kind
    ]


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every string in it, with where it stands."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from texts(inner, f"{place}/{number}")


def values(resources: Resources) -> Complaints:
    """Every key and value of a function is one that Function Compute takes."""
    return [
        f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message}"
        for name, props in functions(resources).items()
        for error in _function_compute().iter_errors(props)
    ]


@functools.cache
def _function_compute() -> Draft7Validator:
    schema = Path(__file__).with_name("function_compute.json").read_text("utf-8")
    return Draft7Validator(json.loads(schema))


def unresolved(resources: Resources) -> Complaints:
    """Nothing is left to fill in."""
    return [f"{place}: {text}" for place, text in texts(resources) if "${" in text]


def handlers(resources: Resources, folder: Path = REPOSITORY) -> Complaints:
    """Whatever the platform calls is a function of the code that is shipped."""
    return [
        f"{name}: {entry} is not in {props['code']}"
        for name, props in functions(resources).items()
        for entry in (
            props["handler"],
            *(hook["handler"] for hook in props.get("instanceLifecycleConfig", {}).values()),
        )
        if not _defines(folder / props["code"], entry)
    ]


def _defines(code: Path, entry: str) -> bool:
    module, _, function = entry.partition(".")
    file = code / f"{module}.py"
    if not file.is_file():
        return False
    body = ast.parse(file.read_text("utf-8")).body
    return any(isinstance(one, ast.FunctionDef) and one.name == function for one in body)


def variables(resources: Resources) -> Complaints:
    """Every variable is a setting, and each function starts with those that it has."""
    complaints = []
    for name, props in functions(resources).items():
        given = props["environmentVariables"]
        complaints += [f"{name}: {one} is no setting" for one in sorted(given.keys() - GIVEN)]
        strange = [one for one, value in given.items() if not isinstance(value, str)]
        complaints += [f"{name}: {one} is not a string" for one in strange]
        if not strange:
            complaints += _refusals(name, given)
    return complaints


def _refusals(name: str, given: Mapping[str, str]) -> Complaints:
    try:
        settings = Settings.from_environment({**given, "FC_FUNCTION_NAME": name})
    except ConfigurationError as error:
        return [f"{name}: {error}"]
    return [f"{name}: {error}" for error in settings.exemption_errors]


def arns(resources: Resources) -> Complaints:
    """Every ARN has its five parts, and every role is one that a stack makes."""
    complaints = [
        f"{place}: {text} is no ARN"
        for place, text in texts(resources)
        if text.startswith("acs:") and not _ARN.fullmatch(text) and not _OF_PARTS.search(place)
    ]
    roles = {role["RoleName"] for role in made(resources, "ALIYUN::RAM::Role")}
    for name, props in functions(resources).items():
        if not _ROLE.fullmatch(props["role"]):
            complaints.append(f"{name}: {props['role']} is no role's ARN in lower case")
        elif props["role"].rpartition("/")[2] not in roles:
            complaints.append(f"{name}: no stack makes {props['role']}")
    return complaints


def failure_destinations(resources: Resources) -> Complaints:
    """What fails for good goes where our own letters go, to a queue that a stack makes."""
    queues = {queue["QueueName"] for queue in made(resources, "ALIYUN::MNS::Queue")}
    complaints = []
    for name, props in functions(resources).items():
        ours = props["environmentVariables"].get(QUEUE_VARIABLE, "")
        config = props.get("asyncInvokeConfig", {}).get("destinationConfig", {})
        destination = config.get("onFailure", {}).get("destination", "")
        if destination != f"{ours}/messages":
            complaints.append(f"{name}: {destination} is not {ours}/messages")
        if ours.rpartition("/")[2] not in queues:
            complaints.append(f"{name}: no stack makes {ours}")
    return complaints


def times(resources: Resources) -> Complaints:
    """A function has the time for one request with all its repeats, and then for a letter."""
    complaints = []
    for name, props in functions(resources).items():
        settings = _settings_for_requests(props["environmentVariables"])
        pauses = sum(FIRST_BACKOFF_SECONDS * 2.0**n for n in range(settings.max_attempts - 1))
        request = settings.max_attempts * settings.http_timeout_seconds + pauses
        needed = ADVICE_SECONDS + request / REQUEST_SHARE
        if props["timeout"] <= needed:
            complaints.append(f"{name}: {props['timeout']} s, but one bucket may take {needed:.0f}")
    return complaints


def _settings_for_requests(given: Mapping[str, Any]) -> Settings:
    # What is wrong with the others is told by `variables`.
    deciding = ("GUARD_HTTP_TIMEOUT_SECONDS", "GUARD_MAX_ATTEMPTS")
    return Settings.from_environment({name: given[name] for name in deciding if name in given})


def sizes(resources: Resources) -> Complaints:
    """Processors come in twentieths, and with 1 to 4 GB each."""
    complaints = []
    for name, props in functions(resources).items():
        cpu, gigabytes = props["cpu"], props["memorySize"] / 1024
        if not round(cpu / 0.05, 6).is_integer():
            complaints.append(f"{name}: {cpu} is no multiple of 0.05")
        if not 1 <= gigabytes / cpu <= 4:
            complaints.append(f"{name}: {gigabytes} GB do not go with {cpu} processors")
    return complaints


def patterns(resources: Resources) -> Complaints:
    """Each rule lets in every sample that the guard minds, and no other CloudEvent."""
    complaints = []
    for rule in made(resources, "ALIYUN::EventBridge::Rule"):
        complaints += _misjudged(rule["RuleName"], json.dumps(rule["FilterPattern"]))
    for name, props in functions(resources).items():
        for trigger in props.get("triggers", []):
            if trigger["triggerType"] == "eventbridge":
                complaints += _misjudged(name, trigger["triggerConfig"]["eventRuleFilterPattern"])
    return complaints


def _misjudged(name: str, text: str) -> Complaints:
    try:
        pattern = json.loads(text)
        taken = {sample for sample, event in samples().items() if matches(pattern, event)}
    except ValueError as error:
        return [f"{name}: {error}"]
    minded = {sample for sample, event in samples().items() if is_minded(event)}
    complaints = [f"{name}: {sample} does not pass" for sample in sorted(minded - taken)]
    return complaints + [f"{name}: {sample} passes" for sample in sorted(taken - minded)]


def samples() -> dict[str, dict[str, Any]]:
    """Every CloudEvent of events/."""
    parsed = {
        file.stem: json.loads(file.read_bytes())
        for file in sorted((REPOSITORY / "events").glob("*.json"))
    }
    return {
        name: event
        for name, event in parsed.items()
        if isinstance(event, dict) and isinstance(event.get("data"), dict)
    }


def is_minded(event: Mapping[str, Any]) -> bool:
    """Whether it tells of a call that the guard minds; of a list, one has to be such a call."""
    names = event["data"].get("eventName")
    return any(name in CAUSES for name in (names if isinstance(names, list) else [names]))


def alarms(resources: Resources) -> Complaints:
    """The alarm is on our queue and rises at the first letter; each alert can be evaluated."""
    complaints = []
    queues = {queue["QueueName"] for queue in made(resources, "ALIYUN::MNS::Queue")}
    for rule in made(resources, "ALIYUN::CMS::ResourceMetricRule"):
        (watched,) = rule["Resources"]
        level = rule["Escalations"]["Critical"]
        if watched["queue"] not in queues or watched["region"] not in regions(resources):
            complaints.append(f"{rule['RuleName']}: nobody makes {watched}")
        if (rule["Namespace"], rule["MetricName"], *level.values()) != AT_THE_FIRST_LETTER:
            complaints.append(f"{rule['RuleName']}: it does not rise at the first letter")
    return complaints + [
        f"{alert['Detail']['Name']}: {complaint}"
        for alert in made(resources, "ALIYUN::SLS::Alert")
        for complaint in _of_an_alert(alert["Detail"], resources)
    ]


def _of_an_alert(detail: Mapping[str, Any], resources: Resources) -> Iterator[str]:
    alert = Alert(detail, LogStore(indexed(resources)))
    asked = alert.asked
    stores = made(resources, "ALIYUN::SLS::Logstore")
    if (asked["Project"], asked["Store"]) not in [
        (store["ProjectName"], store["LogstoreName"]) for store in stores
    ] or asked["Region"] not in regions(resources):
        yield f"nobody writes to {asked['Region']}/{asked['Project']}/{asked['Store']}"
    try:
        alert.rows([], datetime.now(timezone.utc))
    except ValueError as error:
        yield str(error)
    if detail["State"] != "Enabled":
        yield "it is off"
    if alert.looks_back < minutes(detail["Schedule"]["Interval"]):
        yield "it does not look at all of the time that has passed"


def charts(resources: Resources) -> Complaints:
    """Each chart of a dashboard is on our log, can be drawn, and has a place of its own."""
    return [
        f"{dashboard['DashboardName']}: {complaint}"
        for dashboard in made(resources, "ALIYUN::SLS::Dashboard")
        for complaint in _of_a_dashboard(dashboard, resources)
    ]


def _of_a_dashboard(dashboard: Mapping[str, Any], resources: Resources) -> Iterator[str]:
    stores = made(resources, "ALIYUN::SLS::Logstore")
    known = [(store["ProjectName"], store["LogstoreName"]) for store in stores]
    taken: set[tuple[int, int]] = set()
    for chart in dashboard["Charts"]:
        title, store = chart["title"], chart["search"]["logstore"]
        if (dashboard["ProjectName"], store) not in known:
            yield f"{title}: nobody writes to {dashboard['ProjectName']}/{store}"
        try:
            Chart(chart, LogStore(indexed(resources))).rows([], datetime.now(timezone.utc))
        except ValueError as error:
            yield f"{title}: {error}"
        cells = _cells(chart["display"])
        if taken & cells or max(column for column, _ in cells) >= COLUMNS:
            yield f"{title}: it has no place of its own"
        taken |= cells


def _cells(display: Mapping[str, int]) -> set[tuple[int, int]]:
    columns = range(display["xPos"], display["xPos"] + display["width"])
    rows = range(display["yPos"], display["yPos"] + display["height"])
    return {(column, row) for column in columns for row in rows}


def indexed(resources: Resources) -> dict[str, str]:
    """The type of each field of a log record that can be searched."""
    keys = [key for index in made(resources, "ALIYUN::SLS::Index") for key in index["KeyIndices"]]
    return {key["Name"]: key["Type"] for key in keys} | {
        f"{key['Name']}.{inner['Name']}": inner["Type"]
        for key in keys
        for inner in key.get("JsonKeyIndices", [])
    }


def regions(resources: Resources) -> set[str]:
    """Where the resources are: one region."""
    return {one["props"]["region"] for one in resources.values()}


CHECKS = (
    values,
    alarms,
    charts,
    unresolved,
    handlers,
    variables,
    arns,
    failure_destinations,
    times,
    sizes,
    patterns,
)


def complaints_about(resources: Resources) -> Complaints:
    """What all checks together find."""
    return [complaint for check in CHECKS for complaint in check(resources)]
