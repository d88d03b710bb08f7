"""`encryption-guard dead-letters`: what waits in the queue, and what an operator does about it."""

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
    names,
    process_here,
    why_not,
)
from encryption_guard.dead_letters.destinations import (
    Destination,
    QueuedMessage,
    leased,
    open_destination,
)
from encryption_guard.enforcement import Outcome, process_event
from encryption_guard.enforcement.handler import open_command
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
    help="acs:mns:<region>:<account>:/queues/<name> or file:<path>; GUARD_DEAD_LETTER_QUEUE"
    " otherwise.",
)
reason_option = click.option("--reason", help="Only letters with this reason.")
bucket_option = click.option("--bucket", metavar="GLOB", help="Only letters about these buckets.")
apply_option = click.option("--apply", is_flag=True, help="Do it; without it, show what would be.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Read the dead-letter queue, send its events again, or give them up.

    The queue is read by receiving its messages, which hides them from others for as long as the
    command runs; they are released at its end, also on Ctrl-C, which takes a second.
    """


@dead_letters.command("list")
@_options(queue_option, reason_option, bucket_option, output_option)
@click.option("--by", type=click.Choice(["reason", "bucket", "code"]), help="Count them by this.")
@click.option("--peek", is_flag=True, help="Hide nothing; shows 16 letters at most.")
def list_letters(
    queue: str | None,
    reason: str | None,
    bucket: str | None,
    output: str,
    by: Grouping | None,
    peek: bool,
) -> None:
    """Every letter: how old, why, which bucket, and what to do about it. Nothing is changed."""
    with _opened(queue) as (letters, invocation), asked_to_stop() as stopping:
        now = invocation.clock.now()
        waiting = iter(letters.peek().letters) if peek else _read(letters, stopping)
        listed, complete = _listed(waiting, Selection(reason=reason, bucket=bucket))
    listed.sort(key=lambda one: one.since or now)
    stdout = Stdout()
    if output == "json":
        for one in grouped(listed, by) if by else listed:
            stdout.line(plain_json(one.as_dict()))
    elif by:
        headings = (by, "letters", "oldest", "what to do")
        stdout.table(headings, [group.row(now) for group in grouped(listed, by)])
    else:
        stdout.table(HEADINGS, [one.row(now) for one in listed])
    stdout.say_if_lost("not every letter was printed, and nothing was changed")
    complete = complete and not stopping()
    if not complete and listed:
        say("this is not all of it.")
    elif complete and not listed:
        say("no letters; those that another command holds at the moment do not show.")
    sys.exit(OK if complete and not stdout.is_lost else FAILED)


def _listed(letters: Iterator[QueuedMessage], selection: Selection) -> tuple[list[Listed], bool]:
    """What is selected, and whether that is all: what was read before a failure still counts."""
    listed: list[Listed] = []
    with progress("letters read") as (_, one_more):
        try:
            for waiting in letters:
                one_more()
                if selection.matches(waiting):
                    listed.append(Listed.of(waiting))
        except Unavailable as error:
            say(str(error))
            return listed, False
    return listed, True


def _read(queue: Destination, stopping: Callable[[], bool]) -> Iterator[QueuedMessage]:
    with leased(queue) as letters:
        for waiting in letters:
            yield waiting
            if stopping():
                return


@contextmanager
def _opened(queue: str | None, **overrides: str | None) -> Iterator[tuple[Destination, Invocation]]:
    """The queue and the means to ask for it; what goes wrong with either ends the command."""
    try:
        settings = Settings.from_environment(
            overrides={"GUARD_DEAD_LETTER_QUEUE": queue, **overrides}
        )
        if settings.dead_letter_queue is None:
            misuse("Which queue? Give it with --queue, or set GUARD_DEAD_LETTER_QUEUE.")
        # Each request has its own time.
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
@click.argument("letter_id", metavar="ID")
@_options(queue_option, output_option)
def show(letter_id: str, queue: str | None, output: str) -> None:
    """The whole story of one letter: what happened, what it means, what to do, and its event.

    ID is the letter's as `list` shows it, in full or its first 8 characters; or the id of its event
    or of its message.
    """
    found, stdout = 0, Stdout()
    with _opened(queue) as (letters, invocation), asked_to_stop() as stopping:
        for waiting in _read(letters, stopping):
            if names(letter_id, waiting):
                found += 1
                if output == "json":
                    stdout.line(plain_json(Listed.of(waiting).as_dict() | contents(waiting)))
                else:
                    stdout.line(details(waiting, invocation.clock.now(), queue=queue))
    if not found:
        _not_found(letter_id)
    stdout.say_if_lost("the letter was not printed, and nothing was changed")
    sys.exit(OK if found and not stdout.is_lost else FAILED)


def _not_found(letter_id: str) -> None:
    say(
        f"No letter in the queue has the ID {letter_id}. It may be hidden because another command"
        f" is at work on it; an ID is given in full, or by {MIN_ID_PREFIX} characters or more."
    )


@dead_letters.command("redrive")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_options(queue_option, reason_option, bucket_option, output_option, apply_option)
@click.option("--function", help="Send to this function, by name or ARN; GUARD_FUNCTION otherwise.")
@click.option(
    "--max-redrives",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Leave letters alone that were redriven as often.",
)
@click.option("--local", is_flag=True, help="Process the events here, with your credentials.")
@click.option(
    "--account",
    metavar="ID",
    help="Whose letters a file's are; FC_ACCOUNT_ID otherwise. A queue tells it.",
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
    """Send the events of letters to the function again: all letters, or those selected.

    A letter is removed when its event was accepted. A letter that comes back tells how often it was
    redriven.
    """
    overrides = {"GUARD_FUNCTION": function, "FC_ACCOUNT_ID": account}
    with _opened(queue, **overrides) as (letters, invocation):
        if apply and local and not invocation.settings.account_id:
            misuse("Whose account is yours? Give it with --account, or set FC_ACCOUNT_ID.")
        if apply:
            invocation.read_credentials()  # none are misuse, not the failure of every letter
        again = _process_here(invocation) if local else _send(invocation)

        def plan(waiting: QueuedMessage) -> Action | Skip:
            return why_not(waiting, max_redrives=max_redrives) or again(waiting)

        _execute(letters, Selection(ids, reason, bucket), plan, apply=apply, output=output)


def _send(invocation: Invocation) -> Plan:
    # Only who sends needs the vendor's client.
    from encryption_guard.services.function_compute import FunctionCompute

    settings = invocation.settings
    target = Target(settings.function, settings.region, settings.account_id)
    return Sender(target, FunctionCompute(invocation).invoke).plan


def _process_here(invocation: Invocation) -> Plan:
    def process(event: Event) -> Outcome:
        own = invocation.within(MAX_RUN_SECONDS)
        outcome = process_event(
            event,
            invocation=own,
            tables=OssTables(own),
            # What fails again stays where it is.
            dead_letters=open_dead_letters(lambda _: None, command="dead-letters redrive"),
        )
        log_outcome(outcome, logger=open_logger(sys.stderr))
        return outcome

    return lambda waiting: Action(
        "would be processed here", functools.partial(process_here, waiting, process=process)
    )


@dead_letters.command("discard")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_options(queue_option, reason_option, bucket_option, output_option, apply_option)
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.option("--because", metavar="TEXT", help="Why; it is logged. Required with --apply.")
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
    """Remove letters whose events nobody needs.

    Each is logged on standard error in full, with your reason, before it is removed.
    """
    if not (ids or reason or bucket or everything):
        misuse("Which letters? Give their IDs, --reason, --bucket or --all.")
    if apply and not (because or "").strip():
        misuse('Why? Say it with --because "..."; it is logged.')

    with _opened(queue) as (letters, invocation):
        one_line = Lock()

        def log(waiting: QueuedMessage) -> str:
            # Not through the logger, whose level somebody may have set.
            line = {
                "message": "dead letter discarded",
                "timestamp": invocation.clock.now(),
                "because": because,
                "dead_letter": Listed.of(waiting).as_dict() | contents(waiting),
            }
            with one_line:
                log_line(plain_json(line))
            return f"discarded: {because}"

        def plan(waiting: QueuedMessage) -> Action:
            return Action("would be discarded", functools.partial(log, waiting))

        _execute(letters, Selection(ids, reason, bucket), plan, apply=apply, output=output)


def _execute(
    queue: Destination, selection: Selection, plan: Plan, *, apply: bool, output: str
) -> NoReturn:
    """Carry a plan out, or show it; print every result as it comes, and end the command."""
    results = _Results(selection, as_json=output == "json")
    with (
        asked_to_stop() as asked,
        # On a terminal of its own every result is a sign of progress.
        progress("letters", silent=sys.stdout.isatty()) as (_, one_more),
    ):

        def stopping() -> bool:
            return asked() or results.stdout.is_lost

        def report(result: Result) -> None:
            one_more()
            results.add(result)

        try:
            execute(queue, results.matches, plan, apply=apply, report=report, stopping=stopping)
        finally:
            results.say_how_many(stopped=stopping())
        stopped = stopping()
    if not stopped:
        results.say_what_is_missing()
    if not apply:
        say("nothing was done; the same command with --apply does it.")
    sys.exit(FAILED if stopped or not results.are_as_asked(applied=apply) else OK)


class _Results:
    """What became of the letters of one command, printed as it comes and counted."""

    def __init__(self, selection: Selection, *, as_json: bool) -> None:
        self._selection = selection
        self._as_json = as_json
        # The IDs that no letter was found for, so far.
        self._missing = dict.fromkeys(selection.ids)
        self._counts: Counter[str] = Counter()
        self.stdout = Stdout()

    def matches(self, waiting: QueuedMessage) -> bool:
        """Whether the command is about this letter."""
        for word in [word for word in self._missing if names(word, waiting)]:
            del self._missing[word]
        return self._selection.matches(waiting)

    def add(self, result: Result) -> None:
        """Count and print one."""
        self._counts[result.state] += 1
        line = plain_json(result_as_dict(result)) if self._as_json else result_line(result)
        self.stdout.line(line)

    def say_how_many(self, *, stopped: bool) -> None:
        """Say how many there are in each state."""
        self.stdout.say_if_lost("not every result was printed")
        told = ", ".join(f"{number} {STATES[state]}" for state, number in self._counts.items())
        if stopped:
            say(f"stopped: {told or 'nothing was done'}; the rest is still in the queue.")
        elif told:
            say(f"{told}.")

    def say_what_is_missing(self) -> None:
        """Say which letters were asked for, and not found."""
        for word in self._missing:
            _not_found(word)
        if not self._counts and not self._missing:
            say("no letter was selected.")

    def are_as_asked(self, *, applied: bool) -> bool:
        """Whether each letter that was named is there, and where `applied` everything was done."""
        if self._missing:
            return False
        is_undone = set(self._counts) - {"done"} or (self._selection.ids and not self._counts)
        return not (applied and is_undone)
