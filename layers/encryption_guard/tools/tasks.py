"""The tasks of a deployment in one region: deploy, plan, and remove."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from encryption_guard.errors import GuardError
from layers.encryption_guard.tools.comparison import STUCK_STATES, Deployed, Stack, compare
from layers.encryption_guard.tools.configuration import Change, Value
from layers.encryption_guard.tools.costs import Price
from layers.encryption_guard.tools.member_stacks import (
    FOLDERS,
    STACK_GROUP,
    Members,
    Step,
    choose_steps,
    is_replaced,
    list_trusted,
)
from layers.encryption_guard.tools.preflight import Finding, Region
from layers.encryption_guard.tools.progress import Report
from layers.encryption_guard.tools.serverless_devs import (
    DEFAULT_REMEDY,
    TEMPLATE,
    ServerlessDevs,
    StepFailed,
    find_errors,
    find_json,
    find_remedy,
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
# A log project or a role is not visible everywhere as soon as the stack has created it. A refused
# concurrency does not pass: the account has too few instances.
PASSES_SOON = re.compile(
    r"(?:project|role) .*not exist|ProjectNotExist|EntityNotExist\.Role", re.IGNORECASE
)
RETRY_AFTER_SECONDS = (10.0, 20.0, 30.0)
# Each account of an organization gets a stack of its own: an hour for all of them.
POLL_SECONDS, MAX_POLLS = 10.0, 360
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
REMEDY_FOR_MEMBERS = (
    "The functions are deployed. A stack group needs trusted access of Resource Orchestration"
    " Service in the resource directory, and the rights for it: see An organization in"
    " docs/deploy.md. The stack's events are in the console. Then run `make deploy` again."
)
SERVICE_LINKED_ROLES = Finding(
    "warning",
    "Serverless Devs creates service-linked roles of EventBridge if they are missing",
    "Their names are under Rights in docs/deploy.md. They grant the deployer nothing.",
)


@dataclass(frozen=True)
class Target:
    """A region, the account that Serverless Devs acts in there, and the resolved template."""

    region: Region
    account_id: str
    resources: Mapping[str, Any]
    values: Mapping[str, Value] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    # None for a removal.
    price: Price | None = None
    # In words; empty unless the task removes them.
    dead_letters: str = ""
    # Only for a plan, and only if it can be read.
    deployed: Deployed | None = None
    # What the stack does for other accounts, and the deployed stack, if it did or does something.
    members: Members | None = None
    stack: Stack | None = None
    # Returns the stack as it is deployed, or None if it cannot be read.
    read_stack: Callable[[], Stack | None] = lambda: None

    def __str__(self) -> str:
        return f"{self.region.name} of account {self.account_id}"

    @property
    def stack_parameters(self) -> Mapping[str, str]:
        """The parameters of the deployed stack."""
        return self.stack.parameters if self.stack else {}

    @property
    def is_replaced(self) -> bool:
        """Whether the deployed stack group is removed, and created again."""
        if not self.members:
            return False
        return is_replaced(self.members.variables(self.region.name), self.stack_parameters)

    @property
    def replacement(self) -> str:
        """What becomes of the role in other accounts, if the stack group changes; else empty."""
        if not self.members or not self.is_replaced:
            return ""
        folders = self.members.settings[FOLDERS]
        gone = [each for each in list_trusted(self.stack) if each not in self.members.home.regions]
        dropped = f", and that no longer trusts the guard in {', '.join(gone)}" if gone else ""
        return (
            f"The role in the accounts of {folders} is removed, and created again with another"
            f" trust, other rights or other rules{dropped}. None of these accounts is guarded for"
            " some minutes, or, if the service refuses the new one, until `make deploy` succeeds"
        )

    @property
    def log_days(self) -> int:
        """For how many days the log store keeps its lines."""
        of_stack = self.resources["infra"]["template"]["Resources"].values()
        return next(
            int(each["Properties"]["TTL"]) for each in of_stack if "TTL" in each["Properties"]
        )


Task = Callable[[ServerlessDevs, Target, Report], None]


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
    first, steps = choose_steps(s.environment, target.stack)
    with report.step("Deploy the queue, the roles, the alarms and the functions"):
        output = deploy_template(with_variables(s, first), target.region)
    for line in find_errors(output):
        remedy = "The deployment continued after this error: check it; `make verify-live` can help."
        report.show_finding(Finding("warning", line, remedy))
    groups = (s.environment.get(STACK_GROUP), target.stack_parameters.get("StackGroup"))
    if steps or any(groups):
        prepare_members(s, target, report, steps)
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


def with_variables(s: ServerlessDevs, variables: Mapping[str, str]) -> ServerlessDevs:
    """Return `s` with these variables in place of its own."""
    return replace(s, environment={**s.environment, **variables})


def prepare_members(
    s: ServerlessDevs, target: Target, report: Report, steps: Sequence[Step]
) -> None:
    """Deploy the part for other accounts in these steps, and wait until the stack has done it.

    Raises StepFailed with the reason if the service refused it. The functions are deployed by then.
    """
    begun: list[Step] = []
    with loss_named(target, report, begun):
        for step in steps:
            with report.step("Wait for the stack"):
                wait_for_stack(target)
            begun.append(step)
            with report.step(step.title):
                deploy_part(with_variables(s, step.variables))
        with report.step("Wait for the stack, and the role in other accounts"):
            wait_for_stack(target)


def deploy_part(s: ServerlessDevs) -> None:
    """Deploy the stack alone; raises StepFailed."""
    try:
        s.run("infra", "deploy", "-y")
    except StepFailed as error:
        raise StepFailed(str(error), REMEDY_FOR_MEMBERS, error.output) from None


@contextmanager
def loss_named(target: Target, report: Report, begun: Sequence[Step]) -> Iterator[None]:
    """Say that other accounts lack the role if these steps end between its removal and creation."""
    try:
        yield
    except StepFailed as error:
        if loss := describe_loss(target, begun):
            raise StepFailed(f"{loss}: {error}", error.remedy, error.output) from None
        raise
    except KeyboardInterrupt:
        if loss := describe_loss(target, begun):
            report.show_finding(Finding("error", loss))
        raise


def describe_loss(target: Target, begun: Sequence[Step]) -> str:
    """Return what other accounts lack after these steps, of which the last failed; else empty."""
    if not target.members or not begun:
        return ""
    accounts = f"the accounts of {target.members.settings.get(FOLDERS)}"
    until = f"none of them is guarded until `make deploy REGION={target.region.name}` succeeds"
    if any(step.removes for step in begun):
        is_gone = "may be gone" if begun[-1].removes else "is gone"
        return f"The role {is_gone} from {accounts}, and {until}"
    wanted = target.members.variables(target.region.name)[STACK_GROUP]
    if wanted and not target.stack_parameters.get("StackGroup"):
        return f"The stack has not given the role to {accounts}, and {until}"
    return ""


def wait_for_stack(target: Target, *, sleep: Callable[[float], object] = time.sleep) -> None:
    """Wait until the stack has an end state; raises StepFailed if that is none of success."""
    for _ in range(MAX_POLLS):
        try:
            stack = target.read_stack()
        except GuardError as error:
            remedy = "It may still be at work: see its state in the console, then deploy again."
            problem = f"The stack {STACK_NAME} cannot be read: {error}"
            raise StepFailed(problem, remedy) from None
        if stack is None or not stack.state.endswith("_IN_PROGRESS"):
            break
        sleep(POLL_SECONDS)
    if stack and (not stack.state.endswith("_COMPLETE") or "ROLLBACK" in stack.state):
        raise StepFailed(
            f"The stack {STACK_NAME} is in {stack.state}: {stack.reason or 'no reason is given'}",
            REMEDY_FOR_MEMBERS,
        )


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
    if target.replacement:
        report.show_finding(Finding("warning", target.replacement))
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
