"""`encryption-guard dead-letters`: list, show, redrive and discard the messages in the queue."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from threading import Lock
from typing import NamedTuple

import click

from encryption_guard.cli.console import (
    FAILED,
    MAX_RUN_SECONDS,
    MISUSE,
    NOT_SEEN,
    OK,
    STOPPED,
    Stdout,
    asked_to_stop,
    bucket_glob,
    log_line,
    misuse,
    note,
    open_dead_letters,
    output_option,
    progress,
    say,
)
from encryption_guard.cli.credentials import open_command, profile_option, say_who_acts
from encryption_guard.cli.dead_letter_details import contents, details
from encryption_guard.cli.dead_letter_ids import AmbiguousId, Lookup
from encryption_guard.cli.dead_letter_rows import (
    Grouping,
    Listed,
    ambiguity,
    grouped,
    print_groups,
    print_list,
)
from encryption_guard.cli.dead_letter_runs import NO_MESSAGES, Chosen, Plan, run, say_not_found
from encryption_guard.cli.redrive import Action, Selection, Sender, Skip, Target, process_locally
from encryption_guard.cli.verbosity import verbosity_options
from encryption_guard.dead_letters.destinations import (
    Destination,
    QueuedMessage,
    leased,
    open_destination,
)
from encryption_guard.dead_letters.messages import REASONS
from encryption_guard.dead_letters.redrivable import DEFAULT_MAX_REDRIVES, obstacle_of
from encryption_guard.enforcement import Outcome, keep_members, process_event
from encryption_guard.enforcement.handler import to_audit
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.events.envelopes import Event
from encryption_guard.invocation import Invocation
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings
from encryption_guard.sweep.late_audit import audit_tables
from encryption_guard.untrusted import plain_json, quoted

Command = Callable[..., None]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    return lambda command: functools.reduce(lambda made, add: add(made), reversed(options), command)


queue_option = click.option(
    "--queue",
    metavar="QUEUE",
    help="Dead-letter queue: acs:mns:<region>:<account>:/queues/<name> or file:<path>. Default:"
    " GUARD_DEAD_LETTER_QUEUE.",
)


connection_options = (queue_option, profile_option, verbosity_options)


def _known_reason(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """Refuse a misspelt reason: an empty result would look like a queue without messages."""
    if given is None or given in REASONS:
        return given
    nearest = get_close_matches(given, REASONS, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise click.BadParameter(
        f"{quoted(given)} is not a reason.{hint} The reasons are {', '.join(REASONS)}."
    )


def _reasons_starting_with(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    return [reason for reason in REASONS if reason.startswith(typed)]


reason_option = click.option(
    "--reason",
    callback=_known_reason,
    shell_complete=_reasons_starting_with,
    help="Select messages with this reason, such as 'rejected'.",
)
bucket_option = click.option(
    "--bucket",
    metavar="GLOB",
    callback=bucket_glob,
    help="Select messages whose events name only matching buckets, such as 'orders-*'.",
)
apply_option = click.option(
    "--apply", is_flag=True, help="Execute the plan; without this option, it is only printed."
)


@click.group("dead-letters")
def dead_letters() -> None:
    """Read, redrive or discard messages in the dead-letter queue.

    The commands read the queue by receiving its messages, which hides them from other readers. At
    the end, also after Ctrl-C, a command makes the remaining messages visible again; this takes
    one second.
    """


@dead_letters.command("list")
@_options(*connection_options, reason_option, bucket_option, output_option)
@click.option(
    "--by",
    type=click.Choice(["reason", "bucket", "code"]),
    help="Count the messages per reason, bucket or error code.",
)
@click.option(
    "--peek", is_flag=True, help="Read without hiding messages; an SMQ queue returns at most 16."
)
def list_messages(
    queue: str | None,
    reason: str | None,
    bucket: str | None,
    output: str,
    by: Grouping | None,
    peek: bool,
) -> None:
    """List the messages, and what to do about each.

    The list shows the age, reason, bucket and status of each message. The command changes nothing.
    """
    with _opened(queue) as (destination, invocation, stopping):
        now = invocation.clock.now()
        messages = iter(destination.peek().messages) if peek else _read(destination, stopping)
        listed, complete = _listed(messages, Selection(reason, bucket))
    listed.sort(key=lambda message: message.since or now)
    stdout = Stdout()
    if output == "json":
        for item in grouped(listed, by) if by else listed:
            stdout.line(plain_json(item.as_dict()))
    elif by:
        print_groups(grouped(listed, by), by, now, stdout)
    else:
        print_list(listed, now, stdout)
    stdout.say_if_lost("not every message was printed, and nothing was changed")
    if listed and (stopping() or not complete):
        say("the list is incomplete.")
    elif not listed and complete and not stopping():
        note(NO_MESSAGES)
    code = STOPPED if stopping() else OK if complete else NOT_SEEN
    sys.exit(FAILED if stdout.is_lost else code)


def _listed(messages: Iterator[QueuedMessage], selection: Selection) -> tuple[list[Listed], bool]:
    """Return the selected messages, and whether the queue was read to its end."""
    listed: list[Listed] = []
    with progress("messages read") as (_, count_one):
        try:
            for queued in messages:
                count_one()
                if selection.matches(queued):
                    listed.append(Listed.of(queued))
        except Unavailable as error:
            say(str(error))
            return listed, False
    return listed, True


def _read(destination: Destination, stopping: Callable[[], bool]) -> Iterator[QueuedMessage]:
    with leased(destination) as messages:
        for queued in messages:
            yield queued
            if stopping():
                return


class _Opened(NamedTuple):
    """A queue, an invocation, and whether the operator asked to stop."""

    destination: Destination
    invocation: Invocation
    stopping: Callable[[], bool]


@contextmanager
def _opened(queue: str | None, **overrides: str | None) -> Iterator[_Opened]:
    """Open the queue and an invocation; exit the command if either fails."""
    with asked_to_stop() as stopping:
        yield from _open(queue, overrides, stopping)


def _open(
    queue: str | None, overrides: dict[str, str | None], stopping: Callable[[], bool]
) -> Iterator[_Opened]:
    try:
        settings = Settings.from_environment(
            overrides={"GUARD_DEAD_LETTER_QUEUE": queue, **overrides}
        )
        if settings.dead_letter_queue is None:
            misuse("No queue: pass --queue, or set GUARD_DEAD_LETTER_QUEUE.")
        # The command has no deadline; each request has a time-out.
        with open_command(settings, seconds=math.inf) as invocation:
            destination = open_destination(invocation)
            if scope := destination.scope:
                settings = settings._replace(account_id=scope.account_id, region=scope.region)
            yield _Opened(destination, invocation._replace(settings=settings), stopping)
    except ConfigurationError as error:
        misuse(str(error))
    except AmbiguousId as error:
        for line in ambiguity(error, now=invocation.clock.now()):
            say(line)
        sys.exit(MISUSE)
    except Unavailable as error:
        say(str(error))
        # After a request to stop, what is under way may fail.
        sys.exit(STOPPED if stopping() else NOT_SEEN)


@dead_letters.command("show")
@click.argument("wanted_id", metavar="ID")
@_options(*connection_options, output_option)
def show(wanted_id: str, queue: str | None, output: str) -> None:
    """Show one message: its event, its cause and what to do.

    ID is the ID from `list` (in full, or at least its first 8 characters), the ID of the event, or
    the ID of the message in the queue. If it names several messages, the command lists them.

    The command prints at most 256 KB; the rest of a larger event is left out.
    """
    stdout = Stdout()
    with _opened(queue) as (destination, invocation, stopping):
        lookup = Lookup([wanted_id], destination, keep=False)
        for queued in lookup.find(_read(destination, stopping), stopping):
            if output == "json":
                shown = contents(queued, in_full=False)
                stdout.line(plain_json(Listed.of(queued).as_dict() | shown))
            else:
                stdout.line(details(queued, invocation.clock.now(), queue=queue))
            stdout.say_if_lost("the message was not printed, and nothing was changed")
            sys.exit(FAILED if stdout.is_lost else OK)
        if stopping():
            sys.exit(STOPPED)
        say_not_found(wanted_id)
    sys.exit(FAILED)


@dead_letters.command("redrive")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_options(*connection_options, reason_option, bucket_option, output_option, apply_option)
@click.option(
    "--function",
    metavar="NAME|ARN",
    help="Send the events to this function. Default: GUARD_FUNCTION, else the one of the guard's"
    " two functions that wrote the message.",
)
@click.option(
    "--max-redrives",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_REDRIVES,
    show_default=True,
    help="Skip messages that have been redriven this many times.",
)
@click.option(
    "--local",
    is_flag=True,
    help="Process the events on this machine with your credentials, instead of sending them.",
)
@click.option(
    "--account",
    metavar="ID",
    help="Your account ID, if the queue is a file; an SMQ queue's ARN contains it. Default:"
    " FC_ACCOUNT_ID.",
)
def redrive(
    ids: tuple[str, ...],
    queue: str | None,
    reason: str | None,
    bucket: str | None,
    output: str,
    apply: bool,
    function: str | None,
    max_redrives: int,
    local: bool,
    account: str | None,
) -> None:
    """Send the events of the messages to the function again.

    Without IDs, --reason and --bucket, the command selects all messages. It sends only events of
    table buckets, and removes a message after the function has accepted its event. An event that
    fails again returns to the queue with its redrive count. An ID is any ID that `show` accepts,
    and must name one message.
    """
    overrides = {"GUARD_FUNCTION": function, "FC_ACCOUNT_ID": account}
    with _opened(queue, **overrides) as (destination, invocation, stopping):
        if apply and local and not invocation.settings.account_id:
            misuse("No account ID: pass --account, or set FC_ACCOUNT_ID.")
        if apply:
            # Missing credentials are misuse, so fail before the first message.
            say_who_acts(invocation)
        redrive_plan = _local_plan(invocation) if local else _send_plan(invocation)

        def plan(queued: QueuedMessage) -> Action | Skip:
            obstacle = obstacle_of(queued.message, max_redrives=max_redrives)
            return Skip.because(obstacle) if obstacle else redrive_plan(queued)

        chosen = Chosen(ids, Selection(reason, bucket))
        run(destination, chosen, plan, apply=apply, output=output, stop_requested=stopping)


def _send_plan(invocation: Invocation) -> Plan:
    # Import the vendor's client only when it is needed.
    from encryption_guard.services.function_compute import FunctionCompute

    settings = invocation.settings
    target = Target(settings.function, settings.region, settings.account_id)
    return Sender(target, FunctionCompute(invocation).invoke).plan


def _local_plan(invocation: Invocation) -> Plan:
    # Opened by each of the threads that process messages, it would log each line several times.
    logger, settings = open_logger(sys.stderr), invocation.settings
    # The keys of other accounts are those of all messages.
    members = keep_members()

    def process(event: Event) -> Outcome:
        event_invocation = invocation.within(MAX_RUN_SECONDS)
        # A failed event stays in the queue, so it needs no new dead letter.
        letters = open_dead_letters(lambda _: None, command="dead-letters redrive")
        outcome = process_event(
            event,
            invocation=event_invocation,
            tables=OssTables(event_invocation),
            dead_letters=letters,
            members=members,
        )
        log_outcome(outcome, logger=logger, audits_tables=settings.audits_late)
        late = to_audit([outcome], settings)
        audit_tables(
            late,
            invocation=event_invocation,
            dead_letters=letters,
            logger=logger,
            members=members,
        )
        return outcome

    return lambda queued: Action(
        "would be processed locally", functools.partial(process_locally, queued, process=process)
    )


@dead_letters.command("discard")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_options(*connection_options, reason_option, bucket_option, output_option, apply_option)
@click.option("--all", "everything", is_flag=True, help="Select all messages.")
@click.option(
    "--because", metavar="TEXT", help="Reason for the removal; it is logged. Required with --apply."
)
def discard(
    ids: tuple[str, ...],
    queue: str | None,
    reason: str | None,
    bucket: str | None,
    output: str,
    apply: bool,
    everything: bool,
    because: str | None,
) -> None:
    """Remove messages from the queue permanently.

    Before it removes a message, the command logs it in full on standard error, with your reason.
    An ID is any ID that `show` accepts, and must name one message.
    """
    if not (ids or reason or bucket or everything):
        misuse("No messages selected: pass IDs, --reason, --bucket or --all.")
    if apply and not (because or "").strip():
        misuse('No reason given: pass --because "..."; it is logged.')

    with _opened(queue) as (destination, invocation, stopping):
        # A file needs no credentials.
        if apply and destination.scope:
            say_who_acts(invocation)
        writing = Lock()

        def log(queued: QueuedMessage) -> str:
            # The logger would drop this line if the shell sets a high log level.
            line = {
                "message": "dead letter discarded",
                "timestamp": invocation.clock.now(),
                "because": because,
                "dead_letter": Listed.of(queued).as_dict() | contents(queued, in_full=True),
            }
            with writing:
                log_line(plain_json(line))
            return f"discarded: {because}"

        def plan(queued: QueuedMessage) -> Action:
            return Action("would be discarded", functools.partial(log, queued))

        chosen = Chosen(ids, Selection(reason, bucket))
        run(destination, chosen, plan, apply=apply, output=output, stop_requested=stopping)
