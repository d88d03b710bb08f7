"""Deploys what build.py builds: `make deploy`, `make plan`, `make remove`.

Serverless Devs does the work. This says beforehand whether it can succeed, gives it the region's
variables and the layer's version, and tries the functions afterwards.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from encryption_guard.cli.console import Commands, say, silence
from layers.encryption_guard.tools import preflight
from layers.encryption_guard.tools.bytecode import output_of
from layers.encryption_guard.tools.preflight import KEY_PAIR, Access, Finding, Region
from layers.encryption_guard.tools.serverless_devs import (
    OTHERWISE,
    TEMPLATE,
    Failed,
    ServerlessDevs,
    errors_in,
    json_in,
    remedy,
    tail,
)

BUILD = Path("build")
BUILDER = "layers.encryption_guard.tools.build"
LAYER_ZIP = BUILD / "encryption_guard-layer.zip"
LAYER_NAME = "encryption-guard"
# In the order in which they are deployed.
FUNCTIONS = ("sweep", "encrypt_on_create")
# A call that nobody minds: it goes all the way to the decision, and touches nothing.
HARMLESS_EVENT = json.dumps(
    {
        "id": "encryption-guard-deployed",
        "source": "acs.oss",
        "specversion": "1.0",
        "type": "oss:ActionTrail:ApiCall",
        "data": {"eventName": "EncryptionGuardDeployed", "eventId": "encryption-guard-deployed"},
    }
)
SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
SERVERLESS_DEVS = (str(Path("node_modules", ".bin", "s")),)
OK, FAILED, NOT_BEGUN = 0, 1, 2


class Terminal(Console):
    """Standard output; where it takes nothing more, what was begun goes on all the same."""

    is_lost = False

    def print(self, *objects: Any, **how: Any) -> None:
        """Print, unless there is nobody to print for."""
        try:
            super().print(*objects, **how)
        except OSError as error:
            silence(self.file)
            self.is_lost = True
            say(f"standard output cannot be written ({error.strerror}): see build/*.log.")

    def on_broken_pipe(self) -> None:
        """Leave it to `print`: rich would end the program here, in the middle of a deployment."""
        raise


class Report:
    """What a person sees: one line for each step, and a sign of life meanwhile."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._under_way: tuple[Status, str] | None = None

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """One step; what the function that it gives is told stands behind the title."""
        started = time.monotonic()
        results: list[str] = []
        with self.terminal.status(escape(title)) as status:
            self._under_way = (status, title)
            try:
                yield results.append
            except Failed:
                self.finding(Finding("error", title))
                raise
            finally:
                self._under_way = None
        took = f"[dim]({time.monotonic() - started:.0f} s)[/]"
        self.terminal.print(f"  {SIGNS['ok']} {escape(' '.join([title, *results]))} {took}")

    def line(self, text: str) -> None:
        """What the step that is under way has just printed, as a sign of life."""
        if self._under_way and text:
            status, title = self._under_way
            status.update(f"{escape(title)} [dim]{escape(text[:80])}[/]")

    def finding(self, finding: Finding) -> None:
        """What a check found, and what to do about it."""
        self.terminal.print(f"  {SIGNS[finding.level]} {escape(finding.what)}")
        if finding.todo:
            self.terminal.print(f"    [dim]{escape(finding.todo)}[/]")

    def failed(self, error: Failed) -> None:
        """What went wrong, the end of what was printed, and what to do."""
        for line in error.printed.splitlines():
            self.terminal.print(f"    [dim]{escape(line)}[/]")
        self.finding(Finding("error", str(error), error.todo))


Task = Callable[[ServerlessDevs, Region, Report], None]


def deploy(s: ServerlessDevs, region: Region, report: Report) -> None:
    """Build, publish, deploy, and try both functions; raises Failed where that ends."""
    runtime = s.environment["GUARD_RUNTIME"]
    build(runtime, report)
    with report.step("Check the template"):
        s.run("verify")
    with report.step("Publish the layer:") as tell:
        version = publish(s, runtime)
        tell(f"version {version}")
    s = replace(s, environment={**s.environment, "LAYER_VERSION": version})
    with report.step("Deploy the queue, the roles, the alarms and the functions"):
        deployed = s.run("deploy", "-y", "--skip-actions")
    for line in errors_in(deployed):
        todo = (
            "Serverless Devs did not fail for it: see what it is about; `make verify-live` helps."
        )
        report.finding(Finding("warning", line, todo))
    for function in FUNCTIONS:
        with report.step(f"Try {function}:") as tell:
            tell(invoke_harmless(s, function))
    report.terminal.print(next_steps(region, preview(s)), highlight=False)


def plan(s: ServerlessDevs, region: Region, report: Report) -> None:
    """Show what a deployment would change, and change nothing."""
    with report.step("Check the template"):
        s.run("verify")
    stack = preview(s)["infra"]
    report.terminal.print(
        f"\n  The stack {stack['name']} in {region.name}, made or brought up to date:"
    )
    for name, resource in stack["template"]["Resources"].items():
        only = f" [dim]if {resource['Condition']}[/]" if "Condition" in resource else ""
        report.terminal.print(f"    {name:<20} {resource['Type']}{only}")
    s = replace(s, environment={**s.environment, "LAYER_VERSION": latest(s)})
    for function in FUNCTIONS:
        report.terminal.print(f"\n  {function}, beside a new version of the layer if that changed:")
        for line in s.run(function, "plan").splitlines():
            report.terminal.print(f"    {escape(line)}")


def remove(s: ServerlessDevs, region: Region, report: Report) -> None:
    """Remove all that a deployment made, the last first; raises Failed if anything is left."""
    commands = [
        *((f"Remove {each}", (each, "remove", "-y")) for each in reversed(FUNCTIONS)),
        (
            "Remove the layer, all versions",
            (FUNCTIONS[0], "layer", "remove", "--layer-name", LAYER_NAME, "-y"),
        ),
        ("Remove the queue, the roles, the alarms and the logs", ("infra", "remove", "-y")),
    ]
    left = []
    for title, command in commands:
        try:
            with report.step(title):
                remove_verified(s, *command)
        except Failed as error:
            report.failed(error)
            left.append(title.removeprefix("Remove "))
    if left:
        raise Failed(
            f"In {region.name} is left: {', '.join(left)}", "Mend the cause; run it again."
        )


def remove_verified(s: ServerlessDevs, *command: str) -> None:
    """Remove something; raises Failed if it is said, or seen, to be there still."""
    printed = s.run(*command)
    if errors := errors_in(printed):
        raise Failed("Serverless Devs could not remove it", remedy(printed), "\n".join(errors))
    # Of a version that stays it says nothing.
    if "layer" in command and (left := published(s)):
        raise Failed(f"Of the layer is left: version {left}", OTHERWISE, tail(printed))


def build(runtime: str, report: Report) -> None:
    """Run build.py; tells the size of the layer, and what there is to mind about it."""
    command = [sys.executable, "-m", BUILDER, "--runtime", runtime, "--output", str(BUILD)]
    with report.step(f"Build the layer for {runtime}:") as tell:
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            printed = tail(done.stdout + done.stderr)
            raise Failed("The layer could not be built", "The last lines say why.", printed)
        tell(f"{LAYER_ZIP.stat().st_size / 2**20:.1f} MiB")
    if done.stderr:
        what, _, todo = done.stderr.strip().removeprefix("build: ").partition("\n")
        report.finding(Finding("warning", what, todo))


def publish(s: ServerlessDevs, runtime: str) -> str:
    """Publish the layer; its version, which is the last one if nothing has changed."""
    # Asked for JSON, Serverless Devs would keep a failure to itself.
    printed = s.run(
        *(FUNCTIONS[0], "layer", "publish", "--layer-name", LAYER_NAME, "--code", str(LAYER_ZIP)),
        *("--compatible-runtime", runtime, "--silent"),
    )
    version = re.search(r"^version:\s+(\d+)$", printed, re.MULTILINE)
    if not version:
        raise Failed(
            "Publishing the layer told no version",
            f"Find it with `s {FUNCTIONS[0]} layer versions --layer-name {LAYER_NAME} "
            f"-t {TEMPLATE}`, and deploy with LAYER_VERSION=<number> s deploy -t {TEMPLATE}.",
            tail(printed),
        )
    return version[1]


def latest(s: ServerlessDevs) -> str:
    """The version of the layer that is published last; 1 if there is none yet."""
    return str(max(published(s), default=1))


def published(s: ServerlessDevs) -> list[int]:
    """The versions of the layer that are there, as far as Serverless Devs tells."""
    printed = s.run(
        *(FUNCTIONS[0], "layer", "versions", "--layer-name", LAYER_NAME),
        *("-o", "json", "--silent"),
    )
    try:
        return [int(layer["version"]) for layer in json_in(printed)]
    except (ValueError, KeyError, TypeError):
        return []


def invoke_harmless(s: ServerlessDevs, function: str) -> str:
    """What the deployed function makes of a harmless event; raises Failed for any other answer."""
    printed = s.run(function, "invoke", "-e", HARMLESS_EVENT)
    try:
        outcome = json_in(printed.rpartition("Invoke Result:")[2])
        answer = f"{outcome['outcome']}: {outcome['reason']}"
    except (ValueError, KeyError, TypeError):
        answer = "an error"
    if answer != "skipped: not_relevant":
        raise Failed(
            f"{function} answered a harmless event with {answer}",
            "It is deployed, but does not work: its answer stands above, its log has the rest.",
            tail(printed),
        )
    return answer


def preview(s: ServerlessDevs) -> dict[str, Any]:
    """The properties of each resource as the template resolves."""
    printed = s.run("preview", "-o", "json", "--silent")
    try:
        resources = json_in(printed)["resources"]
    except (ValueError, KeyError, TypeError):
        raise Failed("The template could not be resolved", OTHERWISE, tail(printed)) from None
    return {name: resource["props"] for name, resource in resources.items()}


def next_steps(region: Region, resources: Mapping[str, Any]) -> str:
    """What a person should look at, now that it is deployed."""
    function = resources["encrypt_on_create"]
    variables = function["environmentVariables"]
    if variables["GUARD_MODE"] == "detect":
        state = f"{region.name} is watched; GUARD_MODE=detect: nothing is encrypted."
    else:
        state = f"{region.name} is guarded."
    return f"""
  {state} What to look at next, with your key in ALIBABA_CLOUD_*:
    every bucket, now        .venv/bin/encryption-guard sweep --region {region.name}
    what could not be done   export GUARD_DEAD_LETTER_QUEUE={variables["GUARD_DEAD_LETTER_QUEUE"]}
                             .venv/bin/encryption-guard dead-letters list
    see it happen            make verify-live REGION={region.name}
    its log                  project {function["logConfig"]["project"]}
"""


def check_first(
    task: Task,
    regions: Sequence[str],
    environment: Mapping[str, str],
    report: Report,
    *,
    any_region: bool,
) -> tuple[Access, list[Region]]:
    """The credentials and the regions, if nothing speaks against them; else it ends here."""
    access = preflight.access(environment, aliases(environment))
    chosen = [preflight.region(name, any_region=any_region) for name in regions]
    findings = preflight.tools(version("node"), version(*SERVERLESS_DEVS))
    findings.append(access if isinstance(access, Finding) else Finding("ok", access.whose))
    findings += [region for region in chosen if isinstance(region, Finding)]
    known = [region for region in chosen if isinstance(region, Region)]
    if task is not remove:
        findings += preflight.settings(environment)
        for region in known:
            findings += preflight.region_findings(region, environment)
    for finding in findings:
        report.finding(finding)
    if isinstance(access, Finding) or any(finding.level == "error" for finding in findings):
        report.terminal.print("  Nothing was begun.")
        sys.exit(NOT_BEGUN)
    return access, known


def version(*command: str) -> str | None:
    """The version that a command tells, if it runs."""
    found = re.search(r"\d+\.\d+\.\d+", output_of([*command, "--version"]) or "")
    return found[0] if found else None


def aliases(environment: Mapping[str, str]) -> set[str]:
    """The names of the keys that `s config add` has set up, and nothing of the keys."""
    home = environment.get("serverless_devs_config_home") or environment.get("HOME", "")
    try:
        configured = Path(home, ".s", "access.yaml").read_text("utf-8")
    except OSError:
        return set()
    return set(re.findall(r"^([^\s:#]+):", configured, re.MULTILINE))


def run_in_regions(task: Task, regions: Sequence[str], *, any_region: bool) -> None:
    """Do it in one region after the other; one that fails does not keep the next from it."""
    environment = dict(os.environ)  # noqa: TID251  Serverless Devs reads the same
    report = Report(Terminal(highlight=False, emoji=False, soft_wrap=True))
    names = regions or [environment.get("ALIBABA_CLOUD_REGION") or "cn-hangzhou"]
    access, chosen = check_first(task, names, environment, report, any_region=any_region)
    failed = [
        region.name
        for region in chosen
        if not run_in_region(region, task, access, environment, report)
    ]
    if len(chosen) > 1:
        succeeded = [region.name for region in chosen if region.name not in failed]
        report.terminal.print(f"\n  Done in: {', '.join(succeeded) or 'none'}")
    if failed:
        report.terminal.print(f"  Failed in: {', '.join(failed)}")
    sys.exit(FAILED if failed or report.terminal.is_lost else OK)


def run_in_region(
    region: Region, task: Task, access: Access, environment: Mapping[str, str], report: Report
) -> bool:
    """Whether it succeeded in this region; all that was printed is in a file of its own."""
    log = BUILD / f"{task.__name__}-{region.name}.log"
    # Half a key of Serverless Devs' own, or an empty one, would count before any other.
    shell = {name: value for name, value in environment.items() if name not in KEY_PAIR}
    variables_of_s = {**shell, **preflight.variables(region, environment), **access.variables}
    report.terminal.print(f"\n[bold]{region.name}[/]")
    try:
        BUILD.mkdir(exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            task(
                ServerlessDevs(SERVERLESS_DEVS, access.options, variables_of_s, file, report.line),
                region,
                report,
            )
    except Failed as error:
        report.failed(error)
        report.terminal.print(f"    [dim]All that was printed: {log}[/]")
        return False
    except OSError as error:
        # Most likely of the log: a disk that is full stops it wherever it is.
        what = f"It stopped where it was: {error.filename or log}: {error.strerror or error}"
        report.finding(Finding("error", what, "Mend that, then the same command goes on."))
        return False
    return True


some_regions = click.option(
    "--region", "regions", multiple=True, help="Several, if given several times."
)
any_region = click.option(
    "--any-region", is_flag=True, help="Also where OSS Tables is not known to be offered."
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Deploy the guard with Serverless Devs, show what that would change, or remove it."""


@main.command("deploy")
@some_regions
@any_region
def deploy_command(regions: Sequence[str], any_region: bool) -> None:
    """Build, publish, deploy, and try the functions."""
    run_in_regions(deploy, regions, any_region=any_region)


@main.command("plan")
@some_regions
@any_region
def plan_command(regions: Sequence[str], any_region: bool) -> None:
    """Show what a deployment would change."""
    run_in_regions(plan, regions, any_region=any_region)


@main.command("remove")
@some_regions
@any_region
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_command(regions: Sequence[str], any_region: bool, yes: bool) -> None:
    """Remove all that a deployment made."""
    if not yes:
        click.confirm("Remove the guard, with its dead letters and its logs?", abort=True)
    run_in_regions(remove, regions, any_region=any_region)


if __name__ == "__main__":
    main()
