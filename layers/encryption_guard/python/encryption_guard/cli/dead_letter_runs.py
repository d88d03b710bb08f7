"""One run of `redrive` or `discard`: the chosen messages, their results, and the exit code."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from encryption_guard.cli.console import (
    FAILED,
    OK,
    STOPPED,
    Stdout,
    note,
    progress,
    say,
)
from encryption_guard.cli.dead_letter_ids import MIN_ID_PREFIX, Lookup
from encryption_guard.cli.dead_letter_rows import STATES, result_as_dict, result_line
from encryption_guard.cli.redrive import Action, Result, Selection, Skip, execute
from encryption_guard.dead_letters.destinations import Destination, QueuedMessage
from encryption_guard.untrusted import plain_json

NO_MESSAGES = "no messages found; messages that another command has received are hidden."

Plan = Callable[[QueuedMessage], Action | Skip]


def say_not_found(wanted_id: str) -> None:
    """Print that no message has an ID."""
    say(
        f"No message in the queue has the ID {wanted_id}. Pass the full ID or at least its first"
        f" {MIN_ID_PREFIX} characters; a message that another command has received is hidden."
    )


class Chosen:
    """The messages that a command acts on, and what it read in the queue to find them."""

    def __init__(self, ids: tuple[str, ...], selection: Selection) -> None:
        self.ids = ids
        self.selection = selection
        self.read = 0
        self.missing: list[str] = []

    def select(
        self,
        messages: Iterator[QueuedMessage],
        *,
        destination: Destination,
        keep: bool,
        stopping: Callable[[], bool],
    ) -> Iterator[QueuedMessage]:
        """Yield the chosen messages; IDs are looked up in the whole queue first."""
        found: Iterable[QueuedMessage] = self._counted(messages)
        lookup = Lookup(self.ids, destination, keep=keep)
        if self.ids:
            found = lookup.find(found, stopping)
        yield from filter(self.selection.matches, found)
        self.missing = lookup.missing

    def _counted(self, messages: Iterator[QueuedMessage]) -> Iterator[QueuedMessage]:
        for queued in messages:
            self.read += 1
            yield queued


def run(
    destination: Destination,
    chosen: Chosen,
    plan: Plan,
    *,
    apply: bool,
    output: str,
    stop_requested: Callable[[], bool],
) -> NoReturn:
    """Execute or print the plan, print each result at once, and exit the command."""
    results = _Results(chosen, as_json=output == "json")
    # On a terminal, the printed results already show the progress.
    with progress("messages", silent=sys.stdout.isatty()) as (_, count_one):

        def stopping() -> bool:
            return stop_requested() or results.stdout.is_lost

        def report(result: Result) -> None:
            count_one()
            results.add(result)

        select = functools.partial(
            chosen.select, destination=destination, keep=apply, stopping=stopping
        )
        try:
            execute(destination, select, plan, apply=apply, report=report, stopping=stopping)
        finally:
            results.say_totals(stopped=stopping())
        stopped = stopping()
    if not stopped:
        results.say_missing()
    if results.has_plan:
        note(
            "dry run: nothing was changed; to execute the plan, run the same command with --apply."
        )
    if stopped:
        sys.exit(FAILED if results.stdout.is_lost else STOPPED)
    sys.exit(OK if results.are_complete(applied=apply) else FAILED)


class _Results:
    """The results of one command: printed as they arrive, and counted by state."""

    def __init__(self, chosen: Chosen, *, as_json: bool) -> None:
        self._chosen = chosen
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        self.stdout = Stdout()

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
            note(f"{totals}.")

    def say_missing(self) -> None:
        """Print the requested IDs that were not found, and that an empty queue is empty."""
        missing = self._chosen.missing
        for word in missing:
            say_not_found(word)
        if not self._chosen.read and not missing:
            note(NO_MESSAGES)
        elif not self._counts and not missing:
            note(f"no message was selected, of {self._chosen.read} in the queue.")

    @property
    def has_plan(self) -> bool:
        """Whether a message was planned for, and not acted on."""
        return "planned" in self._counts

    def are_complete(self, *, applied: bool) -> bool:
        """Return whether every requested ID was found and, if `applied`, every action is done.

        A message with nothing to redrive stays in the queue until somebody discards it. It does not
        make a redrive of the whole queue fail each time, but one that names it.
        """
        if self._chosen.missing:
            return False
        ids = self._chosen.ids
        undone = set(self._counts) - {"done"} - (set() if ids else {"nothing_to_redrive"})
        return not (applied and (undone or (ids and not self._counts)))
