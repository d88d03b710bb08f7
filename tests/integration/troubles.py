"""What may go wrong between a client and an emulated service, by its name."""

from __future__ import annotations

from tests.emulators.faults import (
    Delay,
    Drip,
    Effect,
    Garbage,
    Refuse,
    Reset,
    ResetMidAnswer,
    Truncate,
    throttle,
)

# What a later try may find over.
PASSING: dict[str, Refuse] = {
    "429": throttle(429, retry_after=1),
    "500": Refuse(500),
    "503": throttle(503),
    "408": Refuse(408),
}
# Nothing that is an answer, or none in time.
UNANSWERED: dict[str, Effect] = {
    "a reset": Reset(),
    "a reset in the middle of the answer": ResetMidAnswer(),
    "a truncated answer": Truncate(),
    "no HTTP": Garbage(),
    "nothing": Garbage(b""),
    "a time-out": Delay(60),
    "a dripping answer": Drip(0.02),
}
