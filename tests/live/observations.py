"""What was seen while one bucket was made, watched and deleted: values, from which all is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

AES256 = "AES256"


@dataclass(frozen=True)
class Said:
    """A service's answer in short; without a status nobody answered, and `code` says how so.

    Never its message: that may quote the request, and so its signature.
    """

    status: int | None
    code: str = ""

    @property
    def done(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def __str__(self) -> str:
        if self.status is None:
            return f"no answer ({self.code or 'for no known reason'})"
        return f"{self.status} {self.code}".rstrip()


@dataclass(frozen=True)
class Told:
    """An answer with the JSON object that came with it."""

    said: Said
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encryption:
    """The answer to GetTableBucketEncryption; no algorithm is an empty configuration."""

    said: Said
    algorithm: str = ""


@dataclass(frozen=True)
class Heard:
    """A message of the temporary queue as it lay there, and when it was first seen there."""

    body: str
    at: float


@dataclass(frozen=True)
class Letters:
    """What a glance at the dead-letter queue showed, or why there was nothing to see."""

    trouble: str = ""
    seen: int = 0
    about_the_bucket: int = 0


@dataclass(frozen=True)
class Reading:
    """What the guard's own parser, and the rule of template.yaml, make of an event."""

    named_by: str
    bucket: str
    places: tuple[str, ...]
    taken_by_the_rule: bool
    source: str
    type: str
    service: str
    event_type: str
    version: str
    times: Mapping[str, str]
    shapes: Mapping[str, str]


@dataclass(frozen=True)
class Observed:
    """What is None was not observed. Times are seconds, from the answer to what was asked."""

    created: Said | None = None
    # Instants of the monotonic clock: when these were answered.
    created_at: float = 0.0
    decrypted_at: float = 0.0
    request_id: str | None = None
    arn: str | None = None
    first_get: Encryption | None = None
    encrypted_after: float | None = None
    waited: float = 0.0
    # Empty where the temporary rule was there; else why it was not.
    deaf: str = "nobody listened for events"
    event: bytes | None = None
    reading: Reading | None = None
    event_after: float | None = None
    event_waited: float = 0.0
    # base64 or raw
    body: str | None = None
    plain_host: Said | None = None
    virtual_host: Said | None = None
    # Why the two hosts were not told apart.
    one_host: str = ""
    decrypted: Said | None = None
    get_after_delete: Encryption | None = None
    drift_event_after: float | None = None
    drift_encrypted_after: float | None = None
    drift_waited: float = 0.0
    kms: Said | None = None
    long_name: Said | None = None
    gone: Said | None = None
    letters: Letters | None = None


@dataclass(frozen=True)
class Source:
    """A service that EventBridge has events of, and their types."""

    name: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A record of ActionTrail, and when it could be looked up, in seconds after the call.

    `not_before` is when it could not yet; None where the first look found it.
    """

    record: Mapping[str, Any]
    after: float
    not_before: float | None


@dataclass(frozen=True)
class Traced:
    """An event that passed the bus."""

    event_id: str
    source: str
    type: str


@dataclass(frozen=True)
class Trace:
    """One step of an event on the bus, as it came; times are in milliseconds."""

    action: str
    rule: str
    received: str
    notified: str
    status: str
    latency: str


@dataclass
class Learnt:
    """What ActionTrail and EventBridge told when they were asked afterwards.

    `why_not` has a sentence for each thing that they did not tell.
    """

    # By the event's name.
    records: dict[str, Found] = field(default_factory=dict)
    # What the guard's parser makes of the creation's record.
    reading: Reading | None = None
    # Names of other records about the bucket, where its creation was not found.
    other_names: tuple[str, ...] = ()
    sources: tuple[Source, ...] | None = None
    # How many lists of table buckets ActionTrail showed, and how many of them the sweep function's.
    lists: tuple[int, int] | None = None
    # Whether EventBridge says that the rule takes it, by how the event was spelled.
    takes: dict[str, bool] = field(default_factory=dict)
    steps: dict[Traced, tuple[Trace, ...]] = field(default_factory=dict)
    # When the bucket was created, by the ids of the event and of its record.
    called_at: dict[str, datetime] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """What Function Compute tells of the functions, each by its name in the template."""

    functions: Mapping[str, Told]
    invocations: Mapping[str, Told]
    triggers: Mapping[str, Told]
    async_configs: Mapping[str, Told]


@dataclass(frozen=True)
class Check:
    """Something that has to be so, whether it is, and what was seen of it."""

    what: str
    well: bool
    seen: str


@dataclass(frozen=True)
class Fact:
    """Something that no documentation settles: the answer, or why there is none."""

    question: str
    answer: str | None
    why_not: str = ""


def settled(question: str, answer: str) -> Fact:
    return Fact(question, answer)


def open_still(question: str, why_not: str) -> Fact:
    return Fact(question, None, why_not)
