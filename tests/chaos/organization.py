"""An organization in shares while services fail and instances die, and a judge at the end.

`python -m tests.chaos.organization` has 200 accounts with ten table buckets in each of eight
regions, a tenth of them open. The timer fires until so many shares were killed at a moment by lot,
and once more. The last round has the faults too, and its totals are held against the service's own
state. The seed makes the same plan again; the machine's own timing is not in it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.emulators.cloud import ACCOUNT, QUEUE, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Fault, Refuse, Reset, throttle
from tests.emulators.function_compute import Interruption, Invocation, Kill
from tests.emulators.resource_directory import Member
from tests.emulators.trust_policies import TrustPolicy

REGIONS = (
    *("cn-hangzhou", "cn-shanghai", "cn-beijing", "cn-shenzhen", "cn-wulanchabu"),
    *("ap-southeast-1", "eu-central-1", "us-east-1"),
)
# A bucket of each ten, and with what it has to end: None is none.
KINDS = {
    "open": "AES256",
    "exempt": None,
    "kms": "KMS",
    "sm4": "SM4",
    **{f"aes-{number}": "AES256" for number in range(6)},
}
EXEMPTIONS = '[{"bucket": "exempt-*", "reason": "samples"}]'
# Each of these is over by a later try, most within the same request.
TROUBLES = (
    Fault(throttle(503), operation="ListTableBuckets", probability=0.03),
    Fault(throttle(429), operation="PutTableBucketEncryption", probability=0.1),
    Fault(Refuse(500), operation="*Encryption", probability=0.03),
    Fault(Reset(), operation="*", probability=0.01),
    Fault(Reset(), operation="PutTableBucketEncryption", probability=0.05, after=True),
)
THROTTLED = Fault(Refuse(400, "Throttling.User"), operation="AssumeRole", probability=0.2)
# A share is killed within so many milliseconds.
LATEST_DEATH_MS = 800
PUT = "PutTableBucketEncryption"


@dataclass(frozen=True)
class Plan:
    """The accounts beside the own one, with ten buckets in each region; so many shares are killed.

    Every 50th account, the 7th first, is not prepared.
    """

    accounts: int
    regions: Sequence[str] = REGIONS
    deaths: int = 12
    seed: int = 20261130
    instances: int = 4

    @property
    def account_ids(self) -> list[str]:
        """The ids of the members."""
        return [f"88000000000{number:05}" for number in range(self.accounts)]

    @property
    def unprepared(self) -> list[str]:
        """Those whose role trusts nobody."""
        return self.account_ids[6::50]


@dataclass
class History:
    """What happened: rounds of calls, and what the services know at the end."""

    started: dict[str, list[str]]
    last: list[dict[str, Any]]
    kept: list[str]
    planned: Mapping[str, str | None]
    found: Mapping[str, str | None]
    put: Counter[str | None]
    wrong_keys: list[str | None]
    deaths: list[int] = field(default_factory=list)
    rounds: int = 0


def run(plan: Plan) -> History:
    """Let the timer fire until all deaths are dealt, and once more."""
    chance, lock = random.Random(plan.seed), threading.Lock()
    deaths: list[int] = []

    def dies(event: bytes) -> Interruption | None:
        with lock:
            if b'"share"' not in event or len(deaths) >= plan.deaths:
                return None
            deaths.append(chance.randrange(LATEST_DEATH_MS))
            return Kill(deaths[-1])

    environment = {
        "GUARD_ACCOUNTS": "organization",
        "GUARD_SWEEP_REGIONS": ",".join(plan.regions),
        "GUARD_SWEEP_EVERY": "0",
        "GUARD_EXEMPTIONS": EXEMPTIONS,
    }
    with emulated_cloud(
        environment=environment,
        members=[Member(each) for each in plan.account_ids],
        sweep_instances=plan.instances,
        sweep_chaos=dies,
    ) as cloud:
        _forbid(cloud, plan.unprepared)
        planned = dict(_plant(cloud, [ACCOUNT, *plan.account_ids], plan.regions))
        cloud.tables.faults.add(*TROUBLES)
        cloud.sts.faults.add(THROTTLED)
        rounds = 0
        while len(deaths) < plan.deaths:
            _round(cloud)
            rounds += 1
        started, last = _round(cloud)
        return History(
            started=started,
            last=last,
            kept=cloud.queue.bodies(QUEUE),
            planned=planned,
            found={arn: cloud.tables.encryption(arn) for arn in planned},
            put=Counter(each.resource for each in cloud.tables.requests if each.operation == PUT),
            wrong_keys=[
                each.operation for each in cloud.tables.requests if each.status in (401, 403)
            ],
            deaths=deaths,
            rounds=rounds + 1,
        )


def _forbid(cloud: EmulatedCloud, account_ids: Iterable[str]) -> None:
    for account_id in account_ids:
        role = cloud.member_roles[account_id]
        cloud.sts.remove(role)
        cloud.sts.plant(replace(role, trust=TrustPolicy(())))


def _plant(
    cloud: EmulatedCloud, account_ids: Iterable[str], regions: Sequence[str]
) -> Iterator[tuple[str, str | None]]:
    for account_id in account_ids:
        for region in regions:
            for kind, encryption in KINDS.items():
                arn = cloud.tables.plant(
                    f"{kind}-bucket",
                    account_id=account_id,
                    region=region,
                    encryption=None if kind == "open" else encryption,
                )
                yield arn, encryption


def _round(cloud: EmulatedCloud) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """The timer fires: the shares that it starts, and what those returned that did not fail."""
    before = len(cloud.share_invocations)
    (call,) = cloud.sweep()
    shares = cloud.shares(timeout=600)[before:]
    return json.loads(call.result or "")["shares"], [*_results(shares)]


def _results(invocations: Iterable[Invocation]) -> Iterator[dict[str, Any]]:
    return (json.loads(each.result) for each in invocations if each.result)


def totals(history: History) -> Counter[str]:
    """The totals of all shares of the last round."""
    sums: Counter[str] = Counter()
    for result in history.last:
        sums.update(result["totals"])
    return sums


def violations(plan: Plan, history: History) -> list[str]:
    """What must not be: a sentence for each."""
    return [
        *_of_buckets(plan, history),
        *_of_totals(plan, history),
        *_of_shares(plan, history),
        *(f"{each} was asked with a key that may not" for each in history.wrong_keys),
    ]


def _of_buckets(plan: Plan, history: History) -> Iterator[str]:
    """Each is as planned or has its finding, and nothing else was ever changed."""
    told = {each["arn"] for result in history.last for each in _unsettled(result)}
    for arn, expected in history.planned.items():
        is_prepared = arn.split(":")[3] not in plan.unprepared
        is_open = arn.rpartition("/")[2].startswith("open-")
        due = expected if is_prepared or not is_open else None
        if history.found[arn] != due and arn not in told:
            yield f"{arn} ended with {history.found[arn]} and without a finding"
    for name in history.put:
        if name and not name.startswith("open-"):
            yield f"{name} was changed"


def _unsettled(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*result["problems"], *result["not_reached"]]


def _of_totals(plan: Plan, history: History) -> Iterator[str]:
    """The sum of all shares is the service's own state."""
    entered = {
        arn: found
        for arn, found in history.found.items()
        if arn.split(":")[3] not in plan.unprepared
    }
    sums = totals(history)
    exempt = sum(arn.rpartition("/")[2].startswith("exempt-") for arn in entered)
    encrypted = sum(found is not None for found in entered.values())
    if (sums["buckets"], sums["exempt"]) != (len(entered), exempt):
        yield f"{sums['buckets']} buckets, {sums['exempt']} exempt: {len(entered)}, {exempt} are"
    if sums["encrypted"] + sums["unknown"] + sums["not_encrypted"] != len(entered) - exempt:
        yield "a bucket is counted twice, or not at all"
    if not encrypted - sums["unknown"] <= sums["encrypted"] <= encrypted:
        yield f"{sums['encrypted']} are said to be encrypted, and {encrypted} are"


def _of_shares(plan: Plan, history: History) -> Iterator[str]:
    """Each account is in one share, and each share that was started ended."""
    accounts = Counter(each for share in history.started.values() for each in share)
    if accounts != Counter([ACCOUNT, *plan.account_ids]):
        yield "an account is in no share, or in two"
    if Counter(result["share"] for result in history.last) != Counter(history.started.keys()):
        yield "a share of the last round has no result"
    told = sorted(
        each["account"]
        for result in history.last
        for each in result["problems"]
        if each["reason"] == "not_prepared"
    )
    if told != sorted(plan.unprepared):
        yield f"not prepared are said to be {told}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the figures, and return 1 if there is a violation."""
    parser = argparse.ArgumentParser(description="Sweep an organization while instances die.")
    parser.add_argument("--accounts", type=int, default=199, help="beside the own (default: 199)")
    parser.add_argument("--deaths", type=int, default=40, help="killed shares (default: 40)")
    parser.add_argument("--seed", type=int, default=Plan(0).seed)
    options = parser.parse_args(arguments)
    plan = Plan(options.accounts, deaths=options.deaths, seed=options.seed)
    began = time.monotonic()
    history = run(plan)
    found = violations(plan, history)
    print(
        f"{len(history.planned)} buckets of {options.accounts + 1} accounts, seed {plan.seed}:"
        f" {len(history.deaths)} shares killed in {history.rounds} rounds,"
        f" {len(history.kept)} kept by the platform, {dict(totals(history))},"
        f" {time.monotonic() - began:.0f} s"
    )
    for each in found:
        print(each)
    print(f"{len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
