"""Whom a role trusts, by the documented rules.

https://www.alibabacloud.com/help/en/ram/user-guide/edit-the-trust-policy-of-a-ram-role
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.emulators.ram_policies import EFFECTS, Policy

KEYS = {"Effect", "Action", "Principal"}
ASSUME_ROLE = "sts:AssumeRole"
PRINCIPALS = {
    "RAM": re.compile(r"acs:ram::(?P<account_id>\d{5,20}):(?P<who>root|(?:role|user)/[\w.@-]+)"),
    # With an account, the service as it acts for that account.
    "Service": re.compile(r"(?:\d{5,20}@)?(?:[a-z0-9-]+\.)+aliyuncs\.com"),
}
EXTERNAL_ID = {"StringEquals": {"sts:ExternalId"}}


@dataclass(frozen=True)
class TrustStatement:
    """One statement; `external_ids` is None where it has no condition."""

    effect: str
    principals: tuple[str, ...]
    external_ids: tuple[str, ...] | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrustStatement:
        """Raises ValueError for what is no statement, or has a part that is not emulated."""
        if set(document) - {"Condition"} != KEYS:
            raise ValueError(f"a statement has {sorted(KEYS)}, not {sorted(document)}")
        if document["Effect"] not in EFFECTS:
            raise ValueError(f"Effect: {document['Effect']!r} is none of {sorted(EFFECTS)}")
        if _texts(document["Action"]) != (ASSUME_ROLE,):
            raise ValueError(f"Action: {document['Action']!r} is not {ASSUME_ROLE}")
        principals = _principals(document["Principal"])
        return cls(document["Effect"], principals, _external_ids(document.get("Condition")))

    def speaks_of(self, principal: str, external_id: str | None) -> bool:
        """An account stands for its users and roles; the external id is compared as it is."""
        root = f"{principal.rpartition(':')[0]}:root"
        return bool({principal, root} & set(self.principals)) and (
            self.external_ids is None or external_id in self.external_ids
        )


@dataclass(frozen=True)
class TrustPolicy:
    """A trust policy of version 1: nobody is trusted by default, and what is denied wins."""

    statements: tuple[TrustStatement, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrustPolicy:
        """Raises ValueError for a document that is not emulated."""
        if document.get("Version") != "1":
            raise ValueError(f"Version: {document.get('Version')!r} is not '1'")
        return cls(tuple(TrustStatement.of(each) for each in document["Statement"]))

    @classmethod
    def naming(cls, principals: Iterable[str], *, external_id: str | None = None) -> TrustPolicy:
        """The policy that trusts these alone."""
        ids = None if external_id is None else (external_id,)
        return cls((TrustStatement("Allow", tuple(principals), ids),))

    def trusts(self, principal: str, external_id: str | None) -> bool:
        """Whether it lets a user or role, by its ARN, or a service take the role with this id."""
        effects = {
            each.effect for each in self.statements if each.speaks_of(principal, external_id)
        }
        return effects == {"Allow"}


@dataclass(frozen=True)
class Role:
    """A role, whom it trusts and what it may do; without a policy, everything."""

    account_id: str
    name: str
    trust: TrustPolicy
    policy: Policy | None = None
    max_session_seconds: int = 3600

    @classmethod
    def created(cls, account_id: str, properties: Mapping[str, Any]) -> Role:
        """The role that a stack creates; raises ValueError for a document that is not emulated."""
        documents = [policy["PolicyDocument"] for policy in properties["Policies"]]
        statements = [each for document in documents for each in document["Statement"]]
        trust = TrustPolicy.of(properties["AssumeRolePolicyDocument"])
        return cls(account_id, properties["RoleName"], trust, Policy.of(statements))

    @property
    def arn(self) -> str:
        return f"acs:ram::{self.account_id}:role/{self.name}"


def _principals(document: Mapping[str, Any]) -> tuple[str, ...]:
    if len(document) != 1 or not set(document) <= set(PRINCIPALS):
        raise ValueError(f"Principal: {document!r} is not one of {sorted(PRINCIPALS)}")
    [(kind, given)] = document.items()
    principals = _texts(given)
    for principal in principals:
        if not PRINCIPALS[kind].fullmatch(principal):
            raise ValueError(f"Principal: {principal!r} is no account, role, user or service")
    return principals


def _external_ids(condition: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    if condition is None:
        return None
    if {operator: set(keys) for operator, keys in condition.items()} != EXTERNAL_ID:
        raise ValueError(f"Condition: {condition!r} is not of the external id alone")
    return _texts(condition["StringEquals"]["sts:ExternalId"])


def _texts(given: object) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"{given!r} is no text and no list of texts")
    return tuple(texts)
