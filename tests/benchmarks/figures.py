"""From seconds to figures: medians, least values and ratios within a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from tests.benchmarks.clients import Spent

Kind = Literal["cpu", "wall"]
# What each client spent on one request in one round, by its name.
Round = dict[str, Spent]

OVERHEAD = "(guard - minimum) / (SDK - minimum)"
RATIOS: dict[str, Callable[[float, float, float], float]] = {
    "guard / SDK": lambda ours, sdk, _: ours / sdk,
    "guard / minimum": lambda ours, _, limit: ours / limit,
    "SDK / minimum": lambda _, sdk, limit: sdk / limit,
    OVERHEAD: lambda ours, sdk, limit: (ours - limit) / (sdk - limit),
}


@dataclass(frozen=True)
class Series:
    """The counted rounds of one way to send the request."""

    title: str
    rounds: Sequence[Round]

    def milliseconds(self, client: str, kind: Kind) -> list[float]:
        """One request's, of every round."""
        return [1000 * getattr(spent[client], kind) for spent in self.rounds]

    def ratio(self, name: str, kind: Kind) -> float:
        """The median of the rounds' own ratios."""
        columns = (self.milliseconds(c, kind) for c in ("ours", "official_sdk", "limit"))
        return median(RATIOS[name](*row) for row in zip(*columns, strict=True))

    def between(self, client: str, other: str, kind: Kind) -> float:
        """The same, of any two clients."""
        pairs = zip(self.milliseconds(client, kind), self.milliseconds(other, kind), strict=True)
        return median(one / two for one, two in pairs)
