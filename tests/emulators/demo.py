"""`make demo`: buckets are created in an emulated cloud, and the real handler deals with each.

Real are the handler (in processes of its own), the HTTP, the TLS and the signatures, which the
vendor's own signer checks. Emulated are the services that it talks to.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from alibabacloud_oss_v2 import tables as oss_tables
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from encryption_guard.cli.sweep_rows import duration
from tests.emulators.action_trail import Shape
from tests.emulators.cloud import (
    ACCOUNT,
    HUB_BUS,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
    owner_of,
)
from tests.emulators.faults import Fault, Refuse, Reset, throttle
from tests.emulators.operators_shell import run
from tests.emulators.oss_tables import ApiCall
from tests.emulators.owners_client import owners_client
from tests.emulators.resource_directory import Member

PUT = "PutTableBucketEncryption"
EXEMPTIONS = [{"bucket": "scratch-*", "reason": "public samples", "expires": "2099-12-31"}]
SECONDS_ALLOWED = 60.0
# Two members of the organization: the role of the second one does not exist yet.
MEMBER, NEWCOMER = "2222222222222222", "3333333333333333"


@dataclass(frozen=True)
class Stage:
    """One cloud, and the vendor's client in the hands of the owner of each account."""

    cloud: EmulatedCloud
    owners: Mapping[str, Any]


@dataclass(frozen=True)
class Scene:
    """What happens to a bucket, and how it has to end."""

    bucket: str
    story: str
    act: Callable[[Stage, Scene], None]
    outcome: str
    reason: str
    before: str | None = None
    after: str | None = None
    faults: tuple[Fault, ...] = ()
    found_by: str = "event"
    account_id: str = ACCOUNT

    @property
    def arn(self) -> str:
        return f"acs:osstables:{REGION}:{self.account_id}:bucket/{self.bucket}"

    @property
    def event_id(self) -> str:
        return f"demo-{self.bucket}"


def create(stage: Stage, scene: Scene) -> None:
    """The owner creates the bucket; its event follows by itself, from a member over two buses."""
    chosen = scene.before and oss_tables.models.EncryptionConfiguration(sse_algorithm=scene.before)
    stage.owners[scene.account_id].create_table_bucket(
        oss_tables.models.CreateTableBucketRequest(
            name=scene.bucket, encryption_configuration=chosen or None
        )
    )


def create_with_kms(stage: Stage, scene: Scene) -> None:
    """The bucket is there with a key of its owner's choice, which the API does not offer yet."""
    stage.cloud.tables.plant(scene.bucket, encryption="KMS")
    announce(stage, scene)


def create_by_oss(stage: Stage, scene: Scene) -> None:
    """OSS makes a bucket for itself, under a name that nobody else may use."""
    stage.cloud.tables.plant(scene.bucket, kind="oss")
    announce(stage, scene)


def fail_to_create(stage: Stage, scene: Scene) -> None:
    """The audit trail also records calls that failed."""
    announce(stage, scene, errorCode="ConflictException", requestParameters={"name": scene.bucket})


def remove_encryption(stage: Stage, scene: Scene) -> None:
    """The owner deletes the encryption of a bucket that had it."""
    arn = stage.cloud.tables.plant(scene.bucket, encryption="AES256")
    request = oss_tables.models.DeleteTableBucketEncryptionRequest(table_bucket_arn=arn)
    stage.owners[scene.account_id].delete_table_bucket_encryption(request)


def create_without_event(stage: Stage, scene: Scene) -> None:
    """The bucket is there, and no event ever tells of it."""
    stage.cloud.tables.plant(scene.bucket, account_id=scene.account_id)


def remove_encryption_without_event(stage: Stage, scene: Scene) -> None:
    """An old bucket whose encryption was taken off when nobody listened, and a table in it."""
    last_month = datetime.now(timezone.utc) - timedelta(days=30)
    arn = stage.cloud.tables.plant(scene.bucket, created_at=last_month)
    stage.cloud.tables.plant_table(arn, "sales", "invoices_2026", created_at=last_month)


def create_with_two_events(stage: Stage, scene: Scene) -> None:
    """One creation, two events of it."""
    stage.cloud.tables.plant(scene.bucket)
    announce(stage, scene)
    announce(stage, scene)


def announce(stage: Stage, scene: Scene, **record: object) -> None:
    """Publish a creation event by hand, with the bucket wherever `record` puts it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    data = {"eventName": "CreateTableBucket", "eventTime": now, "acsRegion": REGION}
    stage.cloud.bus.publish(
        {
            "id": scene.event_id,
            "source": "acs.oss",
            "specversion": "1.0",
            "type": "oss:ActionTrail:ApiCall",
            "data": data | (record or {"responseElements": {"arn": scene.arn}}),
        }
    )


def name_two_buckets(stage: Stage, scene: Scene) -> None:
    """Two places of one event disagree about the bucket."""
    named = {"resourceName": scene.arn, "requestParameters": {"name": "another"}}
    announce(stage, scene, **named)


def steer_the_host(stage: Stage, scene: Scene) -> None:
    """An ARN that would lead a signed request to somebody else's host."""
    arn = f"acs:osstables:evil.example#:{ACCOUNT}:bucket/{scene.bucket}"
    announce(stage, scene, responseElements={"arn": arn})


def name_a_foreign_bucket(stage: Stage, scene: Scene) -> None:
    """The bucket belongs to an account that the guard is not responsible for."""
    announce(stage, scene, responseElements={"arn": scene.arn.replace(ACCOUNT, "9" * 16)})


def on_put(bucket: str, *effects: Refuse | Reset, always: bool = False) -> tuple[Fault, ...]:
    """What the service does to the guard's PUT requests for this bucket."""
    times = None if always else 1
    return tuple(Fault(effect, operation=PUT, resource=bucket, times=times) for effect in effects)


def encrypted(
    bucket: str,
    story: str,
    act: Callable[[Stage, Scene], None] = create,
    *,
    reason: str = "created",
    **rest: Any,
) -> Scene:
    """A bucket that has AES256 in the end."""
    return Scene(bucket, story, act, "encrypted", reason, after="AES256", **rest)


def lost(bucket: str, story: str, refusal: Refuse, reason: str = "rejected") -> Scene:
    """A bucket whose PUT is always refused, so that its event becomes a dead letter."""
    faults = on_put(bucket, refusal, always=True)
    return Scene(bucket, story, create, "dead_lettered", reason, faults=faults)


# In this order they appear; which place of its event names a bucket is the third column's story.
SHAPES: dict[str, Shape] = {
    "customers": "referencedResources",
    "invoices": "eventSource",
    "shipments": "subject",
}
ENFORCED = [
    encrypted("orders", "created through the API"),
    encrypted("customers", "named as in OSS's PutBucket"),
    encrypted("invoices", "named by its host alone"),
    encrypted("shipments", "named by the subject"),
    encrypted("branch", "in a member account", account_id=MEMBER),
    encrypted("payments", "its event comes twice", create_with_two_events),
    encrypted(
        "returns", "not visible at first", faults=on_put("returns", Refuse(404), Refuse(404))
    ),
    encrypted(
        "sensors",
        "503, a reset, a 429",
        faults=on_put("sensors", Refuse(503), Reset(), throttle(429, retry_after=1)),
    ),
    encrypted("archive", "its encryption is removed", remove_encryption, reason="drift"),
    Scene(
        *("ledger", "created with AES256", create, "already_encrypted", "AES256"),
        before="AES256",
        after="AES256",
    ),
    Scene(
        *("secrets", "created with KMS", create_with_kms, "kept_stronger", "KMS"),
        before="KMS",
        after="KMS",
    ),
    Scene("scratch-7", "exempt until 2099", create, "skipped", "exempt: public samples"),
    Scene("oss-managed-table-bucket", "managed by OSS", create_by_oss, "skipped", "managed_by_oss"),
    Scene("twins", "creating it failed", fail_to_create, "skipped", "call_failed"),
    lost("forbidden", "the role may not", Refuse(403, "ForbiddenException", "You have no right.")),
    lost(
        "contested", "409 at every attempt", Refuse(409, message="Conflicting write."), "conflict"
    ),
    Scene("vanished", "deleted at once", announce, "dead_lettered", "not_found"),
    lost(
        "moved",
        "a redirect",
        Refuse(307, "TemporaryRedirect", "Go there.", {"Location": "https://evil.example/"}),
        "unexpected_redirect",
    ),
    Scene(
        "partners", "in another account", name_a_foreign_bucket, "dead_lettered", "foreign_account"
    ),
    Scene("twofold", "two names in one event", name_two_buckets, "dead_lettered", "invalid_event"),
    Scene("hostile", "an ARN with evil.example#", steer_the_host, "dead_lettered", "invalid_event"),
    Scene(
        *("outage", "500 for hours", create, "kept_by_platform", "UnhandledInvocationError"),
        faults=on_put("outage", Refuse(500), always=True),
    ),
]
DETECTED = [
    Scene("preview", "mode detect", create, "detected", "would_encrypt"),
]
SWEPT = [
    encrypted("forgotten", "no event ever came", create_without_event, found_by="sweep"),
    encrypted(
        "subsidiary",
        "in a member account",
        create_without_event,
        found_by="sweep",
        account_id=MEMBER,
    ),
    encrypted(
        "drifted",
        "removed without an event",
        remove_encryption_without_event,
        reason="drift",
        found_by="sweep",
    ),
    Scene(
        *("scratch-9", "exempt until 2099", create_without_event),
        *("skipped", "exempt: public samples"),
        found_by="sweep",
    ),
    replace(
        lost("denied", "the role may not", Refuse(403)), act=create_without_event, found_by="sweep"
    ),
]
# Created when the sweep has listed the buckets, so only the watch can find it.
WATCHED = [
    encrypted("unannounced", "its event never comes", create_without_event, found_by="watch"),
]
# The watch lists again after five seconds, and ends two seconds before four fifths of the time-out.
WATCH = {"GUARD_WATCH_SECONDS": "5"}
SWEEP_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Ending:
    """How a scene ended, as the function logged it, the queue holds it and the service sees it."""

    outcome: str = ""
    reason: str = ""
    named_by: str = ""
    milliseconds: int | None = None
    after: str | None = None
    found_by: str = "event"

    def is_as_it_should_be(self, scene: Scene) -> bool:
        ended = (self.outcome, self.reason, self.after, self.found_by)
        return ended == (scene.outcome, scene.reason, scene.after, scene.found_by)


def letters_of(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    """What lies in the queue: our letters, which are base64, and the platform's own records."""
    bodies = cloud.queue.bodies(QUEUE)
    return [json.loads(body if body.startswith("{") else b64decode(body)) for body in bodies]


def endings(cloud: EmulatedCloud, scenes: list[Scene]) -> Iterator[Ending]:
    """The ending of each scene, empty as long as there is none."""
    lines = cloud.outcomes()
    letters = letters_of(cloud)
    encryption = {
        bucket.arn.name: bucket.encryption.algorithm if bucket.encryption else None
        for bucket in cloud.tables.buckets()
    }
    for scene in scenes:
        after = encryption.get(scene.bucket)
        own = [line for line in lines if belongs_to(scene, line)]
        kept = [letter for letter in letters if scene.arn in letter.get("requestPayload", "")]
        if own:
            # An event that comes twice has two: whichever came first is not what matters.
            line = next((line for line in own if line["outcome"] == scene.outcome), own[0])
            took, named_by = line["time_to_encrypt_ms"], line["named_by"] or ""
            ended = (line["outcome"], line["reason"], named_by, took, after)
            yield Ending(*ended, found_by=line["found_by"])
        elif kept:
            condition = kept[0]["requestContext"]["condition"]
            yield Ending("kept_by_platform", condition, after=after)
        else:
            yield Ending(after=after)


def belongs_to(scene: Scene, line: dict[str, Any]) -> bool:
    """Whether a log line is about the scene's bucket, or, where it names none, its event."""
    if line.get("kind") == "table":
        return False
    return line.get("event_id") == scene.event_id or line["arn"] == scene.arn


COLOURS = {
    "encrypted": "green",
    "already_encrypted": "green",
    "kept_stronger": "green",
    "skipped": "cyan",
    "detected": "cyan",
    "dead_lettered": "yellow",
    "kept_by_platform": "yellow",
}


# Column, and the width of terminal from which on it is shown.
COLUMNS = {
    "bucket": 0,
    "what happens": 110,
    "outcome": 0,
    "reason": 0,
    "named by": 148,
    "found by": 100,
    "took": 90,
    "encryption": 80,
}


def results_table(scenes: list[Scene], ended: list[Ending], *, width: int) -> Table:
    """One row for each bucket, with as many columns as there is room for."""
    # An event names its bucket somewhere; a list is found by a sweep or by the watch.
    hidden = "found by" if all(scene.found_by == "event" for scene in scenes) else "named by"
    shown = [name for name, room in COLUMNS.items() if width >= room and name != hidden]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True, min_width=1)
    for column in shown:
        table.add_column(column, no_wrap=True, justify="right" if column == "took" else "left")
    for scene, ending in zip(scenes, ended, strict=True):
        took = "" if ending.milliseconds is None else duration(ending.milliseconds)
        before, after = scene.before or "none", ending.after or "none"
        cells = {
            "bucket": Text(scene.bucket),
            "what happens": Text(scene.story, "dim"),
            "outcome": Text(ending.outcome, COLOURS.get(ending.outcome, "")),
            "reason": Text(ending.reason),
            "named by": Text(ending.named_by, "dim"),
            "found by": Text(ending.found_by if ending.outcome else "", "dim"),
            "took": Text(took),
            "encryption": Text(f"{before} → {after}" if ending.outcome else before),
        }
        well = Text("✓", "green") if ending.is_as_it_should_be(scene) else Text("✗", "red")
        table.add_row(well if ending.outcome else "", *(cells[column] for column in shown))
    return table


def play(
    scenes: list[Scene],
    *,
    mode: str,
    console: Console,
    afterwards: Callable[[EmulatedCloud], None] = lambda _: None,
    watched: Sequence[Scene] = (),
) -> list[Ending]:
    """Play the scenes in one cloud, showing each ending as it comes; then what follows them.

    With scenes to be `watched` the timer fires after the others, and these follow its first list.
    """

    def shape_of(call: ApiCall) -> Shape:
        return SHAPES.get(call.bucket or "", "responseElements")

    environment = {
        "GUARD_MODE": mode,
        "GUARD_EXEMPTIONS": json.dumps(EXEMPTIONS),
        "GUARD_ACCOUNTS": "organization",
    }
    with (
        emulated_cloud(
            environment=environment | (WATCH if watched else {}),
            shape_of=shape_of,
            instances=3,
            sweep_seconds=SWEEP_TIMEOUT_SECONDS,
            members=[Member(MEMBER), Member(NEWCOMER)],
            forwards_to=HUB_BUS,
        ) as cloud,
        owners_client(cloud) as owner,
        owners_client(cloud, owner_of(MEMBER)) as owner_of_member,
    ):
        leave_unprepared(cloud, NEWCOMER)
        stage = Stage(cloud, {ACCOUNT: owner, MEMBER: owner_of_member})
        for scene in scenes:
            cloud.tables.faults.add(*scene.faults)
            scene.act(stage, scene)
        if watched:
            threading.Thread(target=lambda: cloud.invocations.extend(cloud.sweep())).start()
            wait_for_list(cloud)
            for scene in watched:
                scene.act(stage, scene)
        scenes = [*scenes, *watched]
        show_endings(cloud, scenes, console)
        cloud.bus.join(timeout=SECONDS_ALLOWED)
        ended = list(endings(cloud, scenes))
        afterwards(cloud)
        return ended


def leave_unprepared(cloud: EmulatedCloud, account_id: str) -> None:
    """Let a member have buckets, and no role for the guard."""
    cloud.sts.remove(cloud.member_roles[account_id])
    for name in ("unseen-1", "unseen-2"):
        cloud.tables.plant(name, account_id=account_id)


def wait_for_list(cloud: EmulatedCloud) -> None:
    """Wait until the buckets were listed; whatever is created then is not in that list."""
    until = time.monotonic() + SECONDS_ALLOWED
    while time.monotonic() < until:
        asked = [(each.operation, each.status) for each in cloud.tables.requests]
        if ("ListTableBuckets", 200) in asked:
            return
        time.sleep(0.01)


def show_endings(cloud: EmulatedCloud, scenes: list[Scene], console: Console) -> None:
    """Show the endings as they come, until there is one for each scene."""
    until = time.monotonic() + SECONDS_ALLOWED
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while True:
            ended = list(endings(cloud, scenes))
            live.update(results_table(scenes, ended, width=console.width))
            if all(ending.outcome for ending in ended) or time.monotonic() > until:
                return
            time.sleep(0.1)


INTRODUCTION = """\
[bold]oss-tables-encryption-guard[/bold] encrypts each OSS table bucket when it is created.

OSS Tables, ActionTrail with EventBridge, Function Compute and SMQ are emulated on loopback.
The handler is the real one. It runs in its own processes, over HTTP and TLS; the vendor's signer
checks each signature.
"""


@dataclass
class Shell:
    """Where somebody types commands, and what comes of them."""

    console: Console
    said: list[tuple[str, str]] = field(default_factory=list)

    def type(self, cloud: EmulatedCloud, *arguments: str) -> None:
        """Run a command against the cloud."""
        done = run(cloud, *arguments, columns=self.console.width)
        self.said.append((" ".join(arguments), done.stdout + done.stderr))

    def show(self) -> None:
        """Print what was typed, and what came."""
        for typed, came in self.said:
            self.console.print(f"[bold]$ encryption-guard {typed}[/bold]")
            self.console.print(Text(came))


@dataclass
class Auditor(Shell):
    """Somebody who wants to know of every account, bucket and table."""

    from_before: list[str] = field(default_factory=list)
    not_prepared: list[str] = field(default_factory=list)

    def __call__(self, cloud: EmulatedCloud) -> None:
        self.from_before = [
            f"{line['bucket']}.{line['namespace']}.{line['table']}: {line['detail']}"
            for line in cloud.tables_found()
            if line["reason"] == "made_before"
        ]
        self.not_prepared = [
            line["detail"] for line in cloud.accounts_found() if line["reason"] == "not_prepared"
        ]
        self.type(cloud, "sweep", "--region", REGION, "--tables")

    def show(self) -> None:
        """Print what the sweep says of tables and accounts, then what was typed."""
        findings = {"Unprotected": self.from_before, "Not prepared": self.not_prepared}
        for name, lines in findings.items():
            for line in lines:
                # As text: in markup `:ram:` is the picture of an animal.
                self.console.print(Text.assemble((name, "bold"), f" {line}\n"))
        super().show()

    @property
    def succeeded(self) -> bool:
        """One bucket that is not encrypted, one table from before, one account without a role."""
        ((_, came),) = self.said
        found = (len(self.from_before), len(self.not_prepared))
        return "1 not encrypted" in came and found == (1, 1)


@dataclass
class Operator(Shell):
    """Somebody who reads the dead letters, mends what can be mended, and redrives them."""

    still_open: list[str] = field(default_factory=list)
    came_back: list[int] = field(default_factory=list)

    def __call__(self, cloud: EmulatedCloud) -> None:
        self.type(cloud, "dead-letters", "list")
        cloud.tables.faults.clear()
        self.type(cloud, "dead-letters", "redrive", "--apply")
        cloud.api.join(timeout=SECONDS_ALLOWED)
        self.type(cloud, "dead-letters", "list")
        self.came_back = [letter.get("redrives", 0) for letter in letters_of(cloud)]
        encrypted = {bucket.arn.name for bucket in cloud.tables.buckets() if bucket.encryption}
        self.still_open = [name for name in FIXED if name not in encrypted]

    @property
    def succeeded(self) -> bool:
        """What could be mended is encrypted; what could not is back, and counted.

        Two events name no bucket that could be encrypted, and are sent nowhere.
        """
        return not self.still_open and sorted(self.came_back) == [0, 0, 1, 1]


# What an operator can do something about; the other letters are no bucket's, or nobody's.
FIXED = ("forbidden", "contested", "moved", "outage")


def main() -> int:
    """Play everything; 0 if each bucket ended as it should."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(INTRODUCTION)
    began = time.monotonic()
    operator = Operator(console)
    detected = play(DETECTED, mode="detect", console=console)
    auditor = Auditor(console)
    swept = play(SWEPT, mode="enforce", console=console, afterwards=auditor, watched=WATCHED)
    enforced = play(ENFORCED, mode="enforce", console=console, afterwards=operator)
    scenes, ended = ENFORCED + DETECTED + SWEPT + WATCHED, enforced + detected + swept

    by_events = len(ENFORCED) + len(DETECTED)
    console.print(results_table(scenes[:by_events], ended[:by_events], width=console.width))
    console.print(
        "\n[bold]The sweep, on a timer, finds what events miss. Until the timer fires again, the"
        " watch finds new buckets.[/bold]\n"
    )
    console.print(results_table(SWEPT + WATCHED, swept, width=console.width))
    auditor.show()
    console.print(
        "\n[bold]The operator lists the dead letters, fixes the causes, and redrives the events."
        "[/bold]\n"
    )
    operator.show()
    wrong = [
        scene.bucket
        for scene, end in zip(scenes, ended, strict=True)
        if not end.is_as_it_should_be(scene)
    ]
    took = time.monotonic() - began
    if wrong or not operator.succeeded or not auditor.succeeded:
        unexpected = ", ".join(wrong + operator.still_open) or "the output of a command"
        console.print(f"\n[red]Unexpected: {unexpected}.[/red]")
        return 1
    console.print(
        f"[green]All {len(scenes)} ended as expected, {len(FIXED)} dead letters were fixed and"
        f" redriven[/green], in {took:.0f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
