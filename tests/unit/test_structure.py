"""Who may import whom: arrows only point down, and the layer brings three libraries."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.emulators.cloud import REPOSITORY

PACKAGE = REPOSITORY / "layers" / "encryption_guard" / "python" / "encryption_guard"

# From the bottom up; a module may import from the lines above its own.
FLOORS = [
    {"errors", "http.deadlines", "http.redaction", "services", "signing", "version"},
    {"arn", "foreign_json"},
    {"config", "events"},
    {"invocation", "payloads", "policy"},
    {"http"},
    {"http.proxies", "http.retries"},
    {"dead_letter_document", "function_compute", "oss_tables", "services.acs3", "smq"},
    {"dead_letters", "inventory"},
    {"enforcement", "letters"},
    {"advice", "findings", "letter_queues"},
    {"duplicates", "telemetry", "work_lists"},
    {"instance", "redrive", "shell", "table_audit"},
    {"sweep"},
    {"letter_views", "sweep_function", "sweep_views"},
    {"dead_letters_cli", "sweep_page"},
    {"sweep_cli"},
    {"cli"},
]
SHIPPED = {"aws_lambda_powertools", "httpcore", "httpx", "pydantic"}
# What an operator needs besides, and the modules that may.
OPERATORS_ONLY = {
    "cli": {"click"},
    "dead_letters_cli": {"click"},
    "function_compute": {"fc2"},
    "shell": {"click", "rich"},
    "sweep_cli": {"click"},
    "sweep_page": {"jinja2", "markupsafe"},
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


FILES = sorted(PACKAGE.rglob("*.py"))


def module(file: Path) -> str:
    """Its name within the package, such as `http.retries`; a folder's is that of the folder."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def ours(file: Path) -> set[str]:
    prefix = "encryption_guard."
    return {name.removeprefix(prefix) for name in imports(file) if name.startswith(prefix)}


@pytest.mark.parametrize("file", FILES, ids=module)
def test_arrows_point_down(file: Path) -> None:
    """A module imports only what stands below it."""
    if module(file) == "__init__":
        assert ours(file) == {"version"}
        return
    (floor,) = [number for number, names in enumerate(FLOORS) if module(file) in names]
    below = set().union(*FLOORS[:floor])

    assert ours(file) <= below


def test_signing_can_be_lifted_out() -> None:
    """The signer knows nothing of ours."""
    assert ours(PACKAGE / "signing.py") == set()


@pytest.mark.parametrize("file", FILES, ids=module)
def test_the_layer_needs_only_what_it_ships(file: Path) -> None:
    """Third parties are those of the layer; what operators need besides is for their commands."""
    third_parties = {name.partition(".")[0] for name in imports(file)}
    third_parties -= {"encryption_guard", *sys.stdlib_module_names}

    assert third_parties <= SHIPPED | OPERATORS_ONLY.get(module(file), set())


def test_sockets_are_the_librarys() -> None:
    """httpcore has protocol and sockets; ours are the deadline and the look-up of a host."""
    texts = {module(file): file.read_text("utf-8") for file in FILES}
    words = ("import h11", "import select", "socket.socket(")

    assert [name for name, text in texts.items() if any(word in text for word in words)] == []
    assert [name for name, text in texts.items() if "import socket" in text] == ["http.deadlines"]


def test_nothing_imports_a_function() -> None:
    """The doors open inwards."""
    assert not any(name.startswith("functions") for file in FILES for name in imports(file))
