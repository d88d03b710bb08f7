"""Show the progress of a deployment: its steps, findings, settings and failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from encryption_guard.cli.console import say, silence
from layers.encryption_guard.tools.preflight import Finding
from layers.encryption_guard.tools.serverless_devs import StepFailed

SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}


class Terminal(Console):
    """Standard output; if it cannot be written any more, a running deployment continues."""

    is_lost = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; if the output fails, report that on standard error and set `is_lost`."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            silence(self.file)
            self.is_lost = True
            say(f"standard output cannot be written ({error.strerror}): see build/*.log.")

    def on_broken_pipe(self) -> None:
        """Leave the error to `print`: rich would exit here, in the middle of a deployment."""
        raise


class Report:
    """The progress output: a line for each step, and the latest output line of the current step."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._current_step: tuple[Status, str] | None = None

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show a step while it runs; the yielded function adds a result behind the title."""
        started = time.monotonic()
        results: list[str] = []
        with self.terminal.status(escape(title)) as status:
            self._current_step = (status, title)
            try:
                yield results.append
            except (StepFailed, KeyboardInterrupt):
                self.show_finding(Finding("error", title))
                raise
            finally:
                self._current_step = None
        took = f"[dim]({time.monotonic() - started:.0f} s)[/]"
        self.terminal.print(f"  {SIGNS['ok']} {escape(' '.join([title, *results]))} {took}")

    def show_activity(self, line: str) -> None:
        """Show the latest output line of the current step, until the next one replaces it."""
        if self._current_step and line:
            status, title = self._current_step
            status.update(f"{escape(title)} [dim]{escape(line[:80])}[/]")

    def show_finding(self, finding: Finding) -> None:
        """Print a finding and its remedy."""
        self.terminal.print(f"  {SIGNS[finding.level]} {escape(finding.message)}")
        if finding.remedy:
            self.terminal.print(f"    [dim]{escape(finding.remedy)}[/]")

    def show_settings(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Show each setting that is not the template's default, and what changes."""
        for name, before, after, source in rows:
            value = after or "-" if before == after else f"{before or '-'} -> {after or '-'}"
            self.terminal.print(f"  {name:<24} {escape(value)} [dim]({source})[/]")

    def show_failure(self, error: StepFailed) -> None:
        """Print the end of the step's output, the problem and its remedy."""
        for line in error.output.splitlines():
            self.terminal.print(f"    [dim]{escape(line)}[/]")
        self.show_finding(Finding("error", str(error), error.remedy))
