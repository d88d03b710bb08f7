"""The `encryption-guard` command line: it reads arguments and prints results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import click

from encryption_guard.arn import TableBucketArn
from encryption_guard.cli.console import (
    FAILED,
    MAX_RUN_SECONDS,
    OK,
    Commands,
    NotLogged,
    Stdout,
    log_line,
    misuse,
    open_dead_letters,
    output_option,
    say,
)
from encryption_guard.cli.dead_letter_rows import status_and_code
from encryption_guard.cli.dead_letters import dead_letters as dead_letters_group
from encryption_guard.cli.status import status as status_command
from encryption_guard.cli.sweep import sweep as sweep_command
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.enforcement import (
    DeadLettered,
    Outcome,
    Processed,
    process_bucket,
    process_payload,
)
from encryption_guard.enforcement.handler import open_command
from encryption_guard.enforcement.policy import FoundBucket
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.errors import GuardError, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings, unknown_names
from encryption_guard.untrusted import plain_json
from encryption_guard.version import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="encryption-guard")
def main() -> None:
    """Encrypt OSS table buckets and handle the dead letters of the guard."""
    for name, advice in unknown_names().items():
        say(f"{name} is not a setting, and has no effect. {advice}")


@main.command()
@click.argument("event_or_arn", metavar="EVENT_FILE|ARN|-")
@click.option(
    "--account",
    metavar="ID",
    help="Your account ID; an ARN already contains it. Default: FC_ACCOUNT_ID.",
)
@output_option
def enforce(event_or_arn: str, account: str | None, output: str) -> None:
    """Process an event from a file, or a bucket by its ARN.

    The command decides and acts as the function does. `-` reads the event from standard input.

    It uses the credentials of your shell (ALIBABA_CLOUD_ACCESS_KEY_ID and so on) and the GUARD_*
    settings. Without GUARD_DEAD_LETTER_QUEUE it prints dead letters.
    """
    try:
        event, account = _read_event(event_or_arn, account)
        settings = Settings.from_environment(overrides={"FC_ACCOUNT_ID": account})
        if not settings.account_id:
            misuse("No account ID: pass --account, or set FC_ACCOUNT_ID.")
        processed, dead_letters = _process(event, settings)
    except GuardError as error:
        misuse(str(error))
    stdout = Stdout()
    _print(processed, output, stdout)
    for dead_letter in dead_letters:
        stdout.line(plain_json(dead_letter.model_dump()))
        if stdout.is_lost:
            # Without a queue, no other copy of the dead letter exists.
            with suppress(NotLogged):
                log_line(plain_json(dead_letter.model_dump()))
    for failure in processed.failures:
        say(str(failure))
    stdout.say_if_lost("the log lines on standard error show what was done")
    dead_lettered = any(isinstance(outcome, DeadLettered) for outcome in processed.outcomes)
    sys.exit(FAILED if dead_lettered or processed.failures or stdout.is_lost else OK)


def _read_event(
    event_or_arn: str, account: str | None
) -> tuple[bytes | TableBucketArn, str | None]:
    """Return the payload or ARN to process, and the account to allow: an ARN contains its own."""
    if event_or_arn.startswith("acs:"):
        arn = TableBucketArn.parse(event_or_arn)
        return arn, arn.account_id
    try:
        with click.open_file(event_or_arn, "rb") as file:
            return file.read(), account
    except OSError as error:
        source = "standard input" if event_or_arn == "-" else event_or_arn
        misuse(f"{source} cannot be read: {error.strerror}.")


def _process(
    event: bytes | TableBucketArn, settings: Settings
) -> tuple[Processed, list[DeadLetter]]:
    """Return the outcomes and, if no queue is set, the dead letters to print."""
    unsent: list[DeadLetter] = []
    log = partial(log_outcome, logger=open_logger(sys.stderr))
    with open_command(settings, seconds=MAX_RUN_SECONDS) as invocation:
        put = partial(put_into_queue, invocation) if settings.dead_letter_queue else unsent.append
        tables, dead_letters = OssTables(invocation), open_dead_letters(put, command="enforce")
        if isinstance(event, bytes):
            processed = process_payload(
                event, invocation=invocation, tables=tables, dead_letters=dead_letters, report=log
            )
        else:
            processed = _process_bucket(event, invocation, tables, dead_letters, log)
    return processed, unsent


def _process_bucket(
    arn: TableBucketArn,
    invocation: Invocation,
    tables: OssTables,
    dead_letters: DeadLetters,
    log: Callable[[Outcome | Exception], None],
) -> Processed:
    found = FoundBucket(arn, "created")
    try:
        outcome = process_bucket(
            found, invocation=invocation, tables=tables, dead_letters=dead_letters
        )
    except Unavailable as error:
        log(error)
        return Processed((), (error,), is_array=False)
    log(outcome)
    return Processed((outcome,), (), is_array=False)


def _print(processed: Processed, output: str, stdout: Stdout) -> None:
    if output == "json":
        for outcome in processed.outcomes:
            stdout.line(plain_json(outcome.as_dict()))
        return
    headings = ("bucket", "outcome", "reason", "status", "OSS request ID")
    rows = [
        (
            str(outcome.arn) if outcome.arn else None,
            outcome.outcome,
            _reason(outcome),
            status_and_code(outcome),
            outcome.oss_request_id,
        )
        for outcome in processed.outcomes
    ]
    stdout.table(headings, rows)


def _reason(outcome: Outcome) -> str:
    last_day = outcome.exempt_until
    return f"{outcome.reason} (until {last_day})" if last_day else outcome.reason


main.add_command(sweep_command)
main.add_command(status_command)
main.add_command(dead_letters_group)
