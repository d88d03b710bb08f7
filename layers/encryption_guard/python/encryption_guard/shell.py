"""What the commands of an operator's shell have in common: time, exits, and printing safely."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

import click

from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.telemetry import open_logger

if TYPE_CHECKING:
    from encryption_guard.dead_letter_document import DeadLetter

ALL_WELL, FAILED, MISUSE = 0, 1, 2

# Nobody stops an operator's command, but one event should not seem to hang either.
LONGEST_RUN_SECONDS = 120.0

output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: one object a line.",
)


def say(sentence: str) -> None:
    """Tell the operator something that is no result."""
    click.echo(f"encryption-guard: {plain(sentence)}", err=True)


def misuse(sentence: str) -> NoReturn:
    """Say what is wrong with the command, its settings or its credentials, and end it."""
    say(sentence)
    sys.exit(MISUSE)


def plain(text: object) -> str:
    """Printable ASCII: what an event or a service says must not steer the terminal."""
    return "".join(
        char if char.isascii() and char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def plain_json(value: object, *, indent: int | None = None) -> str:
    """JSON in printable ASCII, for the same reason."""
    return json.dumps(value, indent=indent, default=_as_text).replace("\x7f", "\\u007f")


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@contextmanager
def open_invocation(
    settings: Settings, *, seconds: float = LONGEST_RUN_SECONDS
) -> Iterator[Invocation]:
    """What a command asks the services with: the shell's own credentials, read for each request."""
    clock = Clock()
    for sentence in settings.exemption_errors:
        open_logger(sys.stderr).error("exemption dropped", detail=sentence)
    with _open_transport(settings) as transport:
        yield Invocation(
            transport=transport,
            settings=settings,
            read_credentials=Credentials.read,
            budget=TimeBudget(clock.monotonic() + seconds, clock),
            clock=clock,
        )


def _open_transport(settings: Settings) -> DeadlineTransport:
    if not settings.trust_env:
        return open_transport()
    from encryption_guard.http.proxies import trusting_environment

    return trusting_environment(open_transport())


def dead_letters(put: Callable[[DeadLetter], None], *, command: str) -> DeadLetters:
    """What writes the dead letters of one command."""
    return DeadLetters(
        put=put,
        log_error=open_logger(sys.stderr).error,
        function=f"encryption-guard {command}",
        function_request_id=str(uuid.uuid4()),
        now=Clock().now,
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Print a table on standard output, if it has any rows; every cell is made plain."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) if cell else "-" for cell in row))
    # A file or a pipe has no width to fit in, unless COLUMNS says so.
    width = shutil.get_terminal_size((240, 50)).columns
    if rows:
        Console(width=width, markup=False, highlight=False, emoji=False).print(table)


@contextmanager
def progress(
    what: str, *, silent: bool = False
) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """A bar on standard error, where that is a terminal: to expect so many more, to count one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=silent or not console.is_terminal,
    ) as shown:
        task = shown.add_task(what, total=None)

        def expect(more: int) -> None:
            shown.update(task, total=(shown.tasks[0].total or 0) + more)

        yield expect, functools.partial(shown.advance, task)


@contextmanager
def asked_to_stop(*, leave: Callable[[int], object] = os._exit) -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C (or SIGTERM) as a request; the second ends the process at once.

    `leave` is no exception: that would wait for the threads which are at work.
    """
    asked = threading.Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            sys.stdout.flush()
            leave(FAILED)
            return
        asked.set()
        say("stopping: what is under way comes to its end; once more to leave at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
