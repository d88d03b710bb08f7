"""What can go wrong between a client and a service, and when it does."""

import fnmatch
import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Refuse:
    """An answer with this status, in the service's own error form; `code` has a default there."""

    status: int
    code: str | None = None
    message: str = "The emulator was told to refuse this request."
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """RST instead of an answer, before the request's body is read."""


@dataclass(frozen=True)
class ResetMidAnswer:
    """RST after half of the answer's bytes."""


@dataclass(frozen=True)
class Truncate:
    """The answer promises `missing` bytes more than come before the connection is closed.

    No client misses the body of a 204: use ResetMidAnswer there.
    """

    missing: int = 16


@dataclass(frozen=True)
class Delay:
    """Nothing happens for so long; `after`: it is done at once and answered late."""

    seconds: float


@dataclass(frozen=True)
class Garbage:
    """Bytes that are not HTTP, then the end of the connection."""

    data: bytes = b"\x16\x03\x01\x00\xff this is not HTTP\r\n\r\n"


@dataclass(frozen=True)
class GarbageBody:
    """A 200 whose body is none of the service's; `after`: with the status that it earned."""

    body: bytes = b"<html>\xff\xfe{not what you asked for"


@dataclass(frozen=True)
class Drip:
    """The head or the body of the answer comes byte by byte, with a pause before each."""

    pause_seconds: float
    part: Literal["head", "body"] = "head"


@dataclass(frozen=True)
class SkewClock:
    """The service's clock is so many seconds ahead (or behind): it judges and dates by that."""

    seconds: float


@dataclass(frozen=True)
class Strike:
    """Whoever asked is killed while it waits for the answer: see `EmulatedService.on_strike`."""


Effect = (
    Refuse
    | Reset
    | ResetMidAnswer
    | Truncate
    | Delay
    | Garbage
    | GarbageBody
    | Drip
    | SkewClock
    | Strike
)

INSTEAD_OF_THE_ANSWER = (Refuse, Reset, Garbage, GarbageBody, Strike)


def throttle(status: Literal[429, 503] = 503, *, retry_after: float | None = None) -> Refuse:
    """The answer of a service that has too much to do."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Refuse(status, message="The request rate is too high. Slow down.", headers=headers)


def false_success(
    form: Literal["document", "header"], code: str = "InternalError"
) -> Refuse | GarbageBody:
    """An error with the status 200, told by an `<Error>` document or by `x-oss-error-type`."""
    if form == "header":
        return Refuse(200, code)
    return GarbageBody(f"<Error><Code>{code}</Code></Error>".encode())


@dataclass(frozen=True)
class Fault:
    """An effect, and the requests that it meets.

    `operation` and `resource` (name of the bucket or queue) are globs. `times` None is always.
    `after`: the operation is carried out first, and then its answer is lost to the effect. A cut,
    slow or half-sent answer needs an answer, so for those the operation is always carried out.
    """

    effect: Effect
    operation: str = "*"
    resource: str = "*"
    times: int | None = None
    probability: float = 1.0
    after: bool = False

    def concerns(self, operation: str | None, resource: str | None) -> bool:
        return fnmatch.fnmatchcase(operation or "", self.operation) and fnmatch.fnmatchcase(
            resource or "", self.resource
        )

    @property
    def carries_out(self) -> bool:
        """Whether the operation takes place at all."""
        return self.after or not isinstance(self.effect, INSTEAD_OF_THE_ANSWER)

    @property
    def ends_it(self) -> bool:
        """Whether it decides the answer, so that no other effect can."""
        return not isinstance(self.effect, (Delay, SkewClock))


class Faults:
    """The faults that are switched on. Any thread may add, clear and consult them.

    `reads_bodies`: whether it takes a request's body to know what it meets.
    """

    reads_bodies = False

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults: list[tuple[Fault, int | None]] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults += [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter([fault for fault, left in self._faults if left != 0])

    def met_by(
        self,
        operation: str | None,
        resource: str | None,
        body: bytes = b"",  # noqa: ARG002  for those that read it
    ) -> list[Fault]:
        """Those that this request meets, used up by one. Delays and skews add up; of the others
        it meets the first. `body` is empty unless they read bodies."""
        met: list[Fault] = []
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if left == 0 or not fault.concerns(operation, resource):
                    continue
                if fault.ends_it and any(earlier.ends_it for earlier in met):
                    continue
                if fault.probability < 1 and self._random.random() >= fault.probability:
                    continue
                met.append(fault)
                self._faults[index] = (fault, None if left is None else left - 1)
        return met
