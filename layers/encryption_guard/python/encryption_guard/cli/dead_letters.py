"""`encryption-guard dead-letters`: list, show, redrive and discard the messages in the queue."""

from __future__ import annotations

import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NoReturn

import click

from encryption_guard.cli.console import (
    FAILED,
    MAX_RUN_SECONDS,
    OK,
    Stdout,
    asked_to_stop,
    log_line,
    misuse,
    open_dead_letters,
    output_option,
    progress,
    say,
)
from encryption_guard.cli.credentials import open_command, profile_option, say_who_acts
from encryption_guard.cli.dead_letter_rows import (
    HEADINGS,
    STATES,
    Grouping,
    Listed,
    contents,
    details,
    grouped,
    result_as_dict,
    result_line,
)
from encryption_guard.cli.redrive import (
    MIN_ID_PREFIX,
    Action,
    Result,
    Selection,
    Sender,
    Skip,
    Target,
    execute,
    is_named_by,
    process_locally,
    reason_to_skip,
)
from encryption_guard.dead_letters.destinations import (
    Destination,
    QueuedMessage,
    leased,
    open_destination,
)
from encryption_guard.enforcement import Outcome, process_event
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.events.envelopes import Event
from encryption_guard.invocation import Invocation
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings
from encryption_guard.untrusted import plain_json

Command = Callable[..., None]
Plan = Callable[[QueuedMessage], Action | Skip]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    return lambda command: functools.reduce(lambda made, add: add(made), reversed(options), command)


queue_option = click.option(
    "--queue",
    metavar="QUEUE",
    help="Dead-letter queue: acs:mns:<region>:<account>:/queues/<name> or file:<path>. Default:"
    " GUARD_DEAD_LETTER_QUEUE.",
)
reason_option = click.option(
    "--reason", help="Select messages with this reason, such as 'rejected'."
)
bucket_option = click.option(
    "--bucket",
    metavar="GLOB",
    help="Select messages about matching buckets, such as 'orders-*'.",
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
@_options(queue_option, profile_option, reason_option, bucket_option, output_option)
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
    with _opened(queue) as (destination, invocation), asked_to_stop() as stopping:
        now = invocation.clock.now()
        messages = iter(destination.peek().messages) if peek else _read(destination, stopping)
        listed, complete = _listed(messages, Selection(reason=reason, bucket=bucket))
    listed.sort(key=lambda message: message.since or now)
    stdout = Stdout()
    if output == "json":
        for item in grouped(listed, by) if by else listed:
            stdout.line(plain_json(item.as_dict()))
    elif by:
        headings = (by, "messages", "oldest", "what to do")
        stdout.table(headings, [group.row(now) for group in grouped(listed, by)])
    else:
        stdout.table(HEADINGS, [message.row(now) for message in listed])
    stdout.say_if_lost("not every message was printed, and nothing was changed")
    complete = complete and not stopping()
    if not complete and listed:
        say("the list is incomplete.")
    elif complete and not listed:
        say("no messages found; messages that another command has received are hidden.")
    sys.exit(OK if complete and not stdout.is_lost else FAILED)


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


@contextmanager
def _opened(queue: str | None, **overrides: str | None) -> Iterator[tuple[Destination, Invocation]]:
    """Open the queue and an invocation; exit the command if either fails."""
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
            yield destination, invocation._replace(settings=settings)
    except ConfigurationError as error:
        misuse(str(error))
    except Unavailable as error:
        say(str(error))
        sys.exit(FAILED)


@dead_letters.command("show")
@click.argument("wanted_id", metavar="ID")
@_options(queue_option, profile_option, output_option)
def show(wanted_id: str, queue: str | None, output: str) -> None:
    """Show one message: its event, its cause and what to do.

    ID is the ID from `list` (in full, or at least its first 8 characters), the ID of the event, or
    the ID of the message in the queue.
    """
    found, stdout = 0, Stdout()
    with _opened(queue) as (destination, invocation), asked_to_stop() as stopping:
        for queued in _read(destination, stopping):
            if is_named_by(queued, wanted_id):
                found += 1
                if output == "json":
                    stdout.line(plain_json(Listed.of(queued).as_dict() | contents(queued)))
                else:
                    stdout.line(details(queued, invocation.clock.now(), queue=queue))
    if not found:
        _say_not_found(wanted_id)
    stdout.say_if_lost("the message was not printed, and nothing was changed")
    sys.exit(OK if found and not stdout.is_lost else FAILED)


def _say_not_found(wanted_id: str) -> None:
    say(
        f"No message in the queue has the ID {wanted_id}. Pass the full ID or at least its first"
        f" {MIN_ID_PREFIX} characters; a message that another command has received is hidden."
    )


@dead_letters.command("redrive")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_options(queue_option, profile_option, reason_option, bucket_option, output_option, apply_option)
@click.option(
    "--function",
    metavar="NAME|ARN",
    help="Send the events to this function. Default: GUARD_FUNCTION, else the function that the"
    " message names.",
)
@click.option(
    "--max-redrives",
    type=click.IntRange(min=1),
    default=3,
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

    Without IDs, --reason and --bucket, the command selects all messages. It removes a message after
    the function has accepted its event. An event that fails again returns to the queue with its
    redrive count. An ID is any ID that `show` accepts.
    """
    overrides = {"GUARD_FUNCTION": function, "FC_ACCOUNT_ID": account}
    with _opened(queue, **overrides) as (destination, invocation):
        if apply and local and not invocation.settings.account_id:
            misuse("No account ID: pass --account, or set FC_ACCOUNT_ID.")
        if apply:
            # Missing credentials are misuse, so fail before the first message.
            say_who_acts(invocation)
        redrive_plan = _local_plan(invocation) if local else _send_plan(invocation)

        def plan(queued: QueuedMessage) -> Action | Skip:
            return reason_to_skip(queued, max_redrives=max_redrives) or redrive_plan(queued)

        _execute(destination, Selection(ids, reason, bucket), plan, apply=apply, output=output)


def _send_plan(invocation: Invocation) -> Plan:
    # Import the vendor's client only when it is needed.
    from encryption_guard.services.function_compute import FunctionCompute

    settings = invocation.settings
    target = Target(settings.function, settings.region, settings.account_id)
    return Sender(target, FunctionCompute(invocation).invoke).plan


def _local_plan(invocation: Invocation) -> Plan:
    def process(event: Event) -> Outcome:
        event_invocation = invocation.within(MAX_RUN_SECONDS)
        outcome = process_event(
            event,
            invocation=event_invocation,
            tables=OssTables(event_invocation),
            # A failed event stays in the queue, so it needs no new dead letter.
            dead_letters=open_dead_letters(lambda _: None, command="dead-letters redrive"),
        )
        log_outcome(outcome, logger=open_logger(sys.stderr))
        return outcome

    return lambda queued: Action(
        "would be processed locally", functools.partial(process_locally, queued, process=process)
    )


@dead_letters.command("discard")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_options(queue_option, profile_option, reason_option, bucket_option, output_option, apply_option)
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
    An ID is any ID that `show` accepts.
    """
    if not (ids or reason or bucket or everything):
        misuse("No messages selected: pass IDs, --reason, --bucket or --all.")
    if apply and not (because or "").strip():
        misuse('No reason given: pass --because "..."; it is logged.')

    with _opened(queue) as (destination, invocation):
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
                "dead_letter": Listed.of(queued).as_dict() | contents(queued),
            }
            with writing:
                log_line(plain_json(line))
            return f"discarded: {because}"

        def plan(queued: QueuedMessage) -> Action:
            return Action("would be discarded", functools.partial(log, queued))

        _execute(destination, Selection(ids, reason, bucket), plan, apply=apply, output=output)


def _execute(
    destination: Destination, selection: Selection, plan: Plan, *, apply: bool, output: str
) -> NoReturn:
    """Execute or print the plan, print each result at once, and exit the command."""
    results = _Results(selection, as_json=output == "json")
    with (
        asked_to_stop() as stop_requested,
        # On a terminal, the printed results already show the progress.
        progress("messages", silent=sys.stdout.isatty()) as (_, count_one),
    ):

        def stopping() -> bool:
            return stop_requested() or results.stdout.is_lost

        def report(result: Result) -> None:
            count_one()
            results.add(result)

        try:
            execute(
                destination, results.matches, plan, apply=apply, report=report, stopping=stopping
            )
        finally:
            results.say_totals(stopped=stopping())
        stopped = stopping()
    if not stopped:
        results.say_missing()
    if not apply:
        say("dry run: nothing was changed; to execute the plan, run the same command with --apply.")
    sys.exit(FAILED if stopped or not results.are_complete(applied=apply) else OK)


class _Results:
    """The results of one command: printed as they arrive, and counted by state."""

    def __init__(self, selection: Selection, *, as_json: bool) -> None:
        self._selection = selection
        self._as_json = as_json
        # The requested IDs that no message has matched yet.
        self._missing = dict.fromkeys(selection.ids)
        self._counts: Counter[str] = Counter()
        self.stdout = Stdout()

    def matches(self, queued: QueuedMessage) -> bool:
        """Return whether the message is selected, and note which requested IDs it has."""
        for word in [word for word in self._missing if is_named_by(queued, word)]:
            del self._missing[word]
        return self._selection.matches(queued)

    def add(self, result: Result) -> None:
        """Count and print one result."""
        self._counts[result.state] += 1
        line = plain_json(result_as_dict(result)) if self._as_json else result_line(result)
        self.stdout.line(line)

    def say_totals(self, *, stopped: bool) -> None:
        """Print the number of messages in each state."""
        self.stdout.say_if_lost("not every result was printed")
        totals = ", ".join(f"{number} {STATES[state]}" for state, number in self._counts.items())
        if stopped:
            say(f"stopped: {totals or 'nothing was done'}; the rest is still in the queue.")
        elif totals:
            say(f"{totals}.")

    def say_missing(self) -> None:
        """Print the requested IDs that were not found."""
        for word in self._missing:
            _say_not_found(word)
        if not self._counts and not self._missing:
            say("no message was selected.")

    def are_complete(self, *, applied: bool) -> bool:
        """Return whether every requested ID was found and, if `applied`, every action is done."""
        if self._missing:
            return False
        is_undone = set(self._counts) - {"done"} or (self._selection.ids and not self._counts)
        return not (applied and is_undone)
