"""What the commands of an operator's shell have in common: time, exits, and printing safely.

A disk may be full, a reader gone, a standard stream closed: every command then says so where it
still can, and ends with a code that means what it means elsewhere.
"""

from __future__ import annotations

import csv
import functools
import io
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.errors import GuardError
from encryption_guard.invocation import Clock
from encryption_guard.untrusted import plain

if TYPE_CHECKING:
    from encryption_guard.dead_letters.document import DeadLetter

OK, FAILED, MISUSE = 0, 1, 2

# Nobody stops an operator's command, but one event should not seem to hang either.
MAX_RUN_SECONDS = 120.0

output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: one object a line.",
)


class NotLogged(GuardError):
    """What has to be in the log before something is done could not be written there."""

    fault = "operator"


class Commands(click.Group):
    """A group whose commands end without a traceback, whatever becomes of the standard streams."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command, and end the program."""
        reopen_closed_streams()
        try:
            # Not standalone: click would fail where it cannot print why it refuses.
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}) or OK)
        except click.ClickException as error:
            with suppress(OSError):
                error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            say("stopped.")
            sys.exit(FAILED)
        except OSError as error:
            # Help or the version. With PYTHONUNBUFFERED nothing of it is left, so a line is tried.
            if not _is_lost(sys.stdout, "\n"):
                raise
            say(f"standard output cannot be written ({error.strerror}).")
            sys.exit(FAILED)
        finally:
            # Else what is left in its buffer fails when Python ends, and the code is 120.
            _is_lost(sys.stderr)


def reopen_closed_streams() -> None:
    """Give each standard stream that was closed (`>&-`) one that fails whenever it is used.

    Python has None for it, which prints nothing and fails nowhere; and the next file or connection
    would get its number.
    """
    streams = (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_RDONLY),
    )
    for name, mode, wrong_way in streams:
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, wrong_way), mode))


def _is_lost(stream: IO[str], text: str = "") -> bool:
    """Whether a stream does not take this text; what is left in its buffer then goes nowhere."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        silence(stream)
        return True
    return False


def silence(stream: IO[str]) -> None:
    """Let a stream that takes nothing more take everything, and pass it on to nobody."""
    # A stream of a test has no descriptor.
    with suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def say(sentence: str) -> None:
    """Tell the operator something that is no result; who closed standard error is told nothing."""
    with suppress(OSError):
        click.echo(f"encryption-guard: {plain(sentence)}", err=True)


def log_line(line: str) -> None:
    """Write a line on standard error; raises NotLogged where it cannot be written."""
    try:
        click.echo(line, err=True)
    except OSError as error:
        raise NotLogged(f"standard error cannot be written ({error.strerror})") from error


class Stdout:
    """Standard output, for the results of one command: once it takes nothing more it is lost."""

    def __init__(self) -> None:
        reopen_closed_streams()
        self._why: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether something could not be printed; a command stops where it is."""
        return self._why is not None

    def text(self, text: str) -> None:
        """Print a text as it is, unless there is nobody to print it for."""
        if self.is_lost:
            return
        try:
            click.echo(text, nl=False)
        except OSError as error:
            self._why = error.strerror
            silence(sys.stdout)

    def line(self, line: str = "") -> None:
        """Print a line."""
        self.text(f"{line}\n")

    def csv_row(self, cells: Sequence[str]) -> None:
        """Print a row of a spreadsheet."""
        row = io.StringIO()
        csv.writer(row).writerow(cells)
        self.text(row.getvalue())

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
        """Print a table, if it has any rows; every cell is made plain."""
        if rows and not self.is_lost:
            self.text(_table(headings, rows))

    def say_if_lost(self, what_is_done: str) -> None:
        """Where not everything could be printed, say so, and what was done all the same."""
        if self.is_lost:
            say(f"standard output cannot be written ({self._why}): {what_is_done}.")


def misuse(sentence: str) -> NoReturn:
    """Say what is wrong with the command, its settings or its credentials, and end it."""
    say(sentence)
    sys.exit(MISUSE)


def open_dead_letters(put: Callable[[DeadLetter], None], *, command: str) -> DeadLetters:
    """What writes the dead letters of one command."""
    return DeadLetters(
        put=put,
        log_error=open_logger(sys.stderr).error,
        function=f"encryption-guard {command}",
        function_request_id=str(uuid.uuid4()),
        now=Clock().now,
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) if cell else "-" for cell in row))
    # A file or a pipe has no width to fit in, unless COLUMNS says so.
    width = shutil.get_terminal_size((240, 50)).columns
    # Not printed by rich, which ends the program without a word when the reader has gone.
    drawn = io.StringIO()
    as_terminal = True if sys.stdout.isatty() else None
    Console(
        file=drawn,
        force_terminal=as_terminal,
        width=width,
        markup=False,
        highlight=False,
        emoji=False,
    ).print(table)
    return drawn.getvalue()


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
            _is_lost(sys.stdout)
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
