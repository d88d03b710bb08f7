"""`encryption-guard enforce`: decide about one bucket or event, as the function does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from encryption_guard.arn import TableBucketArn
from encryption_guard.cli.accounts import ChosenAccounts, own_account
from encryption_guard.cli.console import (
    FAILED,
    MAX_RUN_SECONDS,
    OK,
    NotLogged,
    Stdout,
    is_narrow,
    log_line,
    misuse,
    note,
    open_dead_letters,
    output_option,
    say,
)
from encryption_guard.cli.credentials import (
    find_caller,
    open_command,
    profile_option,
    say_who_acts,
)
from encryption_guard.cli.dead_letter_rows import status_and_code
from encryption_guard.cli.verbosity import verbosity_options
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.messages import open_message
from encryption_guard.enforcement import (
    DeadLettered,
    Detected,
    Outcome,
    Processed,
    keep_members,
    process_bucket,
    process_payload,
)
from encryption_guard.enforcement.handler import to_audit
from encryption_guard.enforcement.policy import FoundBucket, access_to
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.errors import GuardError, InvalidEvent, Unavailable
from encryption_guard.events import BucketEvent
from encryption_guard.invocation import Invocation
from encryption_guard.services.inventory import read_bucket
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings
from encryption_guard.sweep.accounts import enter_members
from encryption_guard.sweep.late_audit import audit_tables
from encryption_guard.untrusted import plain_json

if TYPE_CHECKING:
    from encryption_guard.enforcement.members import Members

OpenMembers = Callable[[Settings], "Members"]
# For a second look at a bucket of a plan.
MAX_DOUBT_SECONDS = 10.0


@click.command()
@click.argument("arn", metavar="[ARN]", required=False)
@click.option(
    "--event",
    "event_file",
    metavar="FILE",
    help="Process the event in this file instead of an ARN; `-` reads standard input.",
)
@click.option(
    "--account",
    metavar="ID",
    help="Your account ID, for --event; an ARN contains its own. Default: FC_ACCOUNT_ID.",
)
@click.option(
    "--apply",
    is_flag=True,
    help="Act. Without this option the command only reads, and shows what it would do.",
)
@output_option
@profile_option
@verbosity_options
def enforce(
    arn: str | None, event_file: str | None, account: str | None, apply: bool, output: str
) -> None:
    """Encrypt a bucket by its ARN, or process an event from a file.

    The command decides as the function does, and acts with --apply. In another account of
    GUARD_ACCOUNTS it takes the member role.

    It uses the credentials of your shell (ALIBABA_CLOUD_ACCESS_KEY_ID and so on), else those that
    every tool of Alibaba Cloud finds, and the GUARD_* settings. With --apply a dead letter goes to
    GUARD_DEAD_LETTER_QUEUE, if it is set; any other dead letter, and one without an event of a
    table bucket, is printed.

    It exits with 1 if a bucket is not encrypted, also because this is only a plan, or if an event
    became a dead letter; with 2 if an argument, a setting or the credentials are wrong.
    """
    given, account = _read_input(arn, event_file, account)
    try:
        settings = Settings.from_environment(overrides={"FC_ACCOUNT_ID": account})
        if isinstance(given, bytes) and not settings.account_id:
            misuse("No account ID: pass --account, or set FC_ACCOUNT_ID.")
        result = _process(given, settings, apply=apply)
    except GuardError as error:
        misuse(str(error))
    stdout = Stdout()
    _print(result.processed, output, stdout)
    _print_dead_letters(result.printed, stdout)
    shown = "the log lines on standard error show what was done" if apply else "nothing was changed"
    stdout.say_if_lost(shown)
    _say_rest(result, settings)
    is_open = any(isinstance(each, DeadLettered | Detected) for each in result.processed.outcomes)
    sys.exit(FAILED if is_open or result.processed.failures or stdout.is_lost else OK)


class _Result(NamedTuple):
    """What was done or planned, the dead letters to print, and sentences about unclear buckets."""

    processed: Processed
    printed: list[DeadLetter]
    doubts: list[str]


def _read_input(
    arn: str | None, event_file: str | None, account: str | None
) -> tuple[bytes | TableBucketArn, str | None]:
    """Return the payload or ARN to process, and the account of the payload: an ARN has its own."""
    if event_file is not None and arn is None:
        return _read_file(event_file), account
    if arn is None or event_file is not None:
        misuse("Pass either the ARN of a table bucket, or --event FILE.")
    try:
        parsed = TableBucketArn.parse(arn)
    except InvalidEvent as error:
        misuse(f"{error} To process an event from a file, pass --event FILE.")
    if account not in (None, parsed.account_id):
        misuse(f"The ARN is of account {parsed.account_id}, not {account}: omit --account.")
    return parsed, None


def _read_file(name: str) -> bytes:
    try:
        with click.open_file(name, "rb") as file:
            payload: bytes = file.read()
            return payload
    except OSError as error:
        source = "standard input" if name == "-" else name
        misuse(f"{source} cannot be read: {error.strerror}.")


def _process(given: bytes | TableBucketArn, settings: Settings, *, apply: bool) -> _Result:
    """Process the input; without `apply` as in the mode `detect`, which makes no PUT."""
    printed: list[DeadLetter] = []
    members = keep_members()
    with open_command(settings, seconds=MAX_RUN_SECONDS) as invocation:
        phrase = ""
        if isinstance(given, TableBucketArn):
            settings = _settings_for(given, invocation, members)
            phrase = ChosenAccounts(settings, (given.account_id,)).phrase
        if apply and settings.mode == "enforce":
            say_who_acts(invocation, where=phrase)
        settings = settings if apply else settings._replace(mode="detect")
        invocation = invocation._replace(settings=settings)

        def put(dead_letter: DeadLetter) -> None:
            if apply and settings.dead_letter_queue and _has_bucket_event(dead_letter):
                put_into_queue(invocation, dead_letter)
            else:
                printed.append(dead_letter)

        dead_letters = open_dead_letters(put, command="enforce")
        processed = _act(given, invocation, dead_letters, members, apply=apply)
        doubts = [] if apply else list(_doubts(processed, invocation, members))
    return _Result(processed, printed, doubts)


def _settings_for(arn: TableBucketArn, invocation: Invocation, members: OpenMembers) -> Settings:
    """Return the settings of a bucket, whose region and account an operator means.

    The own account is that of the bucket, unless GUARD_ACCOUNTS has it as another one: then the
    member role is taken. Raises ConfigurationError, or Unavailable if the directory cannot be read.
    """
    # Who names a bucket means its region, whatever the region of the shell is.
    settings = invocation.settings._replace(sweep_regions=(arn.region,))
    as_own = settings._replace(account_id=arn.account_id)
    if not settings.accounts:
        return as_own
    own = settings.account_id or own_account(partial(find_caller, invocation))
    settings = settings._replace(account_id=own)
    access = access_to(arn.account_id, settings)
    if access == "unknown":
        listed = members(settings).list_with(arn.account_id, invocation._replace(settings=settings))
        access = access_to(arn.account_id, settings._replace(accounts=listed))
    return settings if access == "member" else as_own


def _act(
    given: bytes | TableBucketArn,
    invocation: Invocation,
    dead_letters: DeadLetters,
    members: OpenMembers,
    *,
    apply: bool,
) -> Processed:
    """Process the input, and with `apply` check the tables of what was encrypted late."""
    settings = invocation.settings
    log = partial(_log, apply=apply, audits_tables=settings.audits_late)
    if isinstance(given, bytes):
        processed = process_payload(
            given,
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=dead_letters,
            report=log,
            members=members,
        )
    else:
        entered = enter_members(members, settings)(given.account_id, invocation)
        processed = _process_bucket(given, entered, dead_letters, log)
    if apply:
        audit_tables(
            to_audit(processed.outcomes, settings),
            invocation=invocation,
            dead_letters=dead_letters,
            logger=open_logger(sys.stderr),
            members=members,
        )
    return processed


def _has_bucket_event(dead_letter: DeadLetter) -> bool:
    """Return whether a dead letter holds an event of the audit trail, which a redrive can send.

    Others read the queue too: a file that an operator passed by mistake must not get there.
    """
    events = open_message(dead_letter.body()).events
    return bool(events) and all(isinstance(event.parsed, BucketEvent) for event in events)


def _doubts(processed: Processed, invocation: Invocation, members: OpenMembers) -> Iterator[str]:
    """Read the buckets of a plan again, and explain each whose encryption is not clear."""
    enter = enter_members(members, invocation.settings)
    for outcome in processed.outcomes:
        if isinstance(outcome, Detected) and outcome.arn:
            entered = enter(outcome.arn.account_id, invocation.within(MAX_DOUBT_SECONDS))
            reading = read_bucket(OssTables(entered), outcome.arn)
            if reading.state == "unknown":
                yield (
                    f"The encryption of {outcome.arn} is not clear, and then the guard tries to"
                    f" encrypt the bucket. {reading.why}"
                )


def _log(result: Outcome | Exception, *, apply: bool, audits_tables: bool = True) -> None:
    """Log what was done, but not on a terminal, where the table shows the same."""
    is_expected = isinstance(result, Outcome | GuardError)
    on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    if not is_expected or (apply and not on_terminal):
        log_outcome(result, logger=open_logger(sys.stderr), audits_tables=audits_tables)


def _process_bucket(
    arn: TableBucketArn,
    invocation: Invocation,
    dead_letters: DeadLetters,
    log: Callable[[Outcome | Exception], None],
) -> Processed:
    found = FoundBucket(arn, "created")
    try:
        outcome = process_bucket(
            found,
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=dead_letters,
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
    headings = ("outcome", "reason", "status", "OSS request ID")
    rows = [
        (outcome.outcome, _reason(outcome), status_and_code(outcome), outcome.oss_request_id)
        for outcome in processed.outcomes
    ]
    arns = [outcome.arn for outcome in processed.outcomes]
    if is_narrow():
        # Next to an ARN, every other column would be folded.
        names = [arn.name if arn else None for arn in arns]
        shown = [(name, *cells[:-1]) for name, cells in zip(names, rows, strict=True)]
        stdout.table(("bucket", *headings[:-1]), shown)
        return
    full = [(str(arn) if arn else None, *cells) for arn, cells in zip(arns, rows, strict=True)]
    stdout.table(("bucket", *headings), full)


def _print_dead_letters(dead_letters: Sequence[DeadLetter], stdout: Stdout) -> None:
    for dead_letter in dead_letters:
        line = plain_json(dead_letter.model_dump())
        stdout.line(line)
        if stdout.is_lost:
            # No other copy of the dead letter exists.
            with suppress(NotLogged):
                log_line(line)


def _say_rest(result: _Result, settings: Settings) -> None:
    """Say what the rows do not show."""
    for failure in result.processed.failures:
        say(str(failure))
    for doubt in result.doubts:
        say(doubt)
    if settings.dead_letter_queue:
        for why in dict.fromkeys(map(_why_printed, result.printed)):
            say(f"a dead letter was printed, and not put into the queue: {why}.")
    if not any(isinstance(outcome, Detected) for outcome in result.processed.outcomes):
        return
    if settings.mode == "detect":
        note("nothing was changed: GUARD_MODE is detect.")
    else:
        note("nothing was changed; to encrypt, run the same command with --apply.")


def _why_printed(dead_letter: DeadLetter) -> str:
    if _has_bucket_event(dead_letter):
        return "the same command with --apply puts it there"
    return "it holds no event of a table bucket"


def _reason(outcome: Outcome) -> str:
    last_day = outcome.exempt_until
    return f"{outcome.reason} (until {last_day})" if last_day else outcome.reason
