"""A sweep as one HTML page for an auditor: no script, nothing loaded, foreign words as text."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

import encryption_guard.cli.sweep_rows as rows
from encryption_guard.enforcement.policy import EXPIRES_SOON
from encryption_guard.services.oss_tables import State
from encryption_guard.settings import Exemption, Settings
from encryption_guard.sweep.findings import RECREATE_TABLE, Finding, Tally, Totals
from encryption_guard.version import __version__

# State is never told by colour alone, and these are in every font.
MARKS: dict[State, str] = {"not_encrypted": "✗", "unknown": "?", "encrypted": "✓"}


@dataclass(frozen=True, slots=True)
class ReportData:
    """What one sweep found, and how it was taken.

    It is not `complete` where it was stopped or ran out of time.
    """

    findings: Sequence[Finding]
    totals: Totals
    at: datetime
    applied: bool
    complete: bool
    settings: Settings

    @property
    def accounts(self) -> list[str]:
        """Whose buckets these are."""
        arns = {finding.arn for finding in self.findings if finding.arn}
        return sorted({arn.account_id for arn in arns})


class Summary(NamedTuple):
    """How it stands, in one sentence."""

    state: State
    sentence: str


def write_page(path: Path, data: ReportData) -> None:
    """Write the page, all of it or nothing."""
    unfinished = path.with_name(f".{uuid4().hex}.tmp")
    try:
        # What cannot be encoded came from elsewhere, and must not cost the reader the page.
        with unfinished.open(
            "x", encoding="utf-8", errors="backslashreplace", newline="\n"
        ) as file:
            file.writelines(_pieces(data))
            # A disk may be found full only now.
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _pieces(data: ReportData) -> Iterator[str]:
    found = sorted(data.findings, key=rows.problems_first)
    buckets = [finding for finding in found if finding.kind == "bucket"]
    problems: dict[str, list[str]] = defaultdict(list)
    covered: dict[Exemption, list[Finding]] = defaultdict(list)
    for finding in found:
        if finding.kind == "region":
            problems[finding.region].append(rows.description(finding))
        if finding.exemption:
            covered[finding.exemption].append(finding)
    regions = [(scope.region, tally) for scope, tally in data.totals.regions.items()]
    stream = _template().stream(
        data=data,
        summary=summarize(data),
        regions=sorted(regions, key=lambda pair: (pair[1].ok, pair[0])),
        problems=problems,
        buckets=buckets,
        exemptions=sorted(data.settings.exemptions, key=lambda one: one.expires or date.max),
        covered=covered,
        tables=[finding for finding in found if finding.kind == "table" and not finding.ok],
        exposed=sum(f.outcome == "skipped" and f.state != "encrypted" for f in buckets),
    )
    stream.enable_buffering(100)
    return stream


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_legible,
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


def _legible(value: Any) -> Any:
    """Words as they are, but for what nobody sees: controls, and what turns the text around."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in value
    )


def summarize(data: ReportData) -> Summary:
    """Judge a sweep; one that is not complete never has an all-clear."""
    tally = data.totals.all
    problems = [
        _problems("table bucket", tally.not_encrypted, tally.unknown),
        _problems("table", tally.unprotected_tables, tally.unknown_tables),
        f"{rows.counted(tally.not_listed, 'list')} could not be read, so there may be more"
        if tally.not_listed
        else "",
    ]
    if not data.complete:
        problems.insert(0, "This sweep is incomplete: it ended before it had looked at everything")
    told = "; ".join(filter(None, problems))
    if not told:
        return Summary("encrypted", _all_clear(tally))
    is_exposed = tally.not_encrypted or tally.unprotected_tables
    return Summary("not_encrypted" if is_exposed else "unknown", f"{told}.")


def _problems(what: str, not_encrypted: int, unknown: int) -> str:
    numbers = {"not_encrypted": not_encrypted, "unknown": unknown}
    parts: list[str] = []
    for state, words in rows.STATE_WORDS.items():
        if number := numbers.get(state):
            subject = str(number) if parts else rows.counted(number, what)
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


def warning(exemption: Exemption, data: ReportData) -> str | None:
    """What is to be watched about an exemption."""
    if not exemption.expires:
        return None
    left = (exemption.expires - data.at.date()).days
    if left < 0:
        return "over: it no longer counts"
    if left <= EXPIRES_SOON.days:
        return f"ends in {rows.counted(left, 'day')}" if left else "ends today"
    return None
