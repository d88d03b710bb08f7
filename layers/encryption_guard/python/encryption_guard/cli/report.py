"""The HTML report of a sweep: one file without scripts or external resources, all text escaped."""

from __future__ import annotations

import functools
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

import encryption_guard.cli.sweep_rows as rows
from encryption_guard.cli.csv_rows import csv_lines, csv_rows
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.report_rows import account_rows, parts_of_accounts, region_rows
from encryption_guard.enforcement.policy import EXPIRES_SOON
from encryption_guard.services.oss_tables import State
from encryption_guard.settings import Exemption
from encryption_guard.sweep.findings import RECREATE_TABLE, Finding, Tally
from encryption_guard.untrusted import plain
from encryption_guard.version import __version__

# A longer table is folded by region: a phone shows each row as a card.
MAX_ROWS = 100
# Color alone never shows a state. Every font has these characters.
MARKS: dict[State, str] = {"not_encrypted": "✗", "unknown": "?", "encrypted": "✓"}


class Summary(NamedTuple):
    """The verdict on a sweep, in one sentence."""

    state: State
    sentence: str


def write_report(path: Path, data: Evidence) -> str:
    """Write the HTML report to a file, as `write_file` does, and return its SHA-256."""
    return write_file(path, _chunks(data))


def write_folder(folder: Path, data: Evidence) -> dict[Path, str]:
    """Write report.html, report.json and report.csv; return the SHA-256 of each."""
    document = json.dumps(data.as_document(), ensure_ascii=False, indent=1)
    return {
        folder / "report.html": write_report(folder / "report.html", data),
        folder / "report.json": write_file(folder / "report.json", [document, "\n"]),
        folder / "report.csv": write_file(folder / "report.csv", csv_lines(csv_rows(data))),
    }


def write_file(path: Path, chunks: Iterable[str]) -> str:
    """Write a file and return its SHA-256; replace an existing file only if all was written."""
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    digest = sha256()
    # A report names accounts and buckets, so only its owner may read it.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                # A foreign text may contain a lone surrogate, which UTF-8 cannot encode.
                content = chunk.encode("utf-8", "backslashreplace")
                digest.update(content)
                file.write(content)
            # A full disk may raise an error only here.
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def _chunks(data: Evidence) -> Iterator[str]:
    findings = sorted(data.findings, key=rows.problems_first)
    buckets = [finding for finding in findings if finding.kind == "bucket"]
    tables = [finding for finding in findings if finding.kind == "table" and not finding.ok]
    exempt: dict[Exemption, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.exemption:
            exempt[finding.exemption].append(finding)
    several, accounts = data.has_several_accounts, account_rows(data)
    stream = _template().stream(
        data=data,
        several=several,
        audits=rows.audits(data.settings, data.totals),
        summary=summarize(data),
        regions=region_rows(data),
        accounts=accounts,
        account_parts=parts_of_accounts(accounts, max_rows=MAX_ROWS),
        bucket_parts=parts_of_buckets(buckets, several=several),
        exemptions=sorted(
            data.settings.exemptions, key=lambda exemption: exemption.expires or date.max
        ),
        exempt=exempt,
        table_parts=list(_parts("tables", tables, several=several)),
        exempt_unconfirmed=sum(f.outcome == "skipped" and f.state != "encrypted" for f in buckets),
    )
    stream.enable_buffering(100)
    return stream


PartKind = Literal["problems", "buckets", "tables"]
CAPTIONS: dict[PartKind, str] = {
    "problems": "Table buckets that are not encrypted or unknown",
    "buckets": "Encrypted and exempt table buckets",
    "tables": "Tables that are not encrypted, or whose encryption is unknown",
}


class Part(NamedTuple):
    """The rows of one table; with a region or an account, the page folds it."""

    kind: PartKind
    caption: str
    findings: Sequence[Finding]
    region: str | None = None
    account_id: str | None = None

    @property
    def place(self) -> str:
        """The account and the region of all rows; empty if the table is not folded."""
        return ", ".join(filter(None, (self.account_id, self.region)))

    @property
    def anchor(self) -> str:
        """The part of a URL that leads to this table."""
        return "-".join(filter(None, (self.kind, self.account_id, self.region)))


def parts_of_buckets(buckets: Sequence[Finding], *, several: bool = False) -> list[Part]:
    """Return the tables of buckets, with problems first.

    Many rows are a table for each region; in several accounts one for each account, and for each
    region of an account with many.
    """
    if buckets and len(buckets) <= MAX_ROWS:
        caption = "All table buckets; unencrypted and unknown ones come first"
        return [Part("buckets", caption, buckets)]
    problems = [finding for finding in buckets if not finding.ok]
    well = [finding for finding in buckets if finding.ok]
    return [
        *_parts("problems", problems, several=several),
        *_parts("buckets", well, several=several),
    ]


def _parts(
    kind: PartKind, findings: Sequence[Finding], *, several: bool, account_id: str | None = None
) -> Iterator[Part]:
    caption = CAPTIONS[kind] + (f" in account {account_id}" if account_id else "")
    if len(findings) <= MAX_ROWS:
        yield from [Part(kind, caption, findings, None, account_id)] if findings else []
    elif several:
        for owner, members in _grouped(findings, lambda finding: finding.account_id or ""):
            yield from _parts(kind, members, several=False, account_id=owner)
    else:
        for region, members in _grouped(findings, lambda finding: finding.region):
            yield Part(kind, f"{caption} in {region}", members, region, account_id)


def _grouped(
    findings: Sequence[Finding], name: Callable[[Finding], str]
) -> Iterator[tuple[str, list[Finding]]]:
    for each, members in groupby(sorted(findings, key=name), key=name):
        yield each, list(members)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_invisible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "MARKS": MARKS,
        "VERSION": __version__,
        "RECREATE_TABLE": RECREATE_TABLE,
        "warning": warning,
        "rows": rows,
    }
    return environment.get_template("report.html")


def _escape_invisible(value: Any) -> Any:
    """Escape what a reader cannot see, by the rule of the terminal; keep markup."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def summarize(data: Evidence) -> Summary:
    """Return the verdict on a sweep; an incomplete sweep never has the state `encrypted`."""
    tally = data.totals.all
    unread = rows.unread_lists(tally, data.accounts_left_out)
    problems = [
        _count_problems("table bucket", tally.not_encrypted, tally.unknown),
        _count_problems("table", tally.unprotected_tables, tally.unknown_tables),
        f"{', '.join(unread)}, so there may be more" if unread else "",
    ]
    if not data.complete:
        problems.insert(0, "This sweep is incomplete: it ended before it had checked everything")
    text = "; ".join(filter(None, problems))
    if not text:
        return Summary("encrypted", _all_clear(tally))
    has_unencrypted = tally.not_encrypted or tally.unprotected_tables
    return Summary("not_encrypted" if has_unencrypted else "unknown", f"{text}.")


def _count_problems(noun: str, not_encrypted: int, unknown: int) -> str:
    numbers = {"not_encrypted": not_encrypted, "unknown": unknown}
    parts: list[str] = []
    for state, words in rows.STATE_WORDS.items():
        if number := numbers.get(state):
            subject = str(number) if parts else rows.pluralize(number, noun)
            parts.append(f"{subject} {'is' if number == 1 else 'are'} {words}")
    return " and ".join(parts)


def _all_clear(tally: Tally) -> str:
    if not tally.buckets:
        return "There are no table buckets in the regions that were swept."
    if not tally.encrypted:
        return f"Every table bucket is exempt ({tally.exempt})."
    if tally.exempt:
        return f"Every table bucket that is not exempt is encrypted ({tally.encrypted})."
    return f"Every table bucket is encrypted ({tally.encrypted})."


def warning(exemption: Exemption, data: Evidence) -> str | None:
    """Return a warning about an exemption that has ended or ends soon."""
    if not exemption.expires:
        return None
    days_left = (exemption.expires - data.at.date()).days
    if days_left < 0:
        return "expired: the guard ignores it"
    if days_left <= EXPIRES_SOON.days:
        return f"ends in {rows.pluralize(days_left, 'day')}" if days_left else "ends today"
    return None
