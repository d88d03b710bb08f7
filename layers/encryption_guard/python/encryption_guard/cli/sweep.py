"""`encryption-guard sweep`: every table bucket, by hand."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from encryption_guard.arn import Scope, is_region
from encryption_guard.cli.console import (
    FAILED,
    OK,
    Stdout,
    asked_to_stop,
    log_line,
    misuse,
    open_dead_letters,
    progress,
    say,
)
from encryption_guard.cli.sweep_rows import (
    AUDIT_HEADINGS,
    BUCKET_HEADINGS,
    CSV_COLUMNS,
    TABLE_HEADINGS,
    TOTAL_HEADINGS,
    csv_cells,
    in_order,
    is_shown,
    row,
    summary,
    total_rows,
)
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.dead_letters.destinations import REQUEST_SECONDS
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.enforcement.handler import open_command
from encryption_guard.enforcement.policy import expiring
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.errors import ConfigurationError
from encryption_guard.invocation import Invocation
from encryption_guard.services.inventory import REGIONS
from encryption_guard.settings import Settings
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.findings import Finding, Totals, log_finding
from encryption_guard.untrusted import plain_json


def _regions(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for region in given:
        if not is_region(region):
            raise click.BadParameter(f"{region!r} is no region's id, such as cn-hangzhou.")
    return tuple(dict.fromkeys(given))


@click.command("sweep")
@click.option(
    "--region",
    "regions",
    metavar="ID",
    multiple=True,
    callback=_regions,
    help="Sweep this region; several times for several. GUARD_SWEEP_REGIONS or FC_REGION"
    " otherwise.",
)
@click.option(
    "--all-regions", is_flag=True, help="Sweep every region in which OSS Tables is offered."
)
@click.option("--apply", is_flag=True, help="Encrypt; without it, show what would be encrypted.")
@click.option(
    "--tables", is_flag=True, help="Look at every table's encryption too; or GUARD_AUDIT_TABLES."
)
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="json: one object a line, the totals last.",
)
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page that can be sent to an auditor.",
)
def sweep(
    regions: tuple[str, ...],
    all_regions: bool,
    apply: bool,
    tables: bool,
    output: str,
    page: Path | None,
) -> None:
    """Look at every table bucket, and with --apply encrypt those that are not.

    Exit code 0 if all are encrypted or exempt, 1 if any is left unencrypted or unknown, 2 if the
    command was misused. Uses the credentials of your shell and the GUARD_* settings.
    """
    if regions and all_regions:
        misuse("Either --region or --all-regions.")
    if page:
        _check_place(page)
    try:
        audit = {"GUARD_AUDIT_TABLES": "true" if tables else None}
        settings = Settings.from_environment(overrides=audit)
        chosen = (REGIONS if all_regions else regions) or settings.sweep_regions
        chosen = chosen or ((settings.region,) if settings.region else ())
        if not chosen:
            misuse("Which region? Give it with --region, --all-regions or GUARD_SWEEP_REGIONS.")
        with open_command(settings, seconds=math.inf) as invocation:
            invocation.read_credentials()  # none are misuse, not the failure of every bucket
            scopes = [Scope(settings.account_id, region) for region in chosen]
            report = Report(invocation, Totals.of(scopes), output, page, apply)
            report.of(scopes)
    except ConfigurationError as error:
        misuse(str(error))
    sys.exit(OK if report.totals.all.ok and report.is_told else FAILED)


def _check_place(page: Path) -> None:
    """End the command at once where a page could not be written hours later."""
    try:
        if not page.parent.is_dir():
            misuse(f"{page} cannot be written: there is no folder {page.parent}.")
        if not os.access(page.parent, os.W_OK | os.X_OK):
            misuse(f"{page} cannot be written: nothing may be written into {page.parent}.")
        if page.exists() and not page.is_file():
            misuse(f"{page} cannot be replaced: it is no file.")
    except OSError as error:
        misuse(f"{page} cannot be written: {error.strerror}.")


@dataclass(slots=True)
class Report:
    """One sweep as it is printed: rows as they come where they can, tables and page at the end."""

    invocation: Invocation
    totals: Totals
    output: str
    page: Path | None
    applied: bool
    kept: list[Finding] = field(default_factory=list)
    stdout: Stdout = field(default_factory=Stdout)
    page_is_lost: bool = False

    @property
    def is_told(self) -> bool:
        """Whether all of it could be printed, and written."""
        return not self.stdout.is_lost and not self.page_is_lost

    def of(self, scopes: Sequence[Scope]) -> None:
        """Sweep and report; what was found is told even if the sweep itself fails."""
        if self.output == "csv":
            self.stdout.csv_row(CSV_COLUMNS)
        complete, settings = False, self.invocation.settings
        try:
            with asked_to_stop() as stopping, progress("table buckets") as (expect, one_more):
                Sweep(
                    invocation=self.invocation,
                    dead_letters=_letters(self.invocation),
                    apply=self.applied,
                    audit=settings.audit_tables,
                    report=partial(self._note, one_more=one_more),
                    warn=say,
                    expect=expect,
                    stopping=lambda: stopping() or self.stdout.is_lost,
                ).buckets_of(scopes)
            # Whoever asks to stop at the very end gets all of it.
            complete = not self.totals.all.not_reached
        finally:
            self._conclude(complete=complete)

    def _note(self, finding: Finding, *, one_more: Callable[[], None]) -> None:
        one_more()
        self.totals.count(finding)
        if not is_shown(finding):
            return
        if self.output == "json":
            self.stdout.line(plain_json(finding.as_dict()))
        elif self.output == "csv":
            self.stdout.csv_row(csv_cells(finding))
        if self.output == "table" or self.page:
            self.kept.append(finding)
        # Where somebody looks on, the rows tell it.
        if self.applied and not sys.stderr.isatty():
            log_finding(finding, logger=open_logger(sys.stderr))

    def _conclude(self, *, complete: bool) -> None:
        settings = self.invocation.settings
        ending = expiring(settings, today=self.invocation.clock.now().date())
        self.kept.sort(key=in_order)
        if self.output == "table":
            self._print_tables()
        elif self.output == "json":
            how = {"kind": "totals", "complete": complete, "applied": self.applied}
            self.stdout.line(plain_json(how | self.totals.as_dict(ending)))
        self.stdout.say_if_lost("not all rows were printed")
        if self.page:
            self._write_page(self.page, complete=complete)
        for exemption in ending:
            say(exemption.warning)
        if not complete:
            say("this is not all of it.")
        audited = settings.audit_tables
        say(summary(self.totals, applied=self.applied, audited=audited))
        if self.totals.all.not_encrypted and not self.applied:
            say("nothing was changed; the same command with --apply encrypts them.")
        elif self.applied and settings.mode == "detect":
            say("nothing was changed: GUARD_MODE is detect.")

    def _print_tables(self) -> None:
        buckets = [row(found) for found in self.kept if found.kind != "table"]
        self.stdout.table(BUCKET_HEADINGS, buckets)
        tables = [row(found) for found in self.kept if found.kind == "table"]
        if tables:
            self.stdout.line()
        self.stdout.table(TABLE_HEADINGS, tables)
        self.stdout.line()
        audited = self.invocation.settings.audit_tables
        headings = TOTAL_HEADINGS + (AUDIT_HEADINGS if audited else ())
        self.stdout.table(headings, total_rows(self.totals, audited=audited))

    def _write_page(self, page: Path, *, complete: bool) -> None:
        from encryption_guard.cli.report import ReportData, write_page

        now, settings = self.invocation.clock.now(), self.invocation.settings
        data = ReportData(self.kept, self.totals, now, self.applied, complete, settings)
        try:
            write_page(page, data)
        except OSError as error:
            self.page_is_lost = True
            say(f"{page} cannot be written ({error.strerror}): there is no page of this sweep.")
            return
        say(f"the page for an auditor is in {page}.")


def _letters(invocation: Invocation) -> DeadLetters:
    """Where letters go; without a queue they are printed."""

    def show(letter: DeadLetter) -> None:
        log_line(plain_json(letter.model_dump()))

    def send(letter: DeadLetter) -> None:
        # The sweep itself has all the time there is.
        put_into_queue(invocation.within(REQUEST_SECONDS), letter)

    has_queue = invocation.settings.dead_letter_queue is not None
    put = skip_duplicates(send, invocation, written={}) if has_queue else show
    return open_dead_letters(put, command="sweep")
