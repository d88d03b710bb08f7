"""What of others the package imports, and where: the layer brings three libraries."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.unit.test_structure import FILES

SHIPPED = {"aws_lambda_powertools", "httpcore", "httpx", "pydantic"}
# What an operator needs besides; the layer has none of it.
OPERATORS_ONLY = {"click", "jinja2", "markupsafe", "rich"}
VENDORS = {
    "services/function_compute.py": {"fc2"},
    "cli/last_sweep.py": {"aliyun"},
    "cli/vendor_credentials.py": {"alibabacloud_credentials", "Tea"},
}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_signing_can_be_lifted_out() -> None:
    """The signer knows nothing of ours."""
    ours = {name for name in imports(FILES["services/signing.py"]) if "encryption_guard" in name}

    assert ours == set()


@pytest.mark.parametrize("name", FILES)
def test_the_layer_needs_only_what_it_ships(name: str) -> None:
    """Third parties are those of the layer; what operators need besides is for `cli`."""
    third_parties = {each.partition(".")[0] for each in imports(FILES[name])}
    third_parties -= {"encryption_guard", *sys.stdlib_module_names}
    besides = OPERATORS_ONLY if name.startswith("cli/") else set()

    assert third_parties <= SHIPPED | besides | VENDORS.get(name, set())


def test_sockets_are_the_librarys() -> None:
    """httpcore has protocol and sockets; ours are the deadline and the look-up of a host."""
    texts = {name: file.read_text("utf-8") for name, file in FILES.items()}
    words = ("import h11", "import select", "socket.socket(")

    assert [name for name, text in texts.items() if any(word in text for word in words)] == []
    assert [name for name, text in texts.items() if "import socket" in text] == [
        "http/deadlines.py"
    ]


def test_nothing_imports_a_function() -> None:
    """The functions call the package, never the other way round."""
    assert not any(
        name.startswith("functions") for file in FILES.values() for name in imports(file)
    )
