"""Time that nobody waits for: of commands and clients in this process, and of the queue beside."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.emulators.emulated_service import utc_now


@dataclass
class SkippingClock:
    """Real time, but for sleeping: that is recorded, and counts as if it had passed."""

    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.slept)

    def shifted_now(self) -> datetime:
        """What a service's clock shows for which that time has passed too."""
        return utc_now() + timedelta(seconds=sum(self.slept))
