"""Whom an emulated role trusts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.trust_policies import TrustPolicy

SENDER = "2222222222222222@eventbridge.aliyuncs.com"
HUB, ROLE = "acs:ram::1111111111111111", "acs:ram::1111111111111111:role/guard"


def statement(**changed: object) -> dict[str, Any]:
    """A statement that trusts the role with an external id, changed; without what is None."""
    document = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"RAM": [ROLE]},
        "Condition": {"StringEquals": {"sts:ExternalId": "our-id"}},
        **changed,
    }
    return {key: value for key, value in document.items() if value is not None}


def policy(*statements: dict[str, Any]) -> TrustPolicy:
    return TrustPolicy.of({"Version": "1", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("statements", "principal", "external_id", "expected"),
    [
        ([], ROLE, "our-id", False),
        ([statement()], ROLE, "our-id", True),
        ([statement()], ROLE, None, False),
        ([statement()], f"{HUB}:user/guard", "our-id", False),
        ([statement()], ROLE.replace("1111", "2222"), "our-id", False),
        ([statement(Condition=None)], ROLE, None, True),
        ([statement(Condition=None)], ROLE, "any-id", True),
        ([statement(Principal={"RAM": f"{HUB}:root"})], f"{HUB}:user/anna", "our-id", True),
        ([statement(Principal={"RAM": [f"{HUB}:role/a", ROLE]})], ROLE, "our-id", True),
        ([statement(), statement(Effect="Deny", Condition=None)], ROLE, "our-id", False),
        ([statement(Condition={"StringEquals": {"sts:ExternalId": ["a1", "b2"]}})], ROLE, "b2", 1),
        ([statement(Principal={"Service": [SENDER]}, Condition=None)], SENDER, None, True),
        ([statement(Principal={"Service": "fc.aliyuncs.com"}, Condition=None)], SENDER, None, 0),
        (
            [statement(Principal={"Service": "eventbridge.aliyuncs.com"}, Condition=None)],
            *(SENDER, None, False),
        ),
    ],
)
def test_a_role_trusts_whom_its_policy_names(
    statements: list[dict[str, Any]], principal: str, external_id: str | None, expected: bool
) -> None:
    """The caller itself or all of its account, with the external id where one is demanded."""
    assert policy(*statements).trusts(principal, external_id) == expected


@pytest.mark.parametrize(
    "document",
    [
        statement(Resource="*"),
        statement(Effect="allow"),
        statement(Action="sts:*"),
        statement(Principal=None),
        statement(Principal={"Federated": "acs:ram::1111111111111111:oidc-provider/ack"}),
        statement(Principal={"Service": "fc.example.com"}),
        statement(Principal={"Service": ROLE}),
        statement(Principal={"RAM": ROLE, "Service": "fc.aliyuncs.com"}),
        statement(Principal={"RAM": "*"}),
        statement(Condition={"StringLike": {"sts:ExternalId": "our-*"}}),
        statement(Condition={"StringEquals": {"acs:SourceIp": "10.0.0.1"}}),
    ],
)
def test_what_is_not_emulated_is_an_error(document: dict[str, Any]) -> None:
    """A policy is never half understood."""
    with pytest.raises(ValueError, match=r".+"):
        policy(document)


def test_another_version_is_an_error() -> None:
    """As RAM has only one."""
    with pytest.raises(ValueError, match="Version"):
        TrustPolicy.of({"Version": "2012-10-17", "Statement": [statement()]})
