"""The emulated EventBridge's pattern language, which template.yaml's filter is tested with."""

from typing import Any

import pytest

from tests.emulators.event_bridge import matches

EVENT = {
    "source": "acs.oss",
    "type": "oss:ActionTrail:ApiCall",
    "data": {
        "eventName": "CreateTableBucket",
        "eventVersion": 1,
        "sourceIpAddress": "10.0.0.7",
        "isGlobal": False,
        "responseElements": None,
        "errorCode": "",
        "names": ["first", "second"],
    },
}


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        {"source": ["acs.oss"]},
        {"source": [{"prefix": "acs.oss"}]},
        {"type": [{"suffix": ":ActionTrail:ConsoleOperation"}, {"suffix": ":ActionTrail:ApiCall"}]},
        {"type": [{"contains": "Trail"}]},
        {"source": [{"anything-but": "acs.ecs"}]},
        {"source": [{"anything-but": {"prefix": "acs.e"}}]},
        {"data": {"eventVersion": [1]}},
        {"data": {"eventVersion": [{"numeric": [">", 0, "<=", 1]}]}},
        {"data": {"sourceIpAddress": [{"cidr": "10.0.0.0/24"}]}},
        {"data": {"responseElements": [None]}},
        {"data": {"eventName": [{"exists": True}], "errorMessage": [{"exists": False}]}},
        {"data": {"names": ["second"]}},
    ],
)
def test_a_pattern_takes_the_event_it_describes(pattern: dict[str, Any]) -> None:
    """An event matches where every field has a value that one of its expressions allows."""
    assert matches(pattern, EVENT)


@pytest.mark.parametrize(
    "pattern",
    [
        {"source": ["ACS.OSS"]},
        {"source": [{"prefix": "oss"}]},
        {"type": [{"suffix": ":apicall"}]},
        {"source": [{"anything-but": ["acs.ecs", "acs.oss"]}]},
        {"source": [{"anything-but": {"prefix": "acs."}}]},
        {"data": {"eventVersion": ["1"]}},
        {"data": {"eventVersion": [{"numeric": [">", 1]}]}},
        {"data": {"sourceIpAddress": [{"cidr": "10.0.1.0/24"}]}},
        {"data": {"errorCode": [{"exists": False}]}},
        {"absent": [None]},
        {"absent": {"eventName": ["CreateTableBucket"]}},
        {"source": {"inner": ["acs.oss"]}},
        {"source": ["acs.oss"], "data": {"eventName": ["DeleteTableBucket"]}},
    ],
)
def test_a_pattern_leaves_every_other_event(pattern: dict[str, Any]) -> None:
    """One field that misses is enough, as is another case, another type or a missing field."""
    assert not matches(pattern, EVENT)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ({"source": "acs.oss"}, "expected a list"),
        ({"source": ["a", "b", "c", "d", "e", "f"]}, "6 expressions, 5 are allowed"),
        ({"source": [{"prefix": "a", "suffix": "s"}]}, "expected a value or one operator"),
        ({"source": [{"equals-ignore-case": "acs.oss"}]}, "none of the operators"),
        ({"source": [{"prefix": ["a"]}]}, "expected a string"),
        ({"source": [{"exists": "yes"}]}, "expected true or false"),
        ({"source": [{"anything-but": {"suffix": "a"}}]}, "values or a prefix"),
        ({"source": [{"numeric": [">", 0, "<="]}]}, "expected pairs"),
        ({"source": [{"cidr": "10.0.0.0/99"}]}, "not a valid netmask"),
        ({"source": ["miss"], "type": [{"wrong": ""}]}, "none of the operators"),
    ],
)
def test_what_is_not_a_pattern_is_refused(pattern: dict[str, Any], complaint: str) -> None:
    """A mistake raises wherever it stands, also behind a field that does not match anyway."""
    with pytest.raises(ValueError, match=complaint):
        matches(pattern, EVENT)


def test_five_expressions_are_allowed() -> None:
    """The documented limit itself is still a pattern."""
    assert matches({"source": ["a", "b", "c", "d", "acs.oss"]}, EVENT)
