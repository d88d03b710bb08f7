"""What a RAM policy allows, by the documented rules.

https://www.alibabacloud.com/help/en/ram/policy-structure-and-syntax
https://www.alibabacloud.com/help/en/ram/policy-evaluation-process
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KEYS = {"Effect", "Action", "Resource"}
EFFECTS = {"Allow", "Deny"}
ACTION = re.compile(r"\*|[a-z][a-z0-9-]*:[a-z0-9*?]+", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """One statement of a policy."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Statement:
        """Raises ValueError for what is no statement, or has a key that is not emulated."""
        if set(document) != KEYS:
            raise ValueError(f"a statement has {sorted(KEYS)}, not {sorted(document)}")
        if document["Effect"] not in EFFECTS:
            raise ValueError(f"Effect: {document['Effect']!r} is none of {sorted(EFFECTS)}")
        actions, resources = _texts(document, "Action"), _texts(document, "Resource")
        for action in actions:
            if not ACTION.fullmatch(action):
                raise ValueError(f"Action: {action!r} is not a service and what it does")
        return cls(document["Effect"], actions, resources)

    def speaks_of(self, action: str, resource: str) -> bool:
        """Whether the call is one that it allows or denies."""
        return any(_matches(glob, action, re.IGNORECASE) for glob in self.actions) and any(
            _matches(glob, resource) for glob in self.resources
        )


@dataclass(frozen=True)
class Policy:
    """A policy of version 1: nothing is allowed by default, and what is denied wins."""

    statements: tuple[Statement, ...]

    @classmethod
    def of(cls, statements: Iterable[Mapping[str, Any]]) -> Policy:
        return cls(tuple(Statement.of(statement) for statement in statements))

    def allows(self, action: str, resource: str) -> bool:
        """Whether a call like oss:ListTables may be made on the resource of this ARN."""
        effects = {each.effect for each in self.statements if each.speaks_of(action, resource)}
        return effects == {"Allow"}

    @property
    def granted(self) -> frozenset[str]:
        """Every action that it allows somewhere, as it is written."""
        allowing = (each for each in self.statements if each.effect == "Allow")
        return frozenset(action for each in allowing for action in each.actions)


def _texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    given = document[key]
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"{key}: {given!r} is no text and no list of texts")
    return tuple(texts)


def _matches(glob: str, text: str, flags: int = 0) -> bool:
    """Not fnmatch: brackets mean nothing here."""
    pattern = re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, text, flags | re.DOTALL) is not None
