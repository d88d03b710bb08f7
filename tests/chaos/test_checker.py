"""The judge of a storm: it is content with what was promised, and with nothing less."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import FIELDS, Verdict, check
from tests.chaos.plan import GET, PUT, Creation, Delivery, Fate, Plan, event_id
from tests.chaos.storm import Asked, History, Try

ROOT = Path(__file__).parents[2]
ACCOUNT = "1234567890123456"


def creation(number: int, fate: Fate) -> Creation:
    text = json.dumps({"id": event_id(number), "fate": fate})
    return Creation(number, fate, f"storm-{number:06}", ACCOUNT, text.encode(), {})


def storm(*creations: Creation) -> Plan:
    deliveries = tuple(Delivery((each.number,), each.event) for each in creations)
    return Plan(creations, deliveries, outage_seconds=0, rotate_every=None)


def outcome(number: int, kind: str, reason: str, request: str | None = None) -> dict[str, Any]:
    told = {"outcome": kind, "reason": reason, "event_id": event_id(number)}
    return dict.fromkeys(FIELDS) | told | {"oss_request_id": request}


def tried(plan: Plan, *lines: dict[str, Any], condition: str | None = None) -> tuple[Try, ...]:
    """A try of each delivery, with its line."""
    return tuple(
        Try(each.payload, each.creations, (line,), json.dumps(line), condition, cold=False)
        for each, line in zip(plan.deliveries, lines, strict=True)
    )


def asked(number: int, operation: str, request: str, status: int | None = 200) -> Asked:
    return Asked(operation, f"storm-{number:06}", request, status, undisturbed=True)


def letter(made_of: Creation, reason: str = "rejected", *, id: str = "letter-1") -> str:
    document = {
        "id": id,
        "reason": reason,
        "event": made_of.event.decode(),
        "event_encoding": "utf-8",
        "event_id": event_id(made_of.number),
    }
    return b64encode(json.dumps(document).encode()).decode()


def record(payload: bytes) -> str:
    """What the platform keeps of an event that failed at every try."""
    return json.dumps({"requestPayload": payload.decode()})


ENCRYPTED, REFUSED, EXEMPT, STRONGER = (
    creation(0, "ordinary"),
    creation(1, "ordinary"),
    creation(2, "exempt"),
    creation(3, "kms"),
)
PLAN = storm(ENCRYPTED, REFUSED, EXEMPT, STRONGER)
AS_PROMISED = History(
    tries=tried(
        PLAN,
        outcome(0, "encrypted", "created", "put-0"),
        outcome(1, "dead_lettered", "rejected", "put-1"),
        outcome(2, "skipped", "exempt: public samples"),
        outcome(3, "kept_stronger", "KMS", "get-3"),
    ),
    asked=(
        asked(0, GET, "get-0"),
        asked(0, PUT, "put-0"),
        asked(1, PUT, "put-1", 403),
        asked(3, GET, "get-3"),
    ),
    sends=1,
    messages=(letter(REFUSED),),
    encryption={
        "storm-000000": "AES256",
        "storm-000001": None,
        "storm-000002": None,
        "storm-000003": "KMS",
    },
    afterwards={
        "storm-000000": "AES256",
        "storm-000001": "AES256",
        "storm-000002": None,
        "storm-000003": "KMS",
    },
)


def judged(**changes: Any) -> Verdict:
    return check(PLAN, replace(AS_PROMISED, **changes))


def kinds(verdict: Verdict) -> set[tuple[str, int | None]]:
    return {(each.kind, each.number) for each in verdict.violations}


def with_line(number: int, **changes: Any) -> tuple[Try, ...]:
    """The tries, one of which logged and returned something else."""
    tries = list(AS_PROMISED.tries)
    line = {**tries[number].logged[0], **changes}
    tries[number] = replace(tries[number], logged=(line,), result=json.dumps(line))
    return tuple(tries)


def test_what_was_promised_is_no_violation() -> None:
    """An encrypted bucket, a letter, an explained skip and a stronger choice that was kept."""
    verdict = judged()

    assert verdict.violations == ()
    assert dict(verdict.ends) == {
        "encrypted": 1,
        "dead letter": 1,
        "skipped": 1,
        "kept_stronger": 1,
    }


def test_an_event_that_failed_to_the_end_and_is_kept_by_the_platform_is_not_lost() -> None:
    """The platform's own record of it is an end like a letter."""
    failed = replace(AS_PROMISED.tries[1], logged=(), result=None, condition="Unhandled")
    tries = (AS_PROMISED.tries[0], failed, *AS_PROMISED.tries[2:])

    verdict = judged(tries=tries, messages=(record(REFUSED.event),))

    assert verdict.violations == ()
    assert verdict.ends["kept by the platform"] == 1


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"messages": ()}, ("lost", 1), id="a letter that is not there"),
        pytest.param(
            {"messages": (), "tries": with_line(1, outcome="skipped", reason="gone")},
            ("untold", 1),
            id="a skip that nothing explains",
        ),
        pytest.param(
            {"encryption": {**AS_PROMISED.encryption, "storm-000000": None}},
            ("false success", 0),
            id="encrypted, it says, and is not",
        ),
        pytest.param(
            {"tries": with_line(0, oss_request_id="put-9")},
            ("false success", 0),
            id="encrypted, by an answer that nobody gave",
        ),
        pytest.param(
            {"asked": (*AS_PROMISED.asked[:1], asked(0, PUT, "put-0", 500))},
            ("false success", 0),
            id="encrypted, by an answer that was no success",
        ),
        pytest.param(
            {"tries": with_line(0, reason="drift")}, ("untold", 0), id="another reason than its own"
        ),
        pytest.param(
            {"asked": (*AS_PROMISED.asked, asked(2, GET, "get-2"))},
            ("touched", 2),
            id="an exempt bucket that was asked about",
        ),
        pytest.param(
            {"asked": (*AS_PROMISED.asked, asked(3, PUT, "put-3"))},
            ("touched", 3),
            id="a stronger choice that was overwritten",
        ),
        pytest.param(
            {"asked": AS_PROMISED.asked + 9 * (asked(0, PUT, "put-again"),)},
            ("unbounded", 0),
            id="too many requests",
        ),
        pytest.param(
            {"tries": AS_PROMISED.tries + 4 * AS_PROMISED.tries[:1]},
            ("unbounded", 0),
            id="too many tries",
        ),
        pytest.param({"sends": 17}, ("unbounded", None), id="too many letters sent"),
        pytest.param(
            {"messages": (letter(replace(REFUSED, event=REFUSED.event + b" ")),)},
            ("altered", None),
            id="a letter whose event is another",
        ),
        pytest.param(
            {"messages": (letter(REFUSED), letter(REFUSED, id="letter-2"))},
            ("altered", None),
            id="one event, one reason, two ids",
        ),
        pytest.param(
            {"messages": (letter(REFUSED), record(b"{}"))},
            ("altered", None),
            id="a record of what nobody delivered",
        ),
        pytest.param(
            {"tries": (replace(AS_PROMISED.tries[0], result="null"), *AS_PROMISED.tries[1:])},
            ("untold", None),
            id="returned what was not logged",
        ),
        pytest.param({"afterwards": AS_PROMISED.encryption}, ("lost", 1), id="open for ever after"),
        pytest.param(
            {"afterwards": {**AS_PROMISED.afterwards, "storm-000002": "AES256"}},
            ("touched", 2),
            id="an exempt bucket that was encrypted afterwards",
        ),
    ],
)
def test_each_broken_promise_is_found(
    changes: dict[str, Any], found: tuple[str, int | None]
) -> None:
    """Whatever differs from what was promised is a violation, by its kind and its creation."""
    assert found in kinds(judged(**changes))


def test_an_event_of_which_nothing_is_known_is_lost() -> None:
    """Silence is the one end that may not be."""
    verdict = judged(tries=(AS_PROMISED.tries[0], *AS_PROMISED.tries[2:]), messages=())

    assert verdict.ends["lost"] == 1
    assert ("lost", 1) in kinds(verdict)


def test_an_open_bucket_that_nobody_keeps_is_lost_whatever_was_told() -> None:
    """A bucket that is open at the end, of which the log says that all is well."""
    tries = with_line(1, outcome="already_encrypted", reason="AES256", oss_request_id="get-1")

    verdict = judged(tries=tries, messages=(), asked=(*AS_PROMISED.asked, asked(1, GET, "get-1")))

    assert {("lost", 1), ("false success", 1)} <= kinds(verdict)


def test_the_judge_shares_no_code_with_the_guard() -> None:
    """Nothing of the package is loaded by what makes the plan, raises the storm and judges it."""
    program = (
        "import sys, tests.chaos.checker, tests.chaos.storm;"
        "sys.exit(any(name.startswith('encryption_guard') for name in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    assert done.returncode == 0
