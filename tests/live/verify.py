"""`make verify-live`: one table bucket in a real account is made, watched and deleted.

Run by the owner of an account: nobody who wrote this could. Tests run it against the emulators.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from encryption_guard.arn import ACCOUNT_ID, TableBucketArn, is_region
from encryption_guard.cli.console import FAILED, MISUSE, OK
from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError, GuardError, Refused
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables, get_encryption
from encryption_guard.services.smq import SmqMessage, SmqQueue
from encryption_guard.settings import QueueArn, Settings, unknown_names
from encryption_guard.untrusted import plain
from layers.encryption_guard.tools import preflight
from tests.emulators.cloud import filter_pattern
from tests.live import deployment, facts, inquiry_facts
from tests.live.capture import Capture, Commands, Names, temporary_stack
from tests.live.event_apis import ENDPOINT, EventApis
from tests.live.event_reading import CREATE
from tests.live.expected import Expected, expected
from tests.live.experiment import Doors, Experiment, Plan
from tests.live.function_api import FunctionApi
from tests.live.inquiry import Inquiry
from tests.live.interruption import interruptible
from tests.live.observations import Check, Fact, Learnt, Observed, Said
from tests.live.scrub import scrubbed
from tests.live.witness import Witness

KEY_ID = "ALIBABA_CLOUD_ACCESS_KEY_ID"
SECRET = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
TOKEN = "ALIBABA_CLOUD_SECURITY_TOKEN"
ACCOUNT = "ALIBABA_CLOUD_ACCOUNT_ID"
# One request, repeats and pauses included; what is polled is asked again anyway.
SECONDS_FOR_A_REQUEST = 30.0
FOLDER = Path("build", "verify-live")
LONG_NAME = 40


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    region: str
    yes: bool = False
    wait: float = 1200.0
    wait_drift: float = 180.0
    queue: str | None = None
    folder: Path = FOLDER
    wait_trail: float = 900.0
    # Of ActionTrail's and EventBridge's APIs.
    endpoint: str = ENDPOINT


@dataclass(frozen=True)
class Owner:
    """Whose account it is."""

    account: str
    credentials: Credentials


Peek = Callable[[str], Sequence[SmqMessage]]
# Of the plan, and of what looks into a queue: what captures events.
MakeCapture = Callable[[Plan, Peek], Capture]


class Misused(Exception):
    """Nothing was begun; the text says what to do."""


def owner(environment: Mapping[str, str]) -> Owner:
    """Read the key and its account; raises Misused with the variable that is missing."""
    for name in (KEY_ID, SECRET, ACCOUNT):
        if not environment.get(name):
            raise Misused(f"{name} is not set: export it in the shell that runs this.")
    account = environment[ACCOUNT]
    if not re.fullmatch(ACCOUNT_ID, account, re.ASCII):
        raise Misused(f"{ACCOUNT} has to be the number of your account, 5 to 20 digits.")
    try:
        token = environment.get(TOKEN) or None
        return Owner(account, Credentials(environment[KEY_ID], environment[SECRET], token))
    except ConfigurationError as error:
        raise Misused(str(error)) from None


def settings_for(asked: Asked, mine: Owner, environment: Mapping[str, str]) -> Settings:
    """The guard's own settings; raises Misused or ConfigurationError for a wrong one."""
    if not is_region(asked.region):
        raise Misused("--region has to be the id of a region, such as cn-hangzhou.")
    return Settings.from_environment(
        {name: value for name, value in environment.items() if name.startswith("GUARD_")},
        account_id=mine.account,
        region=asked.region,
    )


def intention(plan: Plan) -> str:
    """What will happen, in plain words."""
    return (
        f"In account {plan.account}, region {plan.region}, with your key, this will\n"
        f"  create and delete the table bucket {plan.bucket}, and ask for another one,\n"
        f"    {plan.long_name}, deleted at once should the service make it;\n"
        f"  create and delete a ROS stack {plan.bucket}: a rule on the event bus `default` and an\n"
        f"    SMQ queue, both of that name, to have the event as it is delivered;\n"
        f"  take the bucket's encryption off once, and try KMS on it, after the guard is done;\n"
        f"  invoke both functions of the guard with an event that they skip;\n"
        f"  look at the guard's functions, trigger and dead-letter queue, changing nothing;\n"
        f"  ask ActionTrail and EventBridge what they know of it, once all is deleted.\n"
        f"No other bucket is touched. It may take {(plan.wait + plan.wait_trail) / 60:.0f} minutes;"
        f" Ctrl-C deletes all that was made."
    )


def plan_for(asked: Asked, account: str) -> Plan:
    """The names are drawn by lot, so that two runs do not meet."""
    beginning = "guard-verify-long-"
    return Plan(
        region=asked.region,
        account=account,
        bucket=f"guard-verify-{secrets.token_hex(4)}",
        long_name=beginning + secrets.token_hex(LONG_NAME // 2)[: LONG_NAME - len(beginning)],
        pattern=filter_pattern(),
        wait=asked.wait,
        wait_drift=asked.wait_drift,
        wait_trail=asked.wait_trail,
    )


def verify(
    asked: Asked,
    environment: Mapping[str, str],
    *,
    console: Console,
    confirm: Callable[[], bool],
    make_capture: MakeCapture,
    clock: Clock,
    progress: Console | None = None,
) -> int:
    """Do all of it; the exit code. Progress of the long wait goes to standard error."""
    for name, advice in unknown_names(environment).items():
        _say(console, f"verify-live: {name} is not a setting, and has no effect. {advice}")
    try:
        mine = owner(environment)
        settings = settings_for(asked, mine, environment)
    except (Misused, ConfigurationError) as error:
        _say(console, f"verify-live: {error}")
        return MISUSE
    plan = plan_for(asked, mine.account)
    _say(console, intention(plan))
    if not asked.yes and not confirm():
        _say(console, "Nothing was begun.")
        return MISUSE
    with open_transport() as transport:
        progress = progress or Console(stderr=True)
        run = _Run(asked, plan, mine, settings, transport, console, progress, clock)
        return run.to_its_end(make_capture)


@dataclass(frozen=True)
class _Run:
    """Everything that one run is done with."""

    asked: Asked
    plan: Plan
    owner: Owner
    settings: Settings
    transport: DeadlineTransport
    console: Console
    progress: Console
    clock: Clock

    def to_its_end(self, make_capture: MakeCapture) -> int:
        wanted = expected(region=self.plan.region, account=self.plan.account)
        queue = self.asked.queue or wanted.queue
        deployed = deployment.look(self._functions(), wanted)
        checks = deployment.checks(deployed, wanted)
        plan = self.plan
        if not deployment.anything_there(deployed):
            self.tell("Neither function is deployed here: nobody is waited for.")
            plan = Plan(**{**vars(self.plan), "wait": 0.0, "wait_drift": 0.0})
        experiment = Experiment(plan, self._doors(queue, make_capture))
        left, interrupted = self._carried_out(experiment)
        seen = experiment.observed
        learnt = Learnt()
        if not interrupted:
            role = wanted.functions["sweep"].role.rpartition("/")[2]
            sweeps = deployed.functions["sweep"].said.status != 404
            learnt, interrupted = self._asked_afterwards(seen, wanted, role if sweeps else None)
        checks += facts.checks(seen, plan.arn(plan.bucket), queue) + inquiry_facts.checks(learnt)
        nothing_left = Check("all that was made is deleted", not left, "; ".join(left) or "yes")
        self._save_all(seen, learnt)
        _print_checks(self.console, [*checks, nothing_left])
        known = facts.facts(seen, deployed, wanted) + inquiry_facts.facts(learnt)
        _print_facts(self.console, known)
        if interrupted:
            self.tell("It was interrupted: what was not reached is not settled.")
        well = all(check.well for check in checks) and not left and not interrupted
        return OK if well else FAILED

    def tell(self, sentence: str) -> None:
        _say(self.console, sentence)

    def _carried_out(self, experiment: Experiment) -> tuple[list[str], bool]:
        """What is left over, and whether somebody wanted it to stop."""
        interrupted = False
        left: list[str] = []
        with interruptible(self.tell) as hold:
            try:
                with self.console.status("Working"):
                    experiment.run()
                hold()
            except KeyboardInterrupt:
                interrupted = True
                self.tell("Stopping: what was made is being deleted.")
            finally:
                hold()
                left = experiment.clean_up()
                for sentence in left:
                    self.tell(f"LEFT OVER: {sentence}.")
        return left, interrupted

    def _asked_afterwards(
        self, seen: Observed, wanted: Expected, lister: str | None
    ) -> tuple[Learnt, bool]:
        """What ActionTrail and EventBridge told, and whether somebody wanted it to stop."""
        apis = EventApis(self.plan.region, self._invocation, self.clock, self.asked.endpoint)
        (rule,) = (
            f"{each.name}-{each.trigger}" for each in wanted.functions.values() if each.trigger
        )
        inquiry = Inquiry(
            apis,
            self.plan,
            rule=rule,
            lister=lister,
            clock=self.clock,
            progress=lambda sentence: _say(self.progress, sentence),
        )
        with interruptible(self.tell) as hold:
            try:
                self.tell("Asking ActionTrail and EventBridge what they know of it.")
                inquiry.run(seen)
                hold()
            except KeyboardInterrupt:
                return inquiry.learnt, True
        return inquiry.learnt, False

    def _doors(self, queue: str, make_capture: MakeCapture) -> Doors:
        endpoint = self.settings.oss_tables_endpoint
        return Doors(
            tables=Witness(
                self.owner.credentials,
                region=self.plan.region,
                endpoint=endpoint and endpoint.replace("{region}", self.plan.region),
            ),
            capture=make_capture(self.plan, self._peek),
            host=self._host,
            one_host="GUARD_OSS_TABLES_ENDPOINT names the one host" if endpoint else "",
            peek=lambda: self._peek(queue),
            clock=self.clock,
            tell=self.tell,
        )

    def _invocation(self, settings: Settings | None = None) -> Invocation:
        until = self.clock.monotonic() + SECONDS_FOR_A_REQUEST
        return Invocation(
            transport=self.transport,
            settings=settings or self.settings,
            read_credentials=lambda: self.owner.credentials,
            budget=TimeBudget(until, self.clock),
            clock=self.clock,
        )

    def _functions(self) -> FunctionApi:
        return FunctionApi(self._invocation(), region=self.plan.region, account=self.plan.account)

    def _peek(self, queue: str) -> Sequence[SmqMessage]:
        named = QueueArn(self.plan.region, self.plan.account, queue)
        return SmqQueue(named, self._invocation()).peek()

    def _host(self, addressing: Literal["path", "virtual"], arn: str) -> Said:
        settings = self.settings._replace(addressing=addressing)
        tables = OssTables(self._invocation(settings))
        try:
            call = get_encryption(TableBucketArn.parse(arn))
            return Said(tables.call(call, lambda answer: answer.status))
        except Refused as error:
            return Said(error.status, error.code or "")
        except GuardError as error:
            return Said(None, type(error).__name__)

    def _save_all(self, seen: Observed, learnt: Learnt) -> None:
        if seen.event:
            self._save(seen.event, "create_table_bucket.json")
        if found := learnt.records.get(CREATE):
            record = json.dumps(found.record).encode()
            self._save(record, "action_trail_create_table_bucket.json")

    def _save(self, event: bytes, name: str) -> None:
        plan = self.plan
        try:
            clean = scrubbed(event, account=plan.account, bucket=plan.bucket, region=plan.region)
        except ValueError:
            self.tell("The event is no JSON object, so it was not saved.")
            return
        file = self.asked.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(clean.text, "utf-8")
        self.tell(
            f"\nThe event is saved, scrubbed of ids and keys: {file}\n"
            f"  replaced: {', '.join(clean.replaced)}\n"
            "  Look it over before you share it; it belongs into events/."
        )


def _say(console: Console, text: str) -> None:
    for line in text.split("\n"):
        console.print(plain(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _print_checks(console: Console, checks: Sequence[Check]) -> None:
    rows = [("ok" if each.well else "NOT", each.what, each.seen) for each in checks]
    _print_table(console, "Checks", ("", "check", "seen"), rows)


def _print_facts(console: Console, known: Sequence[Fact]) -> None:
    rows = [
        (each.question, "not settled", each.why_not)
        if each.answer is None
        else (each.question, "settled", each.answer)
        for each in known
    ]
    columns = ("fact", "", "answer, or why there is none")
    _print_table(console, "What no documentation tells", columns, rows)


def _print_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        # What services say is text: brackets in it are none of rich's.
        table.add_row(*(Text(plain(cell)) for cell in row))
    for column in table.columns:
        column.overflow = "fold"
    console.print(f"\n{title}", markup=False)
    console.print(table, highlight=False, emoji=False)


def _capture_by_stack(environment: Mapping[str, str], clock: Clock, folder: Path) -> MakeCapture:
    def make(plan: Plan, peek: Peek) -> Capture:
        names = Names(plan.bucket, plan.region, plan.account)
        shell = {name: environment.get(name, "") for name in (KEY_ID, SECRET, TOKEN, ACCOUNT)}
        access = preflight.find_access(shell, ())
        if not isinstance(access, preflight.Access):
            raise Misused(f"{access.message}. {access.remedy}")
        # These would count before the key that was asked for, and may be another account's.
        others = {k: v for k, v in environment.items() if k not in preflight.KEY_PAIR}
        told = {**others, **access.variables}
        commands = Commands(told, access.options, folder / "s.yaml")
        return lambda: temporary_stack(
            names, commands, lambda: list(peek(plan.bucket)), clock.sleep
        )

    return make


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        click.echo("There is no terminal to ask on: say --yes.", err=True)
        return False
    return click.confirm("Go on?", default=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--region", metavar="ID", help="ALIBABA_CLOUD_REGION or cn-hangzhou otherwise.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", default=1200.0, show_default=True, help="For the encryption, in seconds.")
@click.option("--wait-drift", default=180.0, show_default=True, help="For events, in seconds.")
@click.option("--wait-trail", default=900.0, show_default=True, help="For ActionTrail, in seconds.")
@click.option("--queue", metavar="NAME", help="The dead-letter queue, if it is not the template's.")
def main(
    region: str | None,
    yes: bool,
    wait: float,
    wait_drift: float,
    wait_trail: float,
    queue: str | None,
) -> None:
    """Create a table bucket, watch the guard encrypt it, and delete it."""
    environment = dict(os.environ)  # noqa: TID251  the door: read once, and handed on
    asked = Asked(
        region or environment.get("ALIBABA_CLOUD_REGION") or "cn-hangzhou",
        yes=yes,
        wait=wait,
        wait_drift=wait_drift,
        wait_trail=wait_trail,
        queue=queue,
    )
    clock = Clock()
    sys.exit(
        verify(
            asked,
            environment,
            console=Console(),
            confirm=_confirmed,
            make_capture=_capture_by_stack(environment, clock, asked.folder),
            clock=clock,
        )
    )


if __name__ == "__main__":
    main()
