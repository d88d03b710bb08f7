"""One sweep of an operator, and all of its output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.cli.changes import Changes, compare
from encryption_guard.cli.console import (
    FAILED,
    NOT_SEEN,
    OK,
    STOPPED,
    Stdout,
    asked_to_stop,
    log_line,
    misuse,
    note,
    open_dead_letters,
    progress,
    say,
)
from encryption_guard.cli.csv_rows import CSV_COLUMNS, closing_rows, csv_lines, finding_cells
from encryption_guard.cli.evidence import Conditions, Evidence
from encryption_guard.cli.row_filter import RowFilter
from encryption_guard.cli.row_order import RowOrder
from encryption_guard.cli.sweep_rows import (
    OF_ACCOUNTS,
    audits,
    has_row,
    is_unseen,
    pluralize,
    summary,
)
from encryption_guard.cli.sweep_tables import print_tables
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.dead_letters.destinations import REQUEST_SECONDS
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.enforcement.policy import acts_on
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.invocation import Invocation
from encryption_guard.services.inventory import REGIONS
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.accounts import Enter, enter_own
from encryption_guard.sweep.findings import Finding, Totals, log_finding
from encryption_guard.untrusted import plain_json

if TYPE_CHECKING:
    from encryption_guard.cli.report_document import ReportDocument


def report_files(folder: Path | None) -> list[Path]:
    """Return the files of `--report`."""
    return [folder / f"report.{form}" for form in ("html", "json", "csv")] if folder else []


@dataclass(frozen=True, slots=True)
class Outputs:
    """The format on standard output, and the files to write at the end."""

    format: str
    html_path: Path | None = None
    folder: Path | None = None
    rows: RowFilter = field(default_factory=RowFilter)

    @property
    def is_evidence(self) -> bool:
        """Whether the output is kept by someone, who may ask later who made it."""
        return self.format != "table" or bool(self.html_path or self.folder)

    def check(self) -> None:
        """Exit now if a report could not be written after hours of work."""
        for path in ([self.html_path] if self.html_path else []) + report_files(self.folder):
            _check_path(path)

    def write(self, data: Evidence) -> dict[Path, str]:
        """Write the reports, and return the SHA-256 of each; raises OSError."""
        from encryption_guard.cli.report import write_folder, write_report

        written = write_folder(self.folder, data) if self.folder else {}
        if self.html_path:
            written[self.html_path] = write_report(self.html_path, data)
        return written


def _check_path(path: Path) -> None:
    if "-" in (path.name, path.parent.name):
        misuse("A report is written to a file, and - is not one: standard output has the results.")
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
    """One sweep and its output: JSON and CSV as it goes, tables and the reports at its end."""

    invocation: Invocation
    totals: Totals
    outputs: Outputs
    conditions: Conditions
    old: ReportDocument | None = None
    enter: Enter = enter_own
    # What is wrong with the list of accounts.
    problems: Sequence[Finding] = ()
    findings: list[Finding] = field(default_factory=list)
    stdout: Stdout = field(default_factory=Stdout)
    complete: bool = False
    stopped: bool = False
    report_failed: bool = False
    # Whether something is known to be unencrypted, and not only unknown.
    has_seen_problem: bool = False
    # The accounts of the buckets that were found.
    owners: set[str] = field(default_factory=set)
    left_out: list[Finding] = field(default_factory=list)
    _order: RowOrder = field(init=False)

    def __post_init__(self) -> None:
        self._order = RowOrder(self.totals.regions)

    @property
    def exit_code(self) -> int:
        """The exit code: that of the worst result."""
        if self.stopped and not self.complete:
            return STOPPED
        if self.stdout.is_lost or self.report_failed:
            return FAILED
        if self.totals.all.ok:
            return OK
        return FAILED if self.has_seen_problem else NOT_SEEN

    @property
    def keeps_findings(self) -> bool:
        """Whether an output at the end needs them; rows of JSON and CSV do not."""
        outputs = self.outputs
        is_streamed = outputs.format != "table" and outputs.rows.is_open
        return bool(not is_streamed or outputs.html_path or outputs.folder or self.old)

    def run(self, scopes: Sequence[Scope]) -> None:
        """Sweep, and print the findings, even if the sweep raises an exception."""
        if self.outputs.format == "csv":
            self._print_csv([list(CSV_COLUMNS)])
        try:
            for problem in self.problems:
                self._add(problem)
            with asked_to_stop() as stop_requested, progress("table buckets") as (expect, advance):
                Sweep(
                    invocation=self.invocation,
                    dead_letters=_dead_letters(self.invocation),
                    apply=self.conditions.applied,
                    audit=self.invocation.settings.audit_tables,
                    report=partial(self._add, advance=advance),
                    warn=say,
                    expect_more=expect,
                    listed=self._order.expect,
                    region_done=lambda region: self._print_rows(self._order.finish(region)),
                    is_selected=self._is_selected,
                    should_stop=lambda: stop_requested() or self.stdout.is_lost,
                    enter_account=self.enter,
                ).check_buckets(scopes)
                self.stopped = stop_requested()
            # A request to stop that comes after the last step leaves nothing out.
            self.complete = not self.totals.all.not_reached
        finally:
            self._finish()

    def _is_selected(self, arn: TableBucketArn) -> bool:
        return fnmatchcase(arn.name, self.conditions.glob or "*")

    def _add(self, finding: Finding, *, advance: Callable[[], None] = lambda: None) -> None:
        advance()
        self.totals.count(finding)
        self.has_seen_problem |= not (finding.ok or is_unseen(finding))
        if finding.arn:
            self.owners.add(finding.arn.account_id)
        if finding.kind in OF_ACCOUNTS:
            self.left_out.append(finding)
        if not has_row(finding):
            return
        if self.keeps_findings:
            self.findings.append(finding)
        if self.outputs.rows.is_open:
            self._print_rows(self._order.add(finding))
        # On a terminal, log lines would repeat the rows.
        if self.conditions.applied and not sys.stderr.isatty():
            log_finding(finding, logger=open_logger(sys.stderr))

    def _print_rows(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if self.outputs.format == "json":
                self.stdout.line(plain_json(finding.as_dict()))
            elif self.outputs.format == "csv":
                self._print_csv([finding_cells(finding, self.conditions)])

    def _print_csv(self, rows: Iterable[list[str]]) -> None:
        for line in csv_lines(rows):
            self.stdout.text(line)

    def _evidence(self) -> Evidence:
        now = self.invocation.clock.now()
        data = Evidence(
            self.findings,
            self.totals,
            self._swept_accounts(),
            now,
            self.complete,
            self.conditions,
            accounts_left_out=self.left_out,
        )
        if not self.old:
            return data
        if (
            data.accounts
            and self.old.account_ids
            and not {*data.accounts} & {*self.old.account_ids}
        ):
            others = ", ".join(self.old.account_ids)
            say(f"the earlier report is not compared: it is about another account ({others}).")
            return data
        return replace(data, changes=self._changes(self.old, data.accounts))

    def _swept_accounts(self) -> list[str]:
        """Return the accounts that were entered, and those of the buckets that were found."""
        caller = self.conditions.caller
        own = self.invocation.settings.account_id or (caller.account_id if caller else None)
        chosen = {scope.account_id or own for scope in self.totals.regions}
        chosen -= {finding.account_id for finding in self.left_out if finding.kind == "account"}
        return sorted(each for each in chosen | self.owners if each)

    def _changes(self, old: ReportDocument, accounts: Sequence[str]) -> Changes:
        audits_all = self.invocation.settings.audit_tables == "true"
        return compare(old, self.findings, self.totals, accounts=accounts, audits_all=audits_all)

    def _finish(self) -> None:
        self._print_rows(self._order.rest())
        data = self._evidence()
        shown, more = self.outputs.rows.select(self.findings)
        if self.outputs.format == "table":
            print_tables(shown, data, self.stdout)
        elif not self.outputs.rows.is_open:
            self._print_rows(shown)
        if self.outputs.format == "json":
            self.stdout.line(plain_json({"kind": "totals"} | data.as_dict()))
        elif self.outputs.format == "csv":
            self._print_csv(closing_rows(data))
        self.stdout.say_if_lost("not all rows were printed")
        self._write_reports(data)
        if more:
            note(f"--limit leaves out {pluralize(more, 'row')}.")
        self._say_results(data)

    def _say_results(self, data: Evidence) -> None:
        settings, applied = self.invocation.settings, self.conditions.applied
        for exemption in data.expiring_soon:
            say(exemption.warning)
        for region in data.doubtful_regions:
            say(
                f"{region} has no table bucket. Check its name: OSS Tables is documented only for"
                f" {', '.join(REGIONS)}."
            )
        if data.changes:
            note(data.changes.sentence)
        if not self.complete:
            say("the results are incomplete: the sweep did not reach everything.")
        audited, left_out = audits(settings, self.totals), self.left_out
        note(summary(self.totals, applied=applied, audited=audited, accounts=left_out))
        if self.totals.all.not_encrypted and not applied:
            note(
                "nothing was changed; to encrypt these buckets, run the same command with --apply."
            )
        elif applied and settings.mode == "detect":
            note("nothing was changed: GUARD_MODE is detect.")

    def _write_reports(self, data: Evidence) -> None:
        try:
            written = self.outputs.write(data)
        except OSError as error:
            self.report_failed = True
            path = self.outputs.folder or self.outputs.html_path
            say(f"{path} cannot be written ({error.strerror}): this sweep has no report.")
            return
        for path, digest in written.items():
            say(f"the report is in {path} (SHA-256 {digest}).")


def _dead_letters(invocation: Invocation) -> DeadLetters:
    """Return a writer that puts dead letters into the queue, or prints them if none is set."""

    def print_one(dead_letter: DeadLetter) -> None:
        log_line(plain_json(dead_letter.model_dump()))

    def send(dead_letter: DeadLetter) -> None:
        # The sweep has no time limit, but a request needs one.
        put_into_queue(invocation.within(REQUEST_SECONDS), dead_letter)

    put: Callable[[DeadLetter], bool | None] = print_one
    if invocation.settings.dead_letter_queue is not None:
        today = invocation.clock.now().date()
        judge = partial(acts_on, settings=invocation.settings, today=today)
        put = skip_duplicates(send, invocation, written={}, acts_on=judge)
    return open_dead_letters(put, command="sweep")
