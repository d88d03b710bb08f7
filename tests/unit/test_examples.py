"""Each example in a docstring is true."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from tests.emulators.cloud import REPOSITORY
from tests.unit.test_structure import FILES

TOOLS = REPOSITORY / "layers" / "encryption_guard" / "tools"
MODULES = {
    ".".join(
        ["encryption_guard", *name.removesuffix(".py").removesuffix("/__init__").split("/")]
    ): file
    for name, file in FILES.items()
} | {f"layers.encryption_guard.tools.{file.stem}": file for file in TOOLS.glob("*.py")}
EXAMPLES = sorted(name for name, file in MODULES.items() if ">>>" in file.read_text("utf-8"))


@pytest.mark.parametrize("module", EXAMPLES)
def test_an_example_shows_what_it_returns(module: str) -> None:
    """A reader who copies it gets the same result."""
    results = doctest.testmod(import_module(module))

    assert results.attempted > 0
    assert results.failed == 0


def test_a_newcomer_finds_examples() -> None:
    """The values that a newcomer reads, parses or decides first have one."""
    assert {"encryption_guard.arn", "encryption_guard.settings"} <= set(EXAMPLES)
