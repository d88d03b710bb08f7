"""Deploy the guard with Serverless Devs, plan or remove it (`make deploy`, `plan`, `remove`).

This program checks first whether a deployment can succeed. It gives Serverless Devs the variables
of the region and the version of the layer, and invokes both functions afterwards.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, NoReturn

import click
import yaml

from encryption_guard import __version__
from encryption_guard.cli.console import Commands, misuse, say
from encryption_guard.errors import ConfigurationError, GuardError
from layers.encryption_guard.tools import (
    configuration,
    costs,
    member_stacks,
    organization,
    preflight,
)
from layers.encryption_guard.tools.bytecode import read_output
from layers.encryption_guard.tools.comparison import (
    Deployed,
    Stack,
    digest_content,
)
from layers.encryption_guard.tools.configuration import (
    CONTENT,
    FILE_NAME,
    SHARES,
    Change,
    File,
    Value,
)
from layers.encryption_guard.tools.costs import Price
from layers.encryption_guard.tools.deployed import (
    count_dead_letters,
    find_missing_buses,
    find_regions,
    has_stack_group,
    measure_clock,
    read_accounts,
    read_deployed,
    read_parts,
    read_stack,
)
from layers.encryption_guard.tools.member_stacks import (
    NO_MEMBERS,
    Members,
    describe_removal,
    find_home,
    list_trusted,
    serves_members,
)
from layers.encryption_guard.tools.organization import Guarded
from layers.encryption_guard.tools.preflight import KEY_PAIR, Access, Finding, Region
from layers.encryption_guard.tools.progress import Report, Terminal
from layers.encryption_guard.tools.serverless_devs import (
    TEMPLATE,
    ServerlessDevs,
    StepFailed,
    root_folder,
)
from layers.encryption_guard.tools.tasks import (
    BUILD,
    EXEMPTIONS,
    FUNCTIONS,
    REMOVALS,
    STACK_NAME,
    Target,
    Task,
    deploy,
    plan,
    preview,
    remove,
    remove_but_logs,
)

UNREADABLE = Finding(
    "warning",
    "Only Serverless Devs has this key, so the deployed settings are not read",
    f"A setting that neither your shell nor {FILE_NAME} states returns to its default. Set"
    " ALIBABA_CLOUD_ACCESS_KEY_ID and so on to keep what is deployed.",
)
REMEDY_FOR_PRICE = "GUARD_WATCH_SECONDS=0 turns the watch off. See Costs in docs/deploy.md."
SERVERLESS_DEVS = (str(Path("node_modules", ".bin", "s")),)
OK, FAILED, NOT_STARTED, STOPPED = 0, 1, 2, 130

Confirm = Callable[[Sequence[Target]], object]


def run_preflight(
    task: Task,
    names: Sequence[str],
    environment: Mapping[str, str],
    report: Report,
    *,
    any_region: bool,
) -> tuple[Access, list[Region]]:
    """Return the credentials and the regions; exit with 2 if a check finds an error."""
    access = preflight.find_access(environment, list_aliases(environment))
    regions = [preflight.find_region(name, any_region=any_region) for name in names]
    findings = preflight.check_files(Path())
    findings += preflight.check_tools(read_version("node"), read_version(*SERVERLESS_DEVS))
    findings += preflight.check_aliases(environment)
    findings.append(access if isinstance(access, Finding) else Finding("ok", access.description))
    findings += [region for region in regions if isinstance(region, Finding)]
    known = [region for region in regions if isinstance(region, Region)]
    if task not in REMOVALS:
        findings += preflight.check_names(environment, read_template_defaults())
    has_errors = show_findings(findings, report)
    if isinstance(access, Finding) or has_errors:
        exit_unstarted(report)
    return access, known


def show_findings(findings: Sequence[Finding], report: Report) -> bool:
    """Show the findings, and return whether one of them is an error."""
    for finding in findings:
        report.show_finding(finding)
    return any(finding.level == "error" for finding in findings)


def exit_unstarted(report: Report) -> NoReturn:
    """Exit with 2 before anything is changed."""
    report.terminal.print("  Nothing was started.")
    sys.exit(NOT_STARTED)


def today() -> date:
    """Return the day in UTC, as exemptions count it."""
    return datetime.now(timezone.utc).date()


def read_template_defaults() -> dict[str, str]:
    """Return the variables that the template reads from the shell, with their defaults."""
    try:
        template = Path(TEMPLATE).read_text("utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"env\('([A-Z_]+)', *'([^']*)'", template))


def read_configuration(path: Path | None) -> File:
    """Read the named guard.toml, or the one of the current folder if there is one.

    Raises ConfigurationError if it cannot be read.
    """
    if path is None and not Path(FILE_NAME).exists():
        return File()
    file = path or Path(FILE_NAME)
    try:
        # Some editors write a byte order mark.
        return configuration.parse(file.read_text("utf-8-sig"), file=str(file))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8; save it as UTF-8.") from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from None


def read_version(*command: str) -> str | None:
    """Run a command with --version and return the version; None if it does not run."""
    found = re.search(r"\d+\.\d+\.\d+", read_output([*command, "--version"]) or "")
    return found[0] if found else None


def list_aliases(environment: Mapping[str, str]) -> set[str]:
    """Return the names of the keys that `s config add` has stored, without the keys."""
    try:
        configured = (root_folder(environment) / "access.yaml").read_text("utf-8")
    except OSError:
        return set()
    return set(re.findall(r"^([^\s:#]+):", configured, re.MULTILINE))


class Configured(NamedTuple):
    """The checked settings of a region, what they change, what they cost, and for whom."""

    values: Mapping[str, Value] = MappingProxyType({})
    changes: Sequence[Change] = ()
    price: Price | None = None
    members: Members | None = None
    # The deployed stack, if it does, or did, something for other accounts.
    stack: Stack | None = None


@dataclass(frozen=True)
class Deployer:
    """Runs a task with these credentials and settings, region by region."""

    task: Task
    access: Access
    environment: Mapping[str, str]
    report: Report
    file: File = field(default_factory=File)
    any_region: bool = False
    # Of all regions in this run.
    names: Sequence[str] = ()

    def log(self, region: Region) -> Path:
        """Return the file for the whole output of the task in a region."""
        return BUILD / f"{self.task.__name__}-{region.name}.log"

    @contextmanager
    def serverless_devs(
        self,
        region: Region,
        values: Mapping[str, Value],
        mode: Literal["w", "a"],
        of_stack: Mapping[str, str] = NO_MEMBERS,
    ) -> Iterator[ServerlessDevs]:
        """Open the log of a region, and give `s` the variables of the region.

        `of_stack` are those for other accounts.
        """
        # Serverless Devs prefers its own variables for a key, even if one is empty or missing.
        shell = {name: value for name, value in self.environment.items() if name not in KEY_PAIR}
        settings = configuration.variables_of(values) if values else {}
        variables = {
            **preflight.without_dollars(shell | settings),
            **preflight.template_variables(region, shell | settings),
            **(costs.template_variables(settings) if settings else {}),
            **(organization.template_variables(settings) if settings else {}),
            **of_stack,
            CONTENT: digest_content(Path(), __version__),
            **self.access.variables,
        }
        BUILD.mkdir(exist_ok=True)
        with self.log(region).open(mode, encoding="utf-8") as file:
            yield ServerlessDevs(
                SERVERLESS_DEVS, self.access.options, variables, file, self.report.show_activity
            )

    def resolve(self, region: Region) -> Target:
        """Resolve settings and template for a region; exits with 2 if a check finds an error."""
        is_removal = self.task in REMOVALS
        configured = Configured() if is_removal else self.configure(region)
        members = configured.members
        of_stack = members.variables(region.name) if members else NO_MEMBERS
        with self.serverless_devs(region, configured.values, "w", of_stack) as s:
            resources = preview(s)
        # An unknown key does not stop a removal.
        if not is_removal and show_findings(preflight.check_keys(resources), self.report):
            exit_unstarted(self.report)
        account_id = find_account(resources)
        findings = preflight.check_resources(resources)
        if self.access.account_id not in (None, account_id):
            findings.append(
                Finding(
                    "error",
                    f"Serverless Devs acts in account {account_id}, not {self.access.account_id}",
                    "Look for a file or a variable of Serverless Devs with another key.",
                )
            )
        if show_findings(findings, self.report):
            exit_unstarted(self.report)
        queue = resources["sweep"]["environmentVariables"]["GUARD_DEAD_LETTER_QUEUE"]
        target = Target(
            region,
            account_id,
            resources,
            *configured[:3],
            members=members,
            stack=configured.stack,
            read_stack=partial(read_stack, self.access, region, STACK_NAME, self.environment),
        )
        if show_findings(self.check_bus(target), self.report):
            exit_unstarted(self.report)
        if is_removal:
            self.show_what_stays(region)
            letters = count_dead_letters(self.access, queue, self.environment)
            return replace(target, dead_letters=letters)
        return replace(target, deployed=self.read_parts(target)) if self.task is plan else target

    def read_stack(self, region: Region) -> Stack | None:
        """Read the deployed stack; raises GuardError.

        After an update that failed, its parameters may name a stack group that is not there.
        """
        where = (self.access, region, STACK_NAME, self.environment)
        stack = read_stack(*where)
        if stack is None or stack.is_settled or not stack.parameters.get("StackGroup"):
            return stack
        if has_stack_group(*where):
            return stack
        return replace(stack, parameters={**stack.parameters, "StackGroup": ""})

    def check_bus(self, target: Target) -> list[Finding]:
        """Check the event bus where the stack needs it.

        One that cannot be read is an error if the stack group would be removed before.
        """
        if not target.members or not (bus := target.members.custom_bus):
            return []
        regions = target.members.bus_regions(target.region.name)
        try:
            missing = find_missing_buses(self.access, bus, regions, self.environment)
        except GuardError as error:
            return [member_stacks.describe_unknown_bus(bus, error, is_needed=target.is_replaced)]
        return [member_stacks.describe_missing_bus(bus, missing)] if missing else []

    @contextmanager
    def readable(self, what: str, remedy: str) -> Iterator[None]:
        """Exit with 2 if something that is needed cannot be read."""
        try:
            yield
        except GuardError as error:
            finding = Finding("error", f"{what} not readable: {error}", remedy)
            show_findings([finding], self.report)
            exit_unstarted(self.report)

    def read_parts(self, target: Target) -> Deployed | None:
        """Read what is deployed; exits with 2 if a service does not return it."""
        remedy = "A plan compares with it; see the rights in docs/deploy.md."
        with self.readable("What is deployed is", remedy):
            return read_parts(self.access, target.region, target.resources, self.environment)

    def configure(self, region: Region, *, serves: bool = False) -> Configured:
        """Return the checked settings of a region, what they change there, and what they cost.

        `serves`: also what is for other accounts, even if the stacks do nothing for them.
        """
        remedy = "Without them a deployment could change settings that nobody states."
        with self.readable("The deployed settings are", remedy):
            deployed = read_deployed(self.access, region, self.environment)
        values = configuration.resolve(
            shell=self.environment,
            file=self.file.of(region.name),
            deployed=deployed or {},
            defaults=read_template_defaults() | {"GUARD_RUNTIME": region.runtime},
        )
        if show_findings(find_differing(values), self.report):
            exit_unstarted(self.report)
        settings = {name: value.text for name, value in values.items()}
        shell = {**self.environment, **settings}
        findings = preflight.check_clock(measure_clock(self.access, region, self.environment))
        findings += preflight.check_region(region, shell)
        findings += preflight.check_expansion(shell, {*read_template_defaults()} - {EXEMPTIONS})
        findings += preflight.check_settings(
            shell,
            today=today(),
            any_region=self.any_region,
            account_id=self.access.account_id,
        )
        if deployed is None:
            findings.append(UNREADABLE)
        if show_findings(findings, self.report):
            exit_unstarted(self.report)
        guarded = read_accounts(self.access, settings, self.environment)
        settings[SHARES] = str(organization.count_shares(settings, guarded))
        values[SHARES] = Value(settings[SHARES], "default")
        findings = organization.check_accounts(settings, guarded, is_plan=self.task is plan)
        findings += organization.check_instances(settings)
        if show_findings(findings, self.report):
            exit_unstarted(self.report)
        changes = configuration.find_changes(deployed or {}, values, region=region.name)
        price, is_new = costs.find_price(deployed, settings), deployed == {}
        members, serves = None, serves or serves_members(settings)
        with self.readable("The deployed stack is", "See the rights in docs/deploy.md."):
            stack = self.read_stack(region) if serves or serves_members(deployed or {}) else None
        if serves:
            members = self.find_members(region, settings, guarded, stack, is_new=is_new)
        return Configured(values, changes, price, members, stack)

    @cached_property
    def deployed_regions(self) -> tuple[str, ...]:
        """The regions that have the functions, of those in the documentation, file and run."""
        return self.find_deployed([*preflight.REGIONS, *self.file.regions, *self.names])

    def find_deployed(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the regions that have the functions; raises GuardError."""
        return find_regions(self.access, dict.fromkeys(names), self.environment)

    def find_members(
        self,
        region: Region,
        settings: Mapping[str, str],
        guarded: Guarded,
        stack: Stack | None,
        *,
        is_new: bool,
    ) -> Members:
        """Return what the stacks do for other accounts; exits with 2 if a check finds an error."""
        with self.readable("The regions with the guard are", "See the rights in docs/deploy.md."):
            regions = self.list_regions(settings, stack)
        home = find_home(settings, regions)
        if isinstance(home, Finding):
            show_findings([home], self.report)
            exit_unstarted(self.report)
        members = Members(settings, str(self.access.account_id), home, guarded)
        findings = members.check()
        if is_new and home.region not in self.names:
            what = f"Other accounts do not trust the roles of {region.name} yet"
            remedy = f"Deploy {home.region} too, in the same run or later: it names these roles."
            findings.append(Finding("warning", what, remedy))
        if show_findings(findings, self.report):
            exit_unstarted(self.report)
        return members

    def list_regions(self, settings: Mapping[str, str], stack: Stack | None) -> list[str]:
        """Return the regions that have the guard, or will have it after this run.

        One that was deployed with ANY_REGION may be named only by the deployed stack group, or as
        the home. Raises GuardError if they cannot be read.
        """
        named = [*list_trusted(stack), *filter(None, [settings.get(member_stacks.HOME)])]
        others = [each for each in named if each not in self.deployed_regions]
        found = self.find_deployed(others) if others else ()
        return list(dict.fromkeys([*self.deployed_regions, *found, *self.names]))

    def show_what_stays(self, region: Region) -> None:
        """Show what a removal leaves in other accounts, as far as the settings can be read."""
        try:
            settings = read_deployed(self.access, region, self.environment) or {}
            stack = self.read_stack(region) if serves_members(settings) else None
            regions = self.list_regions(settings, stack) if serves_members(settings) else ()
        except GuardError as error:
            remedy = "If there are other accounts, see Remove in docs/deploy.md."
            show_findings([Finding("warning", f"Not readable: {error}", remedy)], self.report)
            return
        others = [each for each in regions if each not in self.names]
        keeps_stack = self.task is remove_but_logs
        findings = describe_removal(region.name, settings, others, keeps_stack=keeps_stack)
        show_findings(findings, self.report)

    def run(self, target: Target, failed: Collection[str] = ()) -> bool:
        """Run the task in one region and return whether it succeeded.

        `failed` are the regions of this run whose functions may not exist.
        """
        self.report.terminal.print(f"\n[bold]{target}[/]")
        self.report.show_settings(configuration.describe(target.values, target.changes))
        if target.price and target.price.is_news:
            finding = Finding("ok", costs.describe([target.price]), REMEDY_FOR_PRICE)
            self.report.show_finding(finding)
        of_stack = NO_MEMBERS
        if target.members:
            missing = {*failed} - {*self.deployed_regions}
            of_stack = target.members.variables(target.region.name, without=missing)
        with (
            self.failures_shown(target.region) as failures,
            self.serverless_devs(target.region, target.values, "a", of_stack) as s,
        ):
            if self.task is deploy:
                ship_exemptions(target.values[EXEMPTIONS].text)
            self.task(s, target, self.report)
        return not failures

    @contextmanager
    def failures_shown(self, region: Region) -> Iterator[list[Exception]]:
        """Show what fails, with where the whole output is; the list holds it."""
        failures: list[Exception] = []
        try:
            yield failures
        except StepFailed as error:
            failures.append(error)
            self.report.show_failure(error)
            self.report.terminal.print(f"    [dim]The whole output: {self.log(region)}[/]")
        except OSError as error:
            failures.append(error)
            # Most likely the log could not be written, for example because the disk is full.
            problem = f"Stopped: {error.filename or self.log(region)}: {error.strerror or error}"
            remedy = "Fix this problem, then run the command again."
            self.report.show_finding(Finding("error", problem, remedy))
        except KeyboardInterrupt:
            remedy = (
                "A step that ended stays as it is; the cloud may finish the one that was stopped."
                " Run the same command again to continue, or"
                f" `make remove REGION={region.name}`. The whole output: {self.log(region)}"
            )
            self.report.show_finding(Finding("error", f"Stopped in {region.name}", remedy))
            sys.exit(STOPPED)


def find_differing(values: Mapping[str, Value]) -> list[Finding]:
    """Find the settings that nobody states, and that the two deployed functions do not share."""
    remedy = (
        f"State it in your shell or in {FILE_NAME}. A deployment stopped half-way, or somebody"
        " changed one of the functions."
    )
    return [
        Finding("error", f"The functions differ in {name}: {value.text}", remedy)
        for name, value in values.items()
        if value.source == "deployed" and configuration.DIFFERS in value.text
    ]


def ship_exemptions(text: str) -> None:
    """Write exemptions that are too long for a variable into the code of both functions."""
    variable = configuration.shorten_exemptions(text)
    if variable != text:
        for function in FUNCTIONS:
            path = Path("functions", function, variable.removeprefix("file:"))
            path.write_text(text, "utf-8")


def find_account(resources: Mapping[str, Any]) -> str:
    """Return the account that Serverless Devs acts in: it writes it into the resolved template."""
    queue = resources["sweep"]["environmentVariables"]["GUARD_DEAD_LETTER_QUEUE"]
    return str(queue.split(":")[3])


def run_in_regions(
    task: Task,
    names: Sequence[str],
    *,
    any_region: bool,
    config: Path | None = None,
    confirm: Confirm = lambda _: None,
) -> None:
    """Run a task in each region in turn, also after a failure, and exit with its status.

    All regions are checked before the first is changed; `confirm` may end it before that.
    """
    # As Ctrl-C: otherwise a running `s` would stay behind and continue to change the account.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report(Terminal(highlight=False, emoji=False, soft_wrap=True))
    deployer, regions = prepare(task, names, report, any_region=any_region, config=config)
    targets: list[Target] = []
    failed: list[str] = []
    for region in regions:
        with deployer.failures_shown(region) as failures:
            targets.append(deployer.resolve(region))
        failed += [region.name] if failures else []
    if targets:
        confirm(targets)
    for target in sorted(targets, key=is_home):
        failed += [] if deployer.run(target, failed) else [target.region.name]
    if len(regions) > 1:
        succeeded = [region.name for region in regions if region.name not in failed]
        report.terminal.print(f"\n  Done in: {', '.join(succeeded) or 'none'}")
    if failed:
        report.terminal.print(f"  Failed in: {', '.join(failed)}")
    sys.exit(FAILED if failed or report.terminal.is_lost else OK)


def prepare(
    task: Task, names: Sequence[str], report: Report, *, any_region: bool, config: Path | None
) -> tuple[Deployer, list[Region]]:
    """Return who runs a task, and where; exits with 2 if a check finds an error."""
    environment = dict(os.environ)  # noqa: TID251  Serverless Devs reads the same
    names = names or [environment.get("ALIBABA_CLOUD_REGION") or "cn-hangzhou"]
    access, regions = run_preflight(task, names, environment, report, any_region=any_region)
    try:
        file = File() if task in REMOVALS else read_configuration(config)
    except ConfigurationError as error:
        show_findings([Finding("error", str(error))], report)
        exit_unstarted(report)
    of_file = [preflight.find_region(name, any_region=any_region) for name in file.regions]
    if show_findings([each for each in of_file if isinstance(each, Finding)], report):
        exit_unstarted(report)
    in_run = [region.name for region in regions]
    return Deployer(task, access, environment, report, file, any_region, in_run), regions


def is_home(target: Target) -> bool:
    """Return whether other accounts are prepared there: they trust the roles of all regions."""
    return target.members is not None and target.region.name == target.members.home.region


def ask(question: str) -> None:
    """Ask, and exit with 1 unless the answer is yes."""
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        click.echo()
        say("nothing was started: the answer was not yes. Set YES=1 where nobody can answer.")
        sys.exit(FAILED)


def is_terminal() -> bool:
    """Return whether somebody can answer."""
    return sys.stdin.isatty()


def find_questions(targets: Sequence[Target], *, can_answer: bool) -> Iterator[str]:
    """Find what a deployment has to ask; `can_answer`: there is a terminal.

    Who deploys to a region for the first time wants all of it, so without a terminal such a
    deployment does not stop for its price.
    """
    for target in targets:
        for change in target.changes:
            if change.question:
                yield f"{target}: {change.question}"
        if target.replacement:
            yield f"{target}: {target.replacement}"
    prices = {
        target.region.name: target.price
        for target in targets
        if target.price and target.price.rises and (target.price.before or can_answer)
    }
    if prices:
        yield f"{', '.join(prices)}: {costs.describe(prices.values())}"


region_option = click.option(
    "--region", "regions", multiple=True, help="Repeat the option for several regions."
)
any_region_option = click.option(
    "--any-region", is_flag=True, help="Accept regions where OSS Tables is not documented."
)

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Settings of the deployment. Default: {FILE_NAME}, if there is one.",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Deploy the guard with Serverless Devs, show what that would change, or remove it."""


@main.command("deploy")
@region_option
@any_region_option
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def deploy_command(
    regions: Sequence[str], any_region: bool, config: Path | None, yes: bool
) -> None:
    """Build, publish, deploy, and test the functions."""

    def confirm(targets: Sequence[Target]) -> None:
        for question in () if yes else find_questions(targets, can_answer=is_terminal()):
            ask(f"{question}. Is that wanted?")

    run_in_regions(deploy, regions, any_region=any_region, config=config, confirm=confirm)


@main.command("plan")
@region_option
@any_region_option
@config_option
def plan_command(regions: Sequence[str], any_region: bool, config: Path | None) -> None:
    """Show what a deployment would change."""
    run_in_regions(plan, regions, any_region=any_region, config=config)


@main.command("member-template")
@region_option
@any_region_option
@config_option
def member_template_command(regions: Sequence[str], any_region: bool, config: Path | None) -> None:
    """Print the template of another account, with the parameters of this deployment.

    For accounts that no stack group prepares. The settings are those of the first region. The
    role is created by the stack in GUARD_ORGANIZATION_HOME.
    """
    # The template alone is the output.
    report = Report(Terminal(stderr=True, highlight=False, emoji=False, soft_wrap=True))
    deployer, known = prepare(plan, regions, report, any_region=any_region, config=config)
    members = deployer.configure(known[0], serves=True).members
    if members:
        what = f"The stack in {members.home.region} creates the role, in every other region none"
        report.show_finding(Finding("ok", what, f"{member_stacks.HOME} chooses the region."))
    template = member_stacks.read_template(members.parameters if members else None)
    click.echo(yaml.safe_dump(template, sort_keys=False, width=100))


@main.command("remove")
@region_option
@any_region_option
@click.option("--keep-logs", is_flag=True, help="Keep the logs, the dead letters and the roles.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_command(regions: Sequence[str], any_region: bool, keep_logs: bool, yes: bool) -> None:
    """Remove everything that a deployment created."""
    if not regions:
        misuse("No region: name it, as in `make remove REGION=cn-hangzhou`.")

    def confirm(targets: Sequence[Target]) -> None:
        where = ", ".join(f"{target} ({target.dead_letters})" for target in targets)
        days = max(target.log_days for target in targets)
        letters = "the dead letters and the logs"
        what = f"with the functions, the layer, {letters} of {days} days?"
        if keep_logs:
            what = f"with the functions and the layer? The roles, {letters} stay."
        if not yes:
            ask(f"Remove the guard from {where}, {what}")

    task = remove_but_logs if keep_logs else remove
    run_in_regions(task, regions, any_region=any_region, confirm=confirm)


if __name__ == "__main__":
    main()
