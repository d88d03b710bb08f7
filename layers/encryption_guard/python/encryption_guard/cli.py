"""`encryption-guard`, for operators: it reads arguments and prints results, and decides nothing."""

from __future__ import annotations

import functools
import json
import re
import sys
import uuid
from pathlib import Path
from typing import NoReturn

import click

from encryption_guard.arn import ACCOUNT_ID, TableBucketArn
from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetters, open_destination
from encryption_guard.enforcement import DeadLettered, Processed, process_payload
from encryption_guard.errors import GuardError
from encryption_guard.oss_tables import OssTables
from encryption_guard.telemetry import open_logger, report
from encryption_guard.transport import Clock, Invocation, TimeBudget, Transport

# Nobody stops an operator's command, but it should not seem to hang either.
LONGEST_RUN_SECONDS = 120.0

ALL_WELL, FAILED, MISUSE = 0, 1, 2


def _account_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value and not re.fullmatch(ACCOUNT_ID, value, re.ASCII):
        raise click.BadParameter("an account id has 5 to 20 digits.")
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep every OSS table bucket encrypted from the moment it exists."""


@main.command()
@click.argument("event_or_arn", metavar="EVENT_FILE|ARN|-")
@click.option(
    "--account",
    metavar="ID",
    callback=_account_id,
    help="Your account's id; FC_ACCOUNT_ID otherwise. An ARN brings its own.",
)
@click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: one object a line.",
)
def enforce(event_or_arn: str, account: str | None, output: str) -> None:
    """Decide about an event, or about a bucket by its ARN, and act, as the function would.

    Uses the credentials of your shell (ALIBABA_CLOUD_ACCESS_KEY_ID and so on) and the GUARD_*
    settings. Without GUARD_DEAD_LETTER_QUEUE a dead letter is printed.
    """
    try:
        payload, account = _payload(event_or_arn, account)
        settings = Settings.from_environment()
        if account:
            settings = settings.model_copy(update={"account_id": account})
        if not settings.account_id:
            _misuse("Whose account is yours? Give it with --account, or set FC_ACCOUNT_ID.")
        processed, letters = _process(payload, settings)
    except GuardError as error:
        _misuse(str(error))
    _print(processed, output)
    for letter in letters:
        click.echo(_plain_json(letter))
    for failure in processed.failures:
        click.echo(f"encryption-guard: {failure}", err=True)
    dead = any(isinstance(outcome, DeadLettered) for outcome in processed.outcomes)
    sys.exit(FAILED if dead or processed.failures else ALL_WELL)


def _misuse(sentence: str) -> NoReturn:
    click.echo(f"encryption-guard: {sentence}", err=True)
    sys.exit(MISUSE)


def _payload(event_or_arn: str, account: str | None) -> tuple[bytes, str | None]:
    """The event to process; an ARN is as good as the event that would have named it."""
    if event_or_arn.startswith("acs:"):
        arn = TableBucketArn.parse(event_or_arn)
        record = {"eventName": "CreateTableBucket", "responseElements": {"arn": str(arn)}}
        return json.dumps(record).encode(), arn.account_id
    if event_or_arn == "-":
        return sys.stdin.buffer.read(), account
    try:
        return Path(event_or_arn).read_bytes(), account
    except OSError as error:
        _misuse(f"{event_or_arn} cannot be read: {error.strerror}.")


def _process(payload: bytes, settings: Settings) -> tuple[Processed, list[object]]:
    clock = Clock()
    logger = open_logger(sys.stderr)
    letters: list[object] = []
    with Transport() as transport:
        invocation = Invocation(
            transport=transport,
            settings=settings,
            read_credentials=Credentials.read,
            budget=TimeBudget(clock.monotonic() + LONGEST_RUN_SECONDS, clock),
            clock=clock,
        )
        for sentence in settings.exemption_errors:
            logger.error("exemption dropped", detail=sentence)
        processed = process_payload(
            payload,
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=DeadLetters(
                put=open_destination(invocation)
                if settings.dead_letter_queue
                else lambda letter: letters.append(json.loads(letter)),
                log_error=logger.error,
                function="encryption-guard enforce",
                function_request_id=str(uuid.uuid4()),
                now=clock.now,
            ),
            report=functools.partial(report, logger=logger),
        )
    return processed, letters


def _plain_json(value: object) -> str:
    """JSON in printable ASCII: what an event or a service says must not steer the terminal."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _print(processed: Processed, output: str) -> None:
    if output == "json":
        for outcome in processed.outcomes:
            click.echo(_plain_json(outcome.as_dict()))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for heading in ("bucket", "outcome", "reason", "status", "OSS request id"):
        table.add_column(heading, overflow="fold")
    for outcome in processed.outcomes:
        answered = " ".join(str(part) for part in (outcome.status, outcome.code) if part)
        cells = (outcome.arn, outcome.outcome, outcome.reason, answered, outcome.oss_request_id)
        # Escaped, for the same reason.
        table.add_row(*(ascii(cell)[1:-1] if cell else "-" for cell in cells))
    if processed.outcomes:
        # A file or a pipe has no width to fit in.
        width = None if sys.stdout.isatty() else 240
        Console(width=width, markup=False, highlight=False).print(table)
