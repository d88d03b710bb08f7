"""What the commands share: exit codes, safe printing, progress bars and Ctrl-C.

A standard stream is lost if its disk is full, its reader has gone or the shell closed it. A command
then reports the loss on the other stream and still exits with the documented code.
"""

from __future__ import annotations

import codecs
import functools
import io
import os
import re
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from textwrap import fill
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from encryption_guard.cli.verbosity import is_debug, is_quiet
from encryption_guard.errors import GuardError
from encryption_guard.settings import can_match
from encryption_guard.untrusted import json_escape, plain, quoted

if TYPE_CHECKING:
    from rich.table import Table

    from encryption_guard.dead_letters import DeadLetters
    from encryption_guard.dead_letters.document import DeadLetter

# 1: open buckets, or something failed; 3: could not look; 130: stopped by Ctrl-C or SIGTERM.
OK, FAILED, MISUSE, NOT_SEEN, STOPPED = 0, 1, 2, 3, 130

# Where a table is too narrow, other columns are folded: these are pasted into commands.
NEVER_FOLDED = frozenset({"ID", "account", "region", "age", "OSS request ID"})
# The columns by which the least widths of a table may exceed the terminal.
MAX_OVERRUN = 16
# A narrower terminal gets tables with fewer columns.
MIN_WIDTH_OF_ALL_COLUMNS = 100

# No platform stops a command, so this limit keeps one event from hanging.
MAX_RUN_SECONDS = 120.0


class FileName(click.Path):
    """The name of a file or folder; an empty one is most likely a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fails for an empty name, which would be the current folder."""
        if value == "":
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


def bucket_glob(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """Refuse a glob that no bucket's name can match: its empty result would look like good news."""
    if given is None or can_match(given):
        return given
    raise click.BadParameter(
        f"{quoted(given)} can match no bucket: a name has 3 to 63 of a-z, 0-9 and -."
    )


output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Output format; json prints one object per line.",
)


def _escape(error: Any) -> tuple[str, int]:
    """Escape the characters that the encoding of a stream lacks; JSON stays valid."""
    return json_escape(error.object[error.start : error.end]), error.end


@functools.cache
def _escaping() -> str:
    """Register `_escape` with Python's codecs, and return its name there."""
    name = "encryption_guard.escape"
    codecs.register_error(name, _escape)
    return name


class NotLogged(GuardError):
    """A log line that an action requires could not be written."""

    fault = "operator"


class Commands(click.Group):
    """A click group whose commands exit without a traceback, even if a stream is lost.

    `places` has the module of each command; it is imported only when it is needed.
    """

    def __init__(self, *args: Any, places: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = dict(places or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return sorted({*super().list_commands(ctx), *self._places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; import its module at the first call."""
        if place := self._places.pop(cmd_name, None):
            self.add_command(getattr(import_module(place), cmd_name.replace("-", "_")))
        return super().get_command(ctx, cmd_name)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command and exit with its code."""
        reopen_closed_streams()
        with _sigterm_as_ctrl_c():
            self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> None:
        try:
            # In standalone mode, click itself fails if it cannot print a usage error.
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}) or OK)
        except click.ClickException as error:
            with suppress(OSError):
                error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            say("stopped.")
            sys.exit(STOPPED)
        except OSError as error:
            # Printing the help or the version failed. With PYTHONUNBUFFERED the buffer is empty, so
            # a flush alone would succeed: write a line to test the stream.
            if not _cannot_write(sys.stdout, "\n"):
                raise
            say(f"standard output cannot be written ({error.strerror}).")
            sys.exit(FAILED)
        finally:
            # If Python cannot flush the buffer at exit, it exits with code 120.
            _cannot_write(sys.stderr)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, unless the program handles it."""
    is_main = threading.current_thread() is threading.main_thread()
    is_free = is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_free:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def reopen_closed_streams() -> None:
    """Replace each closed standard stream (`>&-`) with a stream that fails on every use.

    Python sets a closed stream to None: printing to it succeeds and loses the text, and the next
    file or connection gets its descriptor number.
    """
    # Each descriptor has the opposite access mode, so every read or write raises OSError.
    streams = (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_RDONLY),
    )
    for name, mode, access in streams:
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))


def _cannot_write(stream: IO[str], text: str = "") -> bool:
    """Return whether writing and flushing fails; if so, discard the rest of the buffer."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        silence(stream)
        return True
    return False


def silence(stream: IO[str]) -> None:
    """Redirect a lost stream to the null device, so that later writes succeed."""
    # A stream that a test substitutes has no descriptor.
    with suppress(io.UnsupportedOperation):
        null_device = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null_device, stream.fileno())
        finally:
            os.close(null_device)


def say(sentence: str) -> None:
    """Print a sentence for the operator on standard error; do nothing if that stream is lost."""
    with suppress(OSError):
        click.echo(f"encryption-guard: {plain(sentence)}", err=True)


def note(sentence: str) -> None:
    """Print a sentence that reports no problem, unless the command has `--quiet`."""
    if not is_quiet():
        say(sentence)


def log_line(line: str) -> None:
    """Write one line of JSON to standard error, in ASCII as every log line.

    Raises NotLogged if the line cannot be written.
    """
    try:
        click.echo(line.encode("ascii", _escaping()).decode(), err=True)
    except OSError as error:
        raise NotLogged(f"standard error cannot be written ({error.strerror})") from error


class Stdout:
    """Standard output for the results of one command; it is lost after the first failed write."""

    def __init__(self) -> None:
        reopen_closed_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=_escaping())
        self._error: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether a write has failed; a command then stops early."""
        return self._error is not None

    def text(self, text: str) -> None:
        """Print text unchanged; do nothing if the stream is lost."""
        if self.is_lost:
            return
        try:
            click.echo(text, nl=False)
        except OSError as error:
            self._error = error.strerror
            silence(sys.stdout)

    def line(self, line: str = "") -> None:
        """Print one line."""
        self.text(f"{line}\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
        """Print a table with escaped cells; print nothing if there are no rows."""
        if rows and not self.is_lost:
            self.text(_table(headings, rows))

    def paragraph(self, label: str, text: str) -> None:
        """Print a label, and below it a text as wide as the terminal; no word is broken."""
        indent = "  "
        filled = fill(
            plain(text),
            terminal_width(),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.text(f"\n{plain(label)}:\n{filled}\n")

    def say_if_lost(self, consequence: str) -> None:
        """If the stream is lost, report this and its consequence on standard error."""
        if self.is_lost:
            say(f"standard output cannot be written ({self._error}): {consequence}.")


def misuse(sentence: str) -> NoReturn:
    """Report a wrong argument, setting or credential and exit with code 2."""
    say(sentence)
    sys.exit(MISUSE)


def open_dead_letters(put: Callable[[DeadLetter], bool | None], *, command: str) -> DeadLetters:
    """Return a writer that gives each dead letter of one command to `put`."""
    # These bring httpx, which is slow to import; --version and --help do without.
    from encryption_guard.dead_letters import DeadLetters
    from encryption_guard.enforcement.telemetry import open_logger
    from encryption_guard.invocation import Clock

    return DeadLetters(
        put=put,
        log_error=open_logger(sys.stderr).error,
        function=f"encryption-guard {command}",
        function_request_id=str(uuid.uuid4()),
        now=Clock().now,
    )


def terminal_width() -> int:
    """Return the columns of the terminal; a file or a pipe has 240 unless COLUMNS is set."""
    return shutil.get_terminal_size((240, 50)).columns


def is_narrow() -> bool:
    """Return whether the terminal has no room for all columns of a table."""
    return terminal_width() < MIN_WIDTH_OF_ALL_COLUMNS


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    from rich.table import Table

    table = Table(box=None, collapse_padding=is_narrow(), pad_edge=not is_narrow())
    for heading in headings:
        table.add_column(
            heading,
            overflow="fold",
            no_wrap=heading in NEVER_FOLDED,
            min_width=max(map(len, heading.split())),
        )
    for row in rows:
        table.add_row(*(plain(cell) if cell else "-" for cell in row))
    width = tried = terminal_width()
    drawn = _drawn(table, tried)
    # rich widens a column again to its least width, and would then cut off the end of each line.
    while _width_of(drawn) > width and tried > width - MAX_OVERRUN:
        tried -= 1
        drawn = _drawn(table, max(tried, 1))
    return drawn


def _drawn(table: Table, width: int) -> str:
    from rich.console import Console

    # rich exits silently if the reader of a pipe has gone, so it draws into a string.
    drawn = io.StringIO()
    as_terminal = True if sys.stdout.isatty() else None
    Console(
        file=drawn,
        force_terminal=as_terminal,
        width=width,
        markup=False,
        highlight=False,
        emoji=False,
    ).print(table, crop=False)
    return drawn.getvalue()


def _width_of(drawn: str) -> int:
    """Return the columns of a table, whose lines all have the same width."""
    from rich.cells import cell_len

    return cell_len(re.sub(r"\x1b\[[0-9;]*m", "", drawn.partition("\n")[0]))


@contextmanager
def progress(
    label: str, *, silent: bool = False
) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Show a progress bar on standard error if that is a terminal, and nobody asked for quiet.

    Yields two functions: the first raises the expected total, the second counts one item as done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    # The lines of --debug would tear the bar apart.
    if silent or is_quiet() or is_debug() or not console.is_terminal:
        # A bar that is not drawn would still count, which takes time for thousands of items.
        yield (lambda _: None), (lambda: None)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task(label, total=None)

        def expect(more: int) -> None:
            bar.update(task, total=(bar.tasks[0].total or 0) + more)

        yield expect, functools.partial(bar.advance, task)


@contextmanager
def asked_to_stop(*, leave: Callable[[int], object] = os._exit) -> Iterator[Callable[[], bool]]:
    """Treat the first Ctrl-C or SIGTERM as a request to stop; the second exits at once.

    Yields a function that returns whether a stop was requested. `leave` ends the process without
    raising, because an exception would wait for the running threads.
    """
    requested = threading.Event()

    def request_stop(*_: object) -> None:
        if requested.is_set():
            _cannot_write(sys.stdout)
            leave(STOPPED)
            return
        requested.set()
        say("stopping after the work in progress; press Ctrl-C again to stop at once.")

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, request_stop) for number in signals}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
