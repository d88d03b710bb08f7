"""What the layer is made of, as a CycloneDX document: from wheels' metadata to JSON, purely.

Only what the packages say of themselves is told: a licence that nobody states is not there, and a
dependency that cannot be followed ends the build. There is no date and nothing random: whoever
builds the same layer gets the same document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from typing import Any
from uuid import NAMESPACE_URL, uuid5

# The classifiers that mean one licence of the SPDX list; "BSD License" means several.
CLASSIFIED = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# What the older field `License` holds may be an SPDX id, a name, or the whole text.
SPDX_IDS = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0"}
SPDX_IDS |= {"MPL-2.0", "PSF-2.0", "Unlicense"}
# What markers are judged by, besides the version of the runtime's Python.
PLATFORM = {
    "extra": "",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(\[[^\]]*\])?([^;]*)(?:;(.*))?", re.DOTALL)
TOKEN = re.compile(
    r"""\s*(?:(\()|(\))|([<>=!~]=?=?|not\s+in\b|in\b)|(and\b|or\b)|("[^"]*"|'[^']*'|\w+))"""
)


class Untold(Exception):
    """The packages do not say enough about themselves; the message is for a person."""


@dataclass(frozen=True)
class Product:
    """Our own package, and which Python it is built for (such as "3.12")."""

    name: str
    version: str
    licence: str
    requires: Sequence[str]
    runtime: str


@dataclass(frozen=True)
class Shipped:
    """One distribution in the layer: its METADATA, and its wheel's SHA-256."""

    metadata: str
    sha256: str
    # Documents that the wheel brings about what is compiled into it: path in the zip, SHA-256.
    documents: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> Message:
        return HeaderParser().parsestr(self.metadata)


def document(product: Product, shipped: Iterable[Shipped], *, archive: str) -> str:
    """The whole document; `archive` is the SHA-256 of the layer's zip."""
    parts = sorted(shipped, key=lambda part: normal(part.headers["Name"]))
    references = {normal(part.headers["Name"]): purl(part) for part in parts}
    described: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "build"}], "component": root(product, archive)},
        "components": [component(part) for part in parts],
        "dependencies": dependencies(product, parts, references),
    }
    serial = uuid5(NAMESPACE_URL, json.dumps(described, sort_keys=True))
    return json.dumps({**described, "serialNumber": f"urn:uuid:{serial}"}, indent=2) + "\n"


def root(product: Product, archive: str) -> dict[str, Any]:
    """Our package, and the zip that it ships in."""
    reference = f"pkg:generic/{product.name}@{product.version}"
    return {
        "type": "application",
        "bom-ref": reference,
        "name": product.name,
        "version": product.version,
        "purl": reference,
        "hashes": [{"alg": "SHA-256", "content": archive}],
        "licenses": [{"license": {"id": product.licence, "acknowledgement": "declared"}}],
        "properties": [{"name": "python", "value": product.runtime}],
    }


def component(part: Shipped) -> dict[str, Any]:
    """One distribution as CycloneDX has it."""
    described: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl(part),
        "name": part.headers["Name"],
        "version": part.headers["Version"],
        "purl": purl(part),
        "hashes": [{"alg": "SHA-256", "content": part.sha256}],
    }
    if stated := licences(part.headers):
        described["licenses"] = stated
    if part.documents:
        described["externalReferences"] = [
            {"type": "bom", "url": path, "hashes": [{"alg": "SHA-256", "content": content}]}
            for path, content in sorted(part.documents.items())
        ]
    return described


def licences(headers: Message) -> list[dict[str, Any]]:
    """The licence as the package declares it; nothing where it declares none."""
    if expression := headers["License-Expression"]:
        if re.fullmatch(r"[\w.+-]+", expression):
            return [{"license": {"id": expression, "acknowledgement": "declared"}}]
        return [{"expression": expression, "acknowledgement": "declared"}]
    classifiers = headers.get_all("Classifier", [])
    ids = {CLASSIFIED[name] for name in classifiers if name in CLASSIFIED}
    stated = (headers["License"] or "").strip()
    if stated in SPDX_IDS:
        ids.add(stated)
    elif stated and not ids:
        name = stated.splitlines()[0]
        return [{"license": {"name": name, "acknowledgement": "declared"}}]
    return [{"license": {"id": one, "acknowledgement": "declared"}} for one in sorted(ids)]


def dependencies(
    product: Product, parts: Sequence[Shipped], references: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Who requires whom; everything that ships has to be required by somebody."""
    edges = {root(product, "")["bom-ref"]: product.requires}
    edges |= {purl(part): part.headers.get_all("Requires-Dist", []) for part in parts}
    graph = {
        reference: sorted({references_to(name, references) for name in required(lines, product)})
        for reference, lines in edges.items()
    }
    reached = set().union(*graph.values())
    if needless := [name for name, reference in references.items() if reference not in reached]:
        raise Untold(f"nothing in the layer requires {', '.join(needless)}; run `make lock`.")
    return [{"ref": reference, "dependsOn": needed} for reference, needed in graph.items()]


def required(lines: Iterable[str], product: Product) -> Iterator[str]:
    """The normal names of what these requirements ask for under the runtime."""
    for line in lines:
        match = REQUIREMENT.fullmatch(line)
        if match is None:
            raise Untold(f"the requirement {line!r} cannot be read here; extend sbom.py.")
        name, extras, _, marker = match.groups()
        if marker and not holds(marker, product.runtime):
            continue
        if extras:
            raise Untold(f"the requirement {line!r} asks for extras; extend required().")
        yield normal(name)


def references_to(name: str, references: Mapping[str, str]) -> str:
    """The reference of a distribution that has to be in the layer."""
    if name not in references:
        raise Untold(f"{name} is required, but not in the layer; run `make lock`.")
    return references[name]


def purl(part: Shipped) -> str:
    """The package URL of a distribution."""
    return f"pkg:pypi/{normal(part.headers['Name'])}@{part.headers['Version']}"


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def holds(marker: str, runtime: str) -> bool:
    """Whether an environment marker holds for the runtime's Python on Function Compute."""
    tokens, position = [], 0
    while marker[position:].strip():
        match = TOKEN.match(marker, position)
        if match is None:
            raise Untold(f"the marker {marker!r} cannot be read here; extend sbom.py.")
        tokens.append(match[0].strip())
        position = match.end()
    try:
        value = either(tokens, {**PLATFORM, "python_version": runtime})
    except (IndexError, KeyError, ValueError):
        raise Untold(f"the marker {marker!r} is not known here; extend sbom.py.") from None
    if tokens:
        raise Untold(f"the marker {marker!r} is not known here; extend sbom.py.")
    return value


def either(tokens: list[str], environment: Mapping[str, str]) -> bool:
    """Terms that `or` joins; takes what it reads from the tokens."""
    value = both(tokens, environment)
    while tokens[:1] == ["or"]:
        del tokens[0]
        # Not short-circuited: the other side has to be read from the tokens all the same.
        value = both(tokens, environment) or value
    return value


def both(tokens: list[str], environment: Mapping[str, str]) -> bool:
    """Terms that `and` joins."""
    value = term(tokens, environment)
    while tokens[:1] == ["and"]:
        del tokens[0]
        value = term(tokens, environment) and value
    return value


def term(tokens: list[str], environment: Mapping[str, str]) -> bool:
    """A comparison, or terms in parentheses."""
    if tokens[0] == "(":
        del tokens[0]
        value = either(tokens, environment)
        if tokens.pop(0) != ")":
            raise ValueError("a parenthesis is not closed")
        return value
    variable, operator, literal = (tokens.pop(0) for _ in range(3))
    if not (re.fullmatch(r"[\"'].*[\"']", literal) and variable.isidentifier()):
        raise ValueError("only a variable is compared with a literal")
    return compared(variable, operator, literal[1:-1], environment)


def compared(variable: str, operator: str, literal: str, environment: Mapping[str, str]) -> bool:
    """One comparison: of versions where the variable is one, else of words."""
    if variable == "python_full_version":
        # Which patch release the platform runs is nobody's promise: only minors can be told apart.
        if not re.fullmatch(r"3\.\d+(\.0)*", literal) or operator not in {"<", ">="}:
            raise ValueError("a patch release")
        variable, literal = "python_version", ".".join(literal.split(".")[:2])
    left, right = environment[variable], literal
    if variable == "python_version":
        return ordered(operator, release(left), release(right))
    return {"==": left == right, "!=": left != right}[operator]


def ordered(operator: str, left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """A comparison of two releases."""
    return {
        "<": left < right,
        "<=": left <= right,
        "==": left == right,
        "!=": left != right,
        ">=": left >= right,
        ">": left > right,
    }[operator]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version such as "3.12"."""
    return tuple(int(number) for number in version.split("."))
