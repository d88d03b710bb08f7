"""`encryption-guard status`: whether the guard is deployed in a region, and whether it is alive."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import click

from encryption_guard.cli.accounts import Choice, account_options, own_account
from encryption_guard.cli.console import (
    FAILED,
    NOT_SEEN,
    OK,
    Stdout,
    is_narrow,
    misuse,
    output_option,
    say,
)
from encryption_guard.cli.coverage import (
    Coverage,
    LeftOutReader,
    Organization,
    describe_unswept,
)
from encryption_guard.cli.credentials import find_caller, open_command, profile_option
from encryption_guard.cli.last_sweep import LastSweep, read_last_sweep, read_left_out
from encryption_guard.cli.regions import choose_regions, region_options
from encryption_guard.cli.verbosity import verbosity_options
from encryption_guard.dead_letters.destinations import open_destination
from encryption_guard.errors import ConfigurationError, GuardError
from encryption_guard.invocation import Invocation
from encryption_guard.settings import FunctionArn, Settings
from encryption_guard.untrusted import as_text, object_or_empty, plain_json, strings

if TYPE_CHECKING:
    from encryption_guard.services.function_compute import FunctionCompute

# By template.yaml.
CREATE, SWEEP = "oss-tables-encrypt-on-create", "oss-tables-encryption-sweep"
EVENTS, TIMER = "table-bucket-events", "sweep"
# The timer runs each minute, and a full sweep is due every five by default.
LATE: Final = timedelta(minutes=10)
MAX_PEEKED: Final = 16
# For all requests about a region, retries included.
REGION_SECONDS: Final = 30.0
UNKNOWN: Final = "unknown"
ACCOUNTS: Final = "accounts"
HEADINGS = (
    *("region", "version", "mode", "exempt", ACCOUNTS, "timer", "events", "letters", "last sweep"),
)
# The columns that a narrow terminal has no room for.
LEFT_OUT = ("exempt", "events")

Deployed = Literal["yes", "no", "partly", "unknown"]
LastSweepReader = Callable[[Invocation, Mapping[str, Any], str], LastSweep | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of the guard in one region; a value that could not be read is `unknown`.

    `problems` are sentences about what is not as it should be, `unread` about what is not known.
    """

    region: str
    deployed: Deployed
    version: str | None = None
    mode: str | None = None
    exemptions: str | None = None
    # The accounts that the sweep function covers, its own included.
    accounts: str | None = None
    timer: str | None = None
    trigger: str | None = None
    dead_letters: str | None = None
    last_sweep: str | None = None
    problems: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def row(self) -> tuple[str | None, ...]:
        """Return the cells under HEADINGS."""
        version = "not deployed" if self.deployed == "no" else self.version
        return (
            self.region,
            version,
            self.mode,
            self.exemptions,
            self.accounts,
            self.timer,
            self.trigger,
            self.dead_letters,
            self.last_sweep,
        )


class _Functions(NamedTuple):
    create: Mapping[str, Any] | None
    sweep: Mapping[str, Any] | None

    def differing(self, read: Callable[[Mapping[str, Any]], str]) -> str:
        """Return a value of both functions; both values, if they differ."""
        values = dict.fromkeys(read(each) for each in self if each is not None)
        return " | ".join(values)


@dataclass(slots=True)
class RegionReader:
    """Reads the state of one region, and collects what is wrong and what is not known."""

    invocation: Invocation
    client: FunctionCompute
    region: str
    account_id: str
    now: datetime
    organization: Organization
    choice: Choice
    read_last_sweep: LastSweepReader = read_last_sweep
    read_left_out: LeftOutReader = read_left_out
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    account_ids: Sequence[str] = ()

    def read(self) -> Status:
        """Read everything; a part that cannot be read is unknown."""
        try:
            found = _Functions(*map(self.client.read_function, map(self._arn, (CREATE, SWEEP))))
        except GuardError as error:
            return Status(region=self.region, deployed=UNKNOWN, unread=(str(error),))
        if found == (None, None):
            return self._undeployed()
        for name, function in zip((CREATE, SWEEP), found, strict=True):
            if function is None:
                self.problems.append(f"{name} is missing: run `make deploy` again.")
        return Status(
            region=self.region,
            deployed="yes" if all(found) else "partly",
            version=self._same("version", found.differing(_version)),
            mode=self._same("GUARD_MODE", found.differing(_mode)),
            exemptions=found.differing(_count_exemptions),
            accounts=self._accounts(found),
            timer=self._trigger(SWEEP, TIMER, "enable") if found.sweep else None,
            trigger=self._trigger(CREATE, EVENTS, "triggerEnable") if found.create else None,
            dead_letters=self._count_dead_letters(found),
            last_sweep=self._last_sweep(found.sweep) if found.sweep else None,
            problems=tuple(self.problems),
            unread=tuple(self.unread),
        )

    def _undeployed(self) -> Status:
        why = f"No guard is deployed in {self.region} of account {self.account_id}."
        return Status(region=self.region, deployed="no", problems=(why,))

    def _arn(self, name: str) -> FunctionArn:
        return FunctionArn(name, self.region, self.account_id)

    def _same(self, what: str, value: str) -> str:
        if " | " in value:
            self.problems.append(f"The functions differ in {what} ({value}): run `make deploy`.")
        return value

    def _accounts(self, found: _Functions) -> str | None:
        self._same("GUARD_ACCOUNTS", found.differing(_stated_accounts))
        if found.sweep is None:
            return None
        coverage = Coverage(
            self.invocation,
            self.client,
            self._arn(SWEEP),
            self.organization,
            self.choice,
            self.read_left_out,
            self.problems,
            self.unread,
        )
        accounts = coverage.read(found.sweep)
        self.account_ids = coverage.account_ids
        return accounts

    def _trigger(self, function: str, name: str, switch: str) -> str:
        """Return `on`, `off`, `missing` or `unknown`."""
        try:
            trigger = self.client.read_trigger(self._arn(function), name)
        except GuardError as error:
            self.unread.append(str(error))
            return UNKNOWN
        if not trigger:
            self.problems.append(f"{function} has no trigger {name}: run `make deploy` again.")
            return "missing"
        if object_or_empty(trigger.get("triggerConfig")).get(switch) is True:
            return "on"
        self.problems.append(f"The trigger {name} of {function} is off: switch it on.")
        return "off"

    def _count_dead_letters(self, found: _Functions) -> str:
        """Return how many dead letters the queue shows: at most 16 of those that are visible."""
        variables = next(_variables(each) for each in found if each is not None)
        try:
            queue = str(variables.get("GUARD_DEAD_LETTER_QUEUE"))
            settings = Settings.from_environment(
                overrides={"GUARD_DEAD_LETTER_QUEUE": queue, "GUARD_EXEMPTIONS": "[]"}
            )
            invocation = self.invocation._replace(settings=settings)
            count = len(open_destination(invocation).peek().messages)
        except GuardError as error:
            self.unread.append(str(error))
            return UNKNOWN
        if count:
            self.problems.append(
                f"Dead letters wait in {self.region}: `encryption-guard dead-letters list --queue"
                f" {queue}` shows them."
            )
        return f"{count} or more" if count >= MAX_PEEKED else str(count)

    def _last_sweep(self, sweep: Mapping[str, Any]) -> str:
        """Return how long ago the last full sweep ended, or `none`."""
        try:
            last = self.read_last_sweep(self.invocation, sweep, self.region)
        except GuardError as error:
            if str(error) not in self.unread:
                self.unread.append(str(error))
            return UNKNOWN
        if last is None:
            self.problems.append(f"No sweep has ended in {self.region} within a day.")
            return "none"
        if unswept := describe_unswept(self.account_ids, last.account_ids):
            self.problems.append(unswept)
        age = max(self.now - last.at, timedelta())
        if age > LATE:
            self.problems.append(f"The last sweep in {self.region} ended {_ago(age)} ago.")
        if not last.ok:
            self.problems.append(
                f"The last sweep found problems: run `encryption-guard sweep --region"
                f" {self.region}`."
            )
        return f"{_ago(age)} ago{'' if last.ok else ', problems'}"


def _ago(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _variables(function: Mapping[str, Any]) -> dict[str, Any]:
    return object_or_empty(function.get("environmentVariables"))


def _mode(function: Mapping[str, Any]) -> str:
    return as_text(_variables(function).get("GUARD_MODE")) or "enforce"


def _stated_accounts(function: Mapping[str, Any]) -> str:
    return as_text(_variables(function).get("GUARD_ACCOUNTS")) or "none"


def _version(function: Mapping[str, Any]) -> str:
    tags = function.get("tags")
    for tag in tags if isinstance(tags, list) else ():
        if next(strings(tag, "key"), None) == "version":
            return next(strings(tag, "value"), UNKNOWN)
    return UNKNOWN


def _count_exemptions(function: Mapping[str, Any]) -> str:
    given = as_text(_variables(function).get("GUARD_EXEMPTIONS")) or ""
    if given.startswith("file:"):
        return "a file"
    settings = Settings.from_environment({"GUARD_EXEMPTIONS": given})
    bad = len(settings.exemption_errors)
    return f"{len(settings.exemptions)}{f' ({bad} bad)' if bad else ''}"


@click.command("status", short_help="Show whether the guard is deployed and alive.")
@region_options("Ask about")
@account_options("Ask about")
@output_option
@profile_option
@verbosity_options
def status(
    regions: tuple[str, ...],
    all_regions: bool,
    organization: bool,
    account_ids: tuple[str, ...],
    output: str,
) -> None:
    """Show a line for each region: version, mode, exemptions, triggers, dead letters, last sweep.

    If the guard covers several accounts, the line has their number and how many are not prepared,
    by the log of the last sweeps. --account and --organization name those that it should cover.

    The command only reads. It exits with 0 if all is well, with 1 if something is not as it should
    be, with 2 if an option, a setting or the credentials are wrong, and with 3 if something could
    not be read. With --all-regions a region without the guard is no problem.
    """
    choice = Choice(organization, account_ids)
    choice.check()
    try:
        settings = Settings.from_environment()
        chosen = choose_regions(regions, all_regions=all_regions, settings=settings)
        with open_command(settings, seconds=math.inf) as invocation:
            invocation.read_credentials()  # without credentials, fail once
            found = _read_regions(invocation, chosen, choice)
    except ConfigurationError as error:
        misuse(str(error))
    stdout = Stdout()
    if output == "json":
        for each in found:
            stdout.line(plain_json(asdict(each)))
    else:
        _print_table(found, stdout)
    stdout.say_if_lost("not all rows were printed")
    counted = [each for each in found if not (all_regions and each.deployed == "no")]
    for each in counted:
        for sentence in (*each.problems, *each.unread):
            say(f"{each.region}: {sentence}")
    if stdout.is_lost or any(each.problems for each in counted):
        sys.exit(FAILED)
    sys.exit(NOT_SEEN if any(each.unread for each in counted) else OK)


def _print_table(found: Sequence[Status], stdout: Stdout) -> None:
    left_out = {*LEFT_OUT} if is_narrow() else set()
    if all(each.accounts in (None, "1") for each in found):
        left_out.add(ACCOUNTS)
    shown = [number for number, heading in enumerate(HEADINGS) if heading not in left_out]
    rows = [each.row() for each in found]
    stdout.table(
        [HEADINGS[number] for number in shown],
        [[cells[number] for number in shown] for cells in rows],
    )


def _read_regions(invocation: Invocation, regions: tuple[str, ...], choice: Choice) -> list[Status]:
    # The vendor's client is slow to import.
    from encryption_guard.services.function_compute import FunctionCompute

    settings = invocation.settings
    account_id = settings.account_id or own_account(partial(find_caller, invocation))
    organization = Organization(invocation)
    found = []
    for region in regions:
        inner, now = invocation.within(REGION_SECONDS), invocation.clock.now()
        client = FunctionCompute(inner)
        reader = RegionReader(inner, client, region, account_id, now, organization, choice)
        found.append(reader.read())
    return found
