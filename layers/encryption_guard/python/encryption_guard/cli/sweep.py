"""`encryption-guard sweep`: check every table bucket from an operator's shell."""

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
    has_row,
    row,
    sort_key,
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
            raise click.BadParameter(f"{region!r} is not a region ID, such as cn-hangzhou.")
    return tuple(dict.fromkeys(given))


@click.command("sweep", short_help="Check every table bucket, and encrypt with --apply.")
@click.option(
    "--region",
    "regions",
    metavar="ID",
    multiple=True,
    callback=_regions,
    help="Sweep this region, for example cn-hangzhou; repeat the option for more regions. Default:"
    " GUARD_SWEEP_REGIONS, or else FC_REGION.",
)
@click.option("--all-regions", is_flag=True, help="Sweep every region that offers OSS Tables.")
@click.option(
    "--apply",
    is_flag=True,
    help="Encrypt the unencrypted buckets. Without this option the command changes nothing, and"
    " shows what it would encrypt.",
)
@click.option(
    "--tables",
    is_flag=True,
    help="Also check the encryption of every table, as with GUARD_AUDIT_TABLES=true.",
)
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format; json prints one object per line, with the totals in the last one.",
)
@click.option(
    "--html",
    "html_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to this file as an HTML report, for example for an auditor.",
)
def sweep(
    regions: tuple[str, ...],
    all_regions: bool,
    apply: bool,
    tables: bool,
    output: str,
    html_path: Path | None,
) -> None:
    """Check every table bucket; with --apply, encrypt the unencrypted ones.

    The command uses the credentials of your shell (ALIBABA_CLOUD_ACCESS_KEY_ID and so on) and the
    GUARD_* settings.

    It exits with 0 if everything that it checked is encrypted or exempt; with 1 if anything is
    unencrypted or unknown, or if the output could not be written; with 2 if an option, a setting or
    the credentials are wrong.
    """
    if regions and all_regions:
        misuse("Use either --region or --all-regions, not both.")
    if html_path:
        _check_html_path(html_path)
    try:
        audit = {"GUARD_AUDIT_TABLES": "true" if tables else None}
        settings = Settings.from_environment(overrides=audit)
        chosen = (REGIONS if all_regions else regions) or settings.sweep_regions
        chosen = chosen or ((settings.region,) if settings.region else ())
        if not chosen:
            misuse("No region: pass --region or --all-regions, or set GUARD_SWEEP_REGIONS.")
        with open_command(settings, seconds=math.inf) as invocation:
            invocation.read_credentials()  # without credentials, fail once and not for each bucket
            scopes = [Scope(settings.account_id, region) for region in chosen]
            command = SweepCommand(invocation, Totals.empty(scopes), output, html_path, apply)
            command.run(scopes)
    except ConfigurationError as error:
        misuse(str(error))
    sys.exit(OK if command.totals.all.ok and command.is_written else FAILED)


def _check_html_path(path: Path) -> None:
    """Exit now if the report could not be written after hours of work."""
    try:
        if not path.parent.is_dir():
            misuse(f"{path} cannot be written: the folder {path.parent} does not exist.")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            misuse(f"{path} cannot be written: the folder {path.parent} is not writable.")
        if path.exists() and not path.is_file():
            misuse(f"{path} cannot be replaced: it is not a regular file.")
    except OSError as error:
        misuse(f"{path} cannot be written: {error.strerror}.")


@dataclass(slots=True)
class SweepCommand:
    """One sweep and its output: JSON and CSV during the sweep, tables and the report at its end."""

    invocation: Invocation
    totals: Totals
    output: str
    html_path: Path | None
    applied: bool
    findings: list[Finding] = field(default_factory=list)
    stdout: Stdout = field(default_factory=Stdout)
    report_failed: bool = False

    @property
    def is_written(self) -> bool:
        """Whether all output could be printed and written."""
        return not self.stdout.is_lost and not self.report_failed

    def run(self, scopes: Sequence[Scope]) -> None:
        """Sweep, and print the findings, even if the sweep raises an exception."""
        if self.output == "csv":
            self.stdout.csv_row(CSV_COLUMNS)
        complete, settings = False, self.invocation.settings
        try:
            with asked_to_stop() as stop_requested, progress("table buckets") as (expect, advance):
                Sweep(
                    invocation=self.invocation,
                    dead_letters=_dead_letters(self.invocation),
                    apply=self.applied,
                    audit=settings.audit_tables,
                    report=partial(self._add, advance=advance),
                    warn=say,
                    expect_more=expect,
                    should_stop=lambda: stop_requested() or self.stdout.is_lost,
                ).check_buckets(scopes)
            # A request to stop that comes after the last step leaves nothing out.
            complete = not self.totals.all.not_reached
        finally:
            self._finish(complete=complete)

    def _add(self, finding: Finding, *, advance: Callable[[], None]) -> None:
        advance()
        self.totals.count(finding)
        if not has_row(finding):
            return
        if self.output == "json":
            self.stdout.line(plain_json(finding.as_dict()))
        elif self.output == "csv":
            self.stdout.csv_row(csv_cells(finding))
        if self.output == "table" or self.html_path:
            self.findings.append(finding)
        # On a terminal, log lines would repeat the rows.
        if self.applied and not sys.stderr.isatty():
            log_finding(finding, logger=open_logger(sys.stderr))

    def _finish(self, *, complete: bool) -> None:
        settings = self.invocation.settings
        expiring_soon = expiring(settings, today=self.invocation.clock.now().date())
        self.findings.sort(key=sort_key)
        if self.output == "table":
            self._print_tables()
        elif self.output == "json":
            fields = {"kind": "totals", "complete": complete, "applied": self.applied}
            self.stdout.line(plain_json(fields | self.totals.as_dict(expiring_soon)))
        self.stdout.say_if_lost("not all rows were printed")
        if self.html_path:
            self._write_report(self.html_path, complete=complete)
        for exemption in expiring_soon:
            say(exemption.warning)
        if not complete:
            say("the results are incomplete: the sweep did not reach everything.")
        audited = settings.audit_tables
        say(summary(self.totals, applied=self.applied, audited=audited))
        if self.totals.all.not_encrypted and not self.applied:
            say("nothing was changed; to encrypt these buckets, run the same command with --apply.")
        elif self.applied and settings.mode == "detect":
            say("nothing was changed: GUARD_MODE is detect.")

    def _print_tables(self) -> None:
        buckets = [row(finding) for finding in self.findings if finding.kind != "table"]
        self.stdout.table(BUCKET_HEADINGS, buckets)
        tables = [row(finding) for finding in self.findings if finding.kind == "table"]
        if tables:
            self.stdout.line()
        self.stdout.table(TABLE_HEADINGS, tables)
        self.stdout.line()
        audited = self.invocation.settings.audit_tables
        headings = TOTAL_HEADINGS + (AUDIT_HEADINGS if audited else ())
        self.stdout.table(headings, total_rows(self.totals, audited=audited))

    def _write_report(self, path: Path, *, complete: bool) -> None:
        from encryption_guard.cli.report import ReportData, write_report

        now, settings = self.invocation.clock.now(), self.invocation.settings
        data = ReportData(self.findings, self.totals, now, self.applied, complete, settings)
        try:
            write_report(path, data)
        except OSError as error:
            self.report_failed = True
            say(f"{path} cannot be written ({error.strerror}): this sweep has no HTML report.")
            return
        say(f"the HTML report is in {path}.")


def _dead_letters(invocation: Invocation) -> DeadLetters:
    """Return a writer that puts dead letters into the queue, or prints them if none is set."""

    def print_one(dead_letter: DeadLetter) -> None:
        log_line(plain_json(dead_letter.model_dump()))

    def send(dead_letter: DeadLetter) -> None:
        # The sweep has no time limit, but a request needs one.
        put_into_queue(invocation.within(REQUEST_SECONDS), dead_letter)

    has_queue = invocation.settings.dead_letter_queue is not None
    put = skip_duplicates(send, invocation, written={}) if has_queue else print_one
    return open_dead_letters(put, command="sweep")
