"""Deploy the guard with Serverless Devs, plan or remove it (`make deploy`, `plan`, `remove`).

This program checks first whether a deployment can succeed. It gives Serverless Devs the variables
of the region and the version of the layer, and invokes both functions afterwards.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, Literal, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from encryption_guard import __version__
from encryption_guard.cli.console import Commands, misuse, say, silence
from encryption_guard.errors import ConfigurationError, GuardError
from layers.encryption_guard.tools import configuration, preflight
from layers.encryption_guard.tools.bytecode import read_output
from layers.encryption_guard.tools.comparison import (
    STUCK_STATES,
    Deployed,
    compare,
    digest_content,
)
from layers.encryption_guard.tools.configuration import CONTENT, FILE_NAME, Change, File, Value
from layers.encryption_guard.tools.deployed import (
    count_dead_letters,
    measure_clock,
    read_deployed,
    read_parts,
)
from layers.encryption_guard.tools.preflight import KEY_PAIR, Access, Finding, Region
from layers.encryption_guard.tools.serverless_devs import (
    DEFAULT_REMEDY,
    TEMPLATE,
    ServerlessDevs,
    StepFailed,
    find_errors,
    find_json,
    find_remedy,
    root_folder,
    tail,
)

BUILD = Path("build")
BUILDER = "layers.encryption_guard.tools.build"
LAYER_ZIP = BUILD / "encryption_guard-layer.zip"
LAYER_NAME = "encryption-guard"
# In the order of their deployment.
FUNCTIONS = ("sweep", "encrypt_on_create")
STACK_NAME = "oss-tables-encryption-guard"
# What else a deployment has created, and the command that removes it.
LAYER = (
    "the layer, all versions",
    (FUNCTIONS[0], "layer", "remove", "--layer-name", LAYER_NAME, "-y"),
)
STACK = ("the queue, the roles, the alarms and the logs", ("infra", "remove", "-y"))
# https://www.alibabacloud.com/help/en/resource-orchestration-service/latest/stack-management-update-a-stack
# lists the states in which a stack can be updated. A single resource can be in CREATE_FAILED too.
STUCK = re.compile(
    r"\b(CREATE_ROLLBACK_(?:COMPLETE|FAILED))\b"
    r"|(?:stack status|^ *\W?status)\W+(CREATE_FAILED|DELETE_FAILED)\b",
    re.IGNORECASE | re.MULTILINE,
)
# A log project or a role is not visible everywhere as soon as the stack has created it, and the
# instances of a function that was just removed still count for a while.
PASSES_SOON = re.compile(
    r"(?:project|role) .*not exist|ProjectNotExist|EntityNotExist\.Role"
    r"|concurrency.*(?:exceed|limit|quota)",
    re.IGNORECASE,
)
RETRY_AFTER_SECONDS = (10.0, 20.0, 30.0)
EXEMPTIONS = "GUARD_EXEMPTIONS"
# The handler decides to skip this event, so it makes no request about any bucket.
HARMLESS_EVENT = json.dumps(
    {
        "id": "encryption-guard-deployed",
        "source": "acs.oss",
        "specversion": "1.0",
        "type": "oss:ActionTrail:ApiCall",
        "data": {"eventName": "EncryptionGuardDeployed", "eventId": "encryption-guard-deployed"},
    }
)
UNREADABLE = Finding(
    "warning",
    "Only Serverless Devs has this key, so the deployed settings are not read",
    f"A setting that neither your shell nor {FILE_NAME} states returns to its default. Set"
    " ALIBABA_CLOUD_ACCESS_KEY_ID and so on to keep what is deployed.",
)
SERVICE_LINKED_ROLES = Finding(
    "warning",
    "Serverless Devs creates service-linked roles of EventBridge if they are missing",
    "Their names are under Rights in docs/deploy.md. They grant the deployer nothing.",
)
SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
SERVERLESS_DEVS = (str(Path("node_modules", ".bin", "s")),)
OK, FAILED, NOT_STARTED, STOPPED = 0, 1, 2, 130


class Terminal(Console):
    """Standard output; if it cannot be written any more, a running deployment continues."""

    is_lost = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; if the output fails, report that on standard error and set `is_lost`."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            silence(self.file)
            self.is_lost = True
            say(f"standard output cannot be written ({error.strerror}): see build/*.log.")

    def on_broken_pipe(self) -> None:
        """Leave the error to `print`: rich would exit here, in the middle of a deployment."""
        raise


class Report:
    """The progress output: a line for each step, and the latest output line of the current step."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._current_step: tuple[Status, str] | None = None

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show a step while it runs; the yielded function adds a result behind the title."""
        started = time.monotonic()
        results: list[str] = []
        with self.terminal.status(escape(title)) as status:
            self._current_step = (status, title)
            try:
                yield results.append
            except (StepFailed, KeyboardInterrupt):
                self.show_finding(Finding("error", title))
                raise
            finally:
                self._current_step = None
        took = f"[dim]({time.monotonic() - started:.0f} s)[/]"
        self.terminal.print(f"  {SIGNS['ok']} {escape(' '.join([title, *results]))} {took}")

    def show_activity(self, line: str) -> None:
        """Show the latest output line of the current step, until the next one replaces it."""
        if self._current_step and line:
            status, title = self._current_step
            status.update(f"{escape(title)} [dim]{escape(line[:80])}[/]")

    def show_finding(self, finding: Finding) -> None:
        """Print a finding and its remedy."""
        self.terminal.print(f"  {SIGNS[finding.level]} {escape(finding.message)}")
        if finding.remedy:
            self.terminal.print(f"    [dim]{escape(finding.remedy)}[/]")

    def show_settings(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Show each setting that is not the template's default, and what changes."""
        for name, before, after, source in rows:
            value = after or "-" if before == after else f"{before or '-'} -> {after or '-'}"
            self.terminal.print(f"  {name:<24} {escape(value)} [dim]({source})[/]")

    def show_failure(self, error: StepFailed) -> None:
        """Print the end of the step's output, the problem and its remedy."""
        for line in error.output.splitlines():
            self.terminal.print(f"    [dim]{escape(line)}[/]")
        self.show_finding(Finding("error", str(error), error.remedy))


Task = Callable[[ServerlessDevs, "Target", Report], None]
Confirm = Callable[[Sequence["Target"]], object]


def deploy(s: ServerlessDevs, target: Target, report: Report) -> None:
    """Build, publish the layer, deploy, and test both functions; raises StepFailed on a failure."""
    runtime = s.environment["GUARD_RUNTIME"]
    build_layer(runtime, report)
    with report.step("Check the template"):
        s.run("verify")
    with report.step("Publish the layer:") as add_result:
        version = publish_layer(s, runtime)
        add_result(f"version {version}")
    s = replace(s, environment={**s.environment, "LAYER_VERSION": version})
    with report.step("Deploy the queue, the roles, the alarms and the functions"):
        output = deploy_template(s, target.region)
    for line in find_errors(output):
        remedy = "The deployment continued after this error: check it; `make verify-live` can help."
        report.show_finding(Finding("warning", line, remedy))
    for function in FUNCTIONS:
        with report.step(f"Test {function}:") as add_result:
            add_result(smoke_test(s, function))
    report.terminal.print(format_next_steps(target), highlight=False)


def deploy_template(
    s: ServerlessDevs, region: Region, *, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Run `s deploy`, again after an error that may pass soon, and return its output.

    Raises StepFailed, which names the state of the stack if that is the obstacle.
    """
    waits = iter(RETRY_AFTER_SECONDS)
    while True:
        try:
            return s.run("deploy", "-y", "--skip-actions")
        except StepFailed as error:
            seconds = next(waits, None) if PASSES_SOON.search(error.output) else None
            if seconds is None:
                raise explain_stack(s, region, error) from None
            s.on_line(f"again in {seconds:.0f} s: {error.output.rpartition(chr(10))[2]}")
            sleep(seconds)


def explain_stack(s: ServerlessDevs, region: Region, error: StepFailed) -> StepFailed:
    """Return the error with the remedy for a stack that no deployment can update."""
    output = error.output
    if not STUCK.search(output):
        with suppress(StepFailed):
            output = s.run("infra", "info")
    if not (found := STUCK.search(output)):
        return error
    problem, remedy = describe_stuck(region, found[1] or found[2])
    return StepFailed(f"{error}: {problem}", remedy, error.output)


def describe_stuck(region: Region, state: str) -> tuple[str, str]:
    """Return the problem and the remedy of a stack that cannot be updated."""
    return (
        f"the stack {STACK_NAME} is in {state}",
        f"A stack in {state} cannot be updated. Find the cause in its events in the console of"
        f" Resource Orchestration Service, fix it, run `make remove REGION={region.name}`, which"
        " removes the stack, then run `make deploy` again.",
    )


def plan(s: ServerlessDevs, target: Target, report: Report) -> None:
    """Show the changes that a deployment would make; raises StepFailed on a failure."""
    with report.step("Check the template"):
        s.run("verify")
    if target.deployed is None:
        plan_with_serverless_devs(s, target, report)
        return
    changes = compare(target.resources, target.deployed)
    counted = "1 change" if len(changes) == 1 else f"{len(changes)} changes"
    report.show_finding(
        Finding(
            "ok", f"Compared with what is deployed: {counted if changes else 'nothing changes'}"
        )
    )
    for path, before, after in changes:
        report.terminal.print(f"    {escape(path)}  {escape(before)} -> {escape(after)}")
    stack = target.deployed.stack
    if stack is None:
        show_stack(target, report)
        report.show_finding(SERVICE_LINKED_ROLES)
    elif stack.state in STUCK_STATES:
        report.show_finding(Finding("warning", *describe_stuck(target.region, stack.state)))


def plan_with_serverless_devs(s: ServerlessDevs, target: Target, report: Report) -> None:
    """Show what Serverless Devs would change, if only it has the key.

    It shows also what does not change, such as the tags. Raises StepFailed on a failure.
    """
    show_stack(target, report)
    try:
        s = replace(s, environment={**s.environment, "LAYER_VERSION": find_latest_version(s)})
    except StepFailed as error:
        report.show_finding(
            Finding("warning", f"{error}; the plan assumes version 1", error.remedy)
        )
    report.show_finding(SERVICE_LINKED_ROLES)
    for function in FUNCTIONS:
        report.terminal.print(f"\n  {function}, and a new version of the layer if it has changed:")
        for line in s.run(function, "plan").splitlines():
            report.terminal.print(f"    {escape(line)}")


def show_stack(target: Target, report: Report) -> None:
    """Print the resources of the stack."""
    stack = target.resources["infra"]
    report.terminal.print(f"\n  The stack {stack['name']}, created or updated:")
    for name, resource in stack["template"]["Resources"].items():
        condition = f" [dim]if {resource['Condition']}[/]" if "Condition" in resource else ""
        report.terminal.print(f"    {name:<20} {resource['Type']}{condition}")


def remove(s: ServerlessDevs, target: Target, report: Report) -> None:
    """Remove everything that a deployment created, in reverse order.

    The functions need the roles, the queue and the logs, so these stay as long as a function does.
    StepFailed names what remains.
    """
    _remove_parts(s, target, report, [LAYER, STACK])


def remove_but_logs(s: ServerlessDevs, target: Target, report: Report) -> None:
    """Remove the functions and the layer as `remove` does, and keep the stack with the logs."""
    _remove_parts(s, target, report, [LAYER])


def _remove_parts(
    s: ServerlessDevs, target: Target, report: Report, others: Sequence[tuple[str, Sequence[str]]]
) -> None:
    functions = [(each, (each, "remove", "-y")) for each in reversed(FUNCTIONS)]
    remaining = _remove_each(s, functions, report)
    if remaining:
        remaining += [f"{part} (kept for them)" for part, _ in others]
    else:
        remaining = _remove_each(s, others, report)
    if remaining:
        raise StepFailed(
            f"Not removed from {target.region.name}: {', '.join(remaining)}",
            "Fix the causes, then run the command again.",
        )


REMOVALS = (remove, remove_but_logs)


def _remove_each(
    s: ServerlessDevs, commands: Sequence[tuple[str, Sequence[str]]], report: Report
) -> list[str]:
    """Run each removal, also after a failure, and return the parts that remain."""
    remaining = []
    for part, command in commands:
        try:
            with report.step(f"Remove {part}"):
                remove_and_verify(s, *command)
        except StepFailed as error:
            report.show_failure(error)
            remaining.append(part)
    return remaining


def remove_and_verify(s: ServerlessDevs, *command: str) -> None:
    """Run a removal; raises StepFailed if `s` logs an error, or if a layer version remains."""
    output = s.run(*command)
    if errors := find_errors(output):
        raise StepFailed(
            "Serverless Devs could not remove it", find_remedy(output), "\n".join(errors)
        )
    # `s layer remove` reports no error for a version that remains.
    if "layer" in command and (remaining := list_layer_versions(s)):
        raise StepFailed(f"Layer versions not removed: {remaining}", DEFAULT_REMEDY, tail(output))


def build_layer(runtime: str, report: Report) -> None:
    """Run build.py and show the size of the layer and build.py's warning, if it prints one."""
    command = [sys.executable, "-m", BUILDER, "--runtime", runtime, "--output", str(BUILD)]
    with report.step(f"Build the layer for {runtime}:") as add_result:
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            output = tail(done.stdout + done.stderr)
            raise StepFailed(
                "The layer could not be built", "Fix the error in the last lines.", output
            )
        add_result(f"{LAYER_ZIP.stat().st_size / 2**20:.1f} MiB")
    if done.stderr:
        message, _, remedy = done.stderr.strip().removeprefix("build: ").partition("\n")
        report.show_finding(Finding("warning", message, remedy))


def publish_layer(s: ServerlessDevs, runtime: str) -> str:
    """Publish the layer and return its version, which is an existing one if nothing has changed.

    Raises StepFailed if the output has no version.
    """
    # Not with `-o json`, which makes `s` hide a failure and exit with 0.
    output = s.run(
        *(FUNCTIONS[0], "layer", "publish", "--layer-name", LAYER_NAME, "--code", str(LAYER_ZIP)),
        *("--compatible-runtime", runtime, "--silent"),
    )
    version = re.search(r"^version:\s+(\d+)$", output, re.MULTILINE)
    if not version:
        raise StepFailed(
            "Serverless Devs published the layer, but printed no version",
            f"Find it with `s {FUNCTIONS[0]} layer versions --layer-name {LAYER_NAME} "
            f"-t {TEMPLATE}`, and deploy with LAYER_VERSION=<number> s deploy -t {TEMPLATE}.",
            tail(output),
        )
    return version[1]


def find_latest_version(s: ServerlessDevs) -> str:
    """Return the latest published version of the layer, or 1 if there is none."""
    return str(max(list_layer_versions(s), default=1))


def list_layer_versions(s: ServerlessDevs) -> list[int]:
    """List the published versions of the layer.

    Raises StepFailed if `s` prints no list: with `-o json` it hides a refusal, and exits with 0.
    """
    output = s.run(
        *(FUNCTIONS[0], "layer", "versions", "--layer-name", LAYER_NAME),
        *("-o", "json", "--silent"),
    )
    try:
        return [int(layer["version"]) for layer in find_json(output)]
    except (ValueError, KeyError, TypeError):
        raise StepFailed(
            "The versions of the layer could not be listed",
            f"Check the right fc:ListLayerVersions, and the layer {LAYER_NAME} in the console.",
            tail(output),
        ) from None


def smoke_test(s: ServerlessDevs, function: str) -> str:
    """Invoke the deployed function with a harmless event and return its outcome and reason.

    Raises StepFailed if they are not `skipped: not_relevant`.
    """
    output = s.run(function, "invoke", "-e", HARMLESS_EVENT)
    try:
        result = find_json(output.rpartition("Invoke Result:")[2])
        answer = f"{result['outcome']}: {result['reason']}"
    except (ValueError, KeyError, TypeError):
        answer = "an error"
    if answer != "skipped: not_relevant":
        raise StepFailed(
            f"{function} answered a harmless event with {answer}",
            "It is deployed, but does not work: see its answer above, and its log.",
            tail(output),
        )
    return answer


def preview(s: ServerlessDevs) -> dict[str, Any]:
    """Resolve the template and return the properties of each resource.

    Raises StepFailed if the output of `s` has no template.
    """
    output = s.run("preview", "-o", "json", "--silent")
    try:
        resources = find_json(output)["resources"]
    except (ValueError, KeyError, TypeError):
        raise StepFailed(
            "The template could not be resolved", DEFAULT_REMEDY, tail(output)
        ) from None
    return {name: resource["props"] for name, resource in resources.items()}


def format_next_steps(target: Target) -> str:
    """Return the state of the region and the commands to run after a deployment."""
    region, function = target.region, target.resources["encrypt_on_create"]
    variables = function["environmentVariables"]
    if variables["GUARD_MODE"] == "detect":
        state = f"{region.name} is watched; GUARD_MODE=detect: no bucket is encrypted."
    else:
        state = f"{region.name} is guarded."
    return f"""
  {state} Next steps, with your key in ALIBABA_CLOUD_*:
    check every bucket now   .venv/bin/encryption-guard sweep --region {region.name}
    list the dead letters    export GUARD_DEAD_LETTER_QUEUE={variables["GUARD_DEAD_LETTER_QUEUE"]}
                             .venv/bin/encryption-guard dead-letters list
    watch an encryption      make verify-live REGION={region.name}
    read the log             project {function["logConfig"]["project"]}
"""


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


@dataclass(frozen=True)
class Target:
    """A region, the account that Serverless Devs acts in there, and the resolved template."""

    region: Region
    account_id: str
    resources: Mapping[str, Any]
    values: Mapping[str, Value] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    # In words; empty unless the task removes them.
    dead_letters: str = ""
    # Only for a plan, and only if it can be read.
    deployed: Deployed | None = None

    def __str__(self) -> str:
        return f"{self.region.name} of account {self.account_id}"

    @property
    def log_days(self) -> int:
        """For how many days the log store keeps its lines."""
        of_stack = self.resources["infra"]["template"]["Resources"].values()
        return next(
            int(each["Properties"]["TTL"]) for each in of_stack if "TTL" in each["Properties"]
        )


@dataclass(frozen=True)
class Deployer:
    """Runs a task with these credentials and settings, region by region."""

    task: Task
    access: Access
    environment: Mapping[str, str]
    report: Report
    file: File = field(default_factory=File)
    any_region: bool = False

    def log(self, region: Region) -> Path:
        """Return the file for the whole output of the task in a region."""
        return BUILD / f"{self.task.__name__}-{region.name}.log"

    @contextmanager
    def serverless_devs(
        self, region: Region, values: Mapping[str, Value], mode: Literal["w", "a"]
    ) -> Iterator[ServerlessDevs]:
        """Open the log of a region, and give `s` the variables of the region."""
        # Serverless Devs prefers its own variables for a key, even if one is empty or missing.
        shell = {name: value for name, value in self.environment.items() if name not in KEY_PAIR}
        settings = configuration.variables_of(values) if values else {}
        variables = {
            **preflight.without_dollars(shell | settings),
            **preflight.template_variables(region, shell | settings),
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
        values, changes = ({}, ()) if self.task in REMOVALS else self.configure(region)
        with self.serverless_devs(region, values, "w") as s:
            resources = preview(s)
        # An unknown key does not stop a removal.
        is_removal = self.task in REMOVALS
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
        target = Target(region, account_id, resources, values, changes)
        if is_removal:
            letters = count_dead_letters(self.access, queue, self.environment)
            return replace(target, dead_letters=letters)
        return replace(target, deployed=self.read_parts(target)) if self.task is plan else target

    def read_parts(self, target: Target) -> Deployed | None:
        """Read what is deployed; exits with 2 if a service does not return it."""
        try:
            return read_parts(self.access, target.region, target.resources, self.environment)
        except GuardError as error:
            remedy = "A plan compares with it; see the rights in docs/deploy.md."
            problem = f"What is deployed is not readable: {error}"
            show_findings([Finding("error", problem, remedy)], self.report)
            exit_unstarted(self.report)

    def configure(self, region: Region) -> tuple[dict[str, Value], Sequence[Change]]:
        """Return the checked settings of a region, and what they change there."""
        try:
            deployed = read_deployed(self.access, region, self.environment)
        except GuardError as error:
            remedy = "Without them a deployment could change settings that nobody states."
            finding = Finding("error", f"The deployed settings are not readable: {error}", remedy)
            show_findings([finding], self.report)
            exit_unstarted(self.report)
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
        findings += preflight.check_settings(shell, today=today(), any_region=self.any_region)
        if deployed is None:
            findings.append(UNREADABLE)
        if show_findings(findings, self.report):
            exit_unstarted(self.report)
        return values, configuration.find_changes(deployed or {}, values, region=region.name)

    def run(self, target: Target) -> bool:
        """Run the task in one region and return whether it succeeded."""
        self.report.terminal.print(f"\n[bold]{target}[/]")
        self.report.show_settings(configuration.describe(target.values, target.changes))
        with (
            self.failures_shown(target.region) as failures,
            self.serverless_devs(target.region, target.values, "a") as s,
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
    environment = dict(os.environ)  # noqa: TID251  Serverless Devs reads the same
    report = Report(Terminal(highlight=False, emoji=False, soft_wrap=True))
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
    deployer = Deployer(task, access, environment, report, file, any_region)
    targets: list[Target] = []
    failed: list[str] = []
    for region in regions:
        with deployer.failures_shown(region) as failures:
            targets.append(deployer.resolve(region))
        failed += [region.name] if failures else []
    if targets:
        confirm(targets)
    failed += [target.region.name for target in targets if not deployer.run(target)]
    if len(regions) > 1:
        succeeded = [region.name for region in regions if region.name not in failed]
        report.terminal.print(f"\n  Done in: {', '.join(succeeded) or 'none'}")
    if failed:
        report.terminal.print(f"  Failed in: {', '.join(failed)}")
    sys.exit(FAILED if failed or report.terminal.is_lost else OK)


def ask(question: str) -> None:
    """Ask, and exit with 1 unless the answer is yes."""
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        click.echo()
        say("nothing was started: the answer was not yes. Set YES=1 where nobody can answer.")
        sys.exit(FAILED)


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
        for target in targets:
            for change in target.changes:
                if change.question and not yes:
                    ask(f"{target}: {change.question}. Is that wanted?")

    run_in_regions(deploy, regions, any_region=any_region, config=config, confirm=confirm)


@main.command("plan")
@region_option
@any_region_option
@config_option
def plan_command(regions: Sequence[str], any_region: bool, config: Path | None) -> None:
    """Show what a deployment would change."""
    run_in_regions(plan, regions, any_region=any_region, config=config)


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
