"""Which rows of a sweep are printed, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Literal

import click

from encryption_guard.cli.sweep_rows import problems_first, sort_key
from encryption_guard.sweep.findings import Finding

Sort = Literal["name", "state", "created"]
STATES: Final = ("not_encrypted", "unknown", "exempt", "encrypted")
_OLDEST_LAST: Final = datetime.max.replace(tzinfo=timezone.utc)

SORT_KEYS: Final[dict[str, Callable[[Finding], Any]]] = {
    "name": lambda finding: (finding.bucket or "", sort_key(finding)),
    "state": problems_first,
    "created": lambda finding: (finding.created_at or _OLDEST_LAST, sort_key(finding)),
}

state_option = click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="Show only rows in this state; repeat the option for more states.",
)
only_problems_option = click.option(
    "--only-problems", is_flag=True, help="Show only rows that are not encrypted or unknown."
)
sort_option = click.option(
    "--sort",
    type=click.Choice(list(SORT_KEYS)),
    help="Sort the rows by bucket name, state (problems first) or creation. Default: by account,"
    " region and bucket.",
)
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N rows."
)


@dataclass(frozen=True, slots=True)
class RowFilter:
    """The rows that are printed; totals, reports and the exit code count everything."""

    states: tuple[str, ...] = ()
    only_problems: bool = False
    sort: str | None = None
    limit: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether every row is printed as soon as it can be."""
        return self == RowFilter()

    def select(self, findings: Iterable[Finding]) -> tuple[list[Finding], int]:
        """Return the rows to print in their order, and how many more there are."""
        shown = [finding for finding in findings if self._shows(finding)]
        shown.sort(key=SORT_KEYS[self.sort] if self.sort else sort_key)
        limit = len(shown) if self.limit is None else self.limit
        return shown[:limit], len(shown[limit:])

    def _shows(self, finding: Finding) -> bool:
        state = "exempt" if finding.outcome == "skipped" else finding.state
        return state in (self.states or STATES) and not (self.only_problems and finding.ok)
