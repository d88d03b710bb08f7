"""The rules by which the emulated cloud decides what a policy allows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.ram_policies import Policy

BUCKET = "acs:osstables:cn-hangzhou:1234567890123456:bucket/orders"


def statement(**changes: object) -> dict[str, Any]:
    """A statement that allows to list tables anywhere, but for what is changed."""
    return {"Effect": "Allow", "Action": ["oss:ListTables"], "Resource": ["*"]} | changes


@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        ("oss:ListTables", "oss:ListTables", True),
        ("OSS:listtables", "oss:ListTables", True),
        (["oss:GetTable", "oss:ListTables"], "oss:ListTables", True),
        ("oss:List*", "oss:ListTables", True),
        ("oss:*", "oss:ListTables", True),
        ("*", "oss:ListTables", True),
        ("oss:ListTable?", "oss:ListTables", True),
        ("oss:ListTable", "oss:ListTables", False),
        ("mns:*", "oss:ListTables", False),
    ],
)
def test_an_action_is_what_one_of_its_globs_says(
    granted: object, asked: str, *, allowed: bool
) -> None:
    """Actions match in whichever case, `*` any number of characters, and `?` one."""
    assert Policy.of([statement(Action=granted)]).allows(asked, BUCKET) is allowed


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (BUCKET, True),
        (["acs:osstables:*:*:bucket/parts", BUCKET], True),
        ("acs:osstables:cn-hangzhou:*:bucket/*", True),
        ("acs:osstables:*:*:bucket/order?", True),
        ("*", True),
        (BUCKET.upper(), False),
        (f"{BUCKET}s", False),
        ("acs:osstables:cn-shanghai:*:bucket/*", False),
        ("acs:osstables:cn-hangzhou:*:bucket/[o]rders", False),
    ],
)
def test_a_resource_is_what_one_of_its_globs_says(resource: object, *, allowed: bool) -> None:
    """A resource matches as it is written: its case counts, and brackets and dots are plain."""
    assert Policy.of([statement(Resource=resource)]).allows("oss:ListTables", BUCKET) is allowed


def test_nothing_is_allowed_by_default() -> None:
    """What no statement speaks of is refused, as is everything without a statement."""
    assert not Policy.of([]).allows("oss:ListTables", BUCKET)
    assert not Policy.of([statement()]).allows("oss:GetTable", BUCKET)


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_denied_wins(order: int) -> None:
    """One statement that denies a call outweighs all that allow it, wherever it stands."""
    statements = [statement(), statement(Effect="Deny", Resource=BUCKET)][::order]

    policy = Policy.of(statements)

    assert not policy.allows("oss:ListTables", BUCKET)
    assert policy.allows("oss:ListTables", f"{BUCKET}-2")


def test_an_action_and_a_resource_of_two_statements_are_no_right() -> None:
    """Both have to be in one statement."""
    policy = Policy.of(
        [
            statement(Resource="acs:osstables:*:*:bucket/parts"),
            statement(Action="oss:GetTable", Resource=BUCKET),
        ]
    )

    assert not policy.allows("oss:ListTables", BUCKET)


def test_what_is_granted_is_what_is_allowed_somewhere() -> None:
    """The actions of all statements that allow something, as they are written."""
    denied = statement(Effect="Deny", Action="oss:GetTable")

    policy = Policy.of([statement(), statement(Action=["oss:Put*"]), denied])

    assert policy.granted == {"oss:ListTables", "oss:Put*"}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (statement(Condition={}), "Condition"),
        ({"Effect": "Allow", "Resource": "*"}, "not \\['Effect', 'Resource'\\]"),
        ({"Effect": "Allow", "Action": "oss:GetTable"}, "not \\['Action', 'Effect'\\]"),
        (statement(Effect="allow"), "'allow' is none of"),
        (statement(Action=[]), "Action: \\[\\]"),
        (statement(Action={"Fn::If": []}), "Action: {'Fn::If'"),
        (statement(Action=["ListTables"]), "'ListTables' is not a service"),
        (statement(Resource=[{"Ref": "Queue"}]), "Resource: .*Ref"),
    ],
)
def test_what_is_no_policy_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    """A mistake in a document, or a key that is not emulated, raises instead of granting."""
    with pytest.raises(ValueError, match=complaint):
        Policy.of([statement(), wrong])


def test_a_key_needs_its_policy_and_its_globs() -> None:
    """A call needs the right of the policy, and a test may take it away."""
    policy = Policy.of([statement(Resource=BUCKET)])
    key = AccessKey("AKID", "secret", "1234567890123456", policy=policy)
    denied = AccessKey("AKID", "secret", "1234567890123456", denied=frozenset({"List*"}))

    assert key.may("oss:ListTables", BUCKET)
    assert not key.may("oss:ListTables", f"{BUCKET}-2")
    assert not denied.may("oss:ListTables", BUCKET)
    assert denied.may("oss:GetTable", BUCKET)
