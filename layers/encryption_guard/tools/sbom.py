"""What the layer is made of, as a CycloneDX document: from wheels' metadata to JSON, purely.

Only what the packages say of themselves is told: a licence that nobody states is not there, and a
dependency that cannot be followed ends the build. Nothing is random, and the date is the one of the
files in the zip: the same layer has the same document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from cyclonedx import model
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL
from packaging.metadata import RawMetadata
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

# The classifiers that mean one licence of the SPDX list; "BSD License" means several.
CLASSIFIED = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
}
# What markers are judged by, besides the version of the runtime's Python.
PLATFORM = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}
PLATFORM |= {"platform_machine": "x86_64", "implementation_name": "cpython"}
PLATFORM |= {"platform_python_implementation": "CPython"}
DATE = datetime(1980, 1, 1, tzinfo=timezone.utc)


class MissingMetadata(Exception):
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
    """One distribution in the layer: what it says of itself, and its wheel's SHA-256."""

    fields: RawMetadata
    sha256: str
    # Documents that the wheel brings about what is compiled into it: path in the zip, SHA-256.
    documents: Mapping[str, str] = field(default_factory=dict)


def document(product: Product, shipped: Iterable[Shipped], *, archive: str) -> str:
    """The whole document; `archive` is the SHA-256 of the layer's zip."""
    parts = list(shipped)
    ours, libraries = application(product, archive), [library(part) for part in parts]
    locked = {canonicalize_name(one.name): one for one in libraries}
    probe = [product.requires, *(part.fields.get("requires_dist", []) for part in parts)]
    graph = [
        Dependency(one.bom_ref, required(lines, locked, product.runtime))
        for one, lines in zip([ours, *libraries], probe, strict=True)
    ]
    reached = {needed.ref for one in graph for needed in one.dependencies}
    if needless := sorted(name for name, one in locked.items() if one.bom_ref not in reached):
        raise MissingMetadata(
            f"nothing in the layer requires {', '.join(needless)}; run `make lock`."
        )
    phases = [PredefinedLifecycle(LifecyclePhase.BUILD)]
    about = BomMetaData(component=ours, lifecycles=phases, timestamp=DATE)
    bom = Bom(components=libraries, dependencies=graph, metadata=about, serial_number=UUID(int=0))
    bom.serial_number = uuid5(NAMESPACE_URL, JsonV1Dot6(bom).output_as_string())
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def application(product: Product, archive: str) -> Component:
    """Our package, and the zip that it ships in."""
    identity = ("generic", product.name, product.version)
    python = model.Property(name="python", value=product.runtime)
    more: dict[str, Any] = {"type": ComponentType.APPLICATION, "properties": [python]}
    return component(*identity, archive, [product.licence], **more)


def library(part: Shipped) -> Component:
    """One distribution."""
    fields, kind = part.fields, model.ExternalReferenceType.BOM
    bills = [
        model.ExternalReference(type=kind, url=model.XsUri(path), hashes=[sha256(content)])
        for path, content in part.documents.items()
    ]
    identity = ("pypi", fields["name"], fields["version"])
    return component(*identity, part.sha256, licences(fields), external_references=bills)


def component(
    kind: str, name: str, version: str, content: str, declared: Sequence[str], **more: Any
) -> Component:
    """What ships; the library would draw its reference anew for each output."""
    url = PackageURL(kind, None, canonicalize_name(name), version)
    make, stated = LicenseFactory().make_from_string, LicenseAcknowledgement.DECLARED
    more["licenses"] = [make(one, license_acknowledgement=stated) for one in declared]
    more["hashes"] = [sha256(content)]
    return Component(bom_ref=str(url), purl=url, name=name, version=version, **more)


def sha256(content: str) -> model.HashType:
    return model.HashType(alg=model.HashAlgorithm.SHA_256, content=content)


def licences(fields: RawMetadata) -> list[str]:
    """The licences as the package declares them: ids of SPDX, an expression, or a name."""
    if expression := fields.get("license_expression"):
        return [expression]
    ids = {CLASSIFIED[name] for name in fields.get("classifiers", []) if name in CLASSIFIED}
    # What the older field holds may be an SPDX id, a name, or the whole text.
    stated = fields.get("license", "").strip().partition("\n")[0]
    if is_supported_id(stated) or (stated and not ids):
        ids.add(stated)
    return sorted(ids)


def required(
    lines: Iterable[str], locked: Mapping[NormalizedName, Component], runtime: str
) -> Iterator[Dependency]:
    """What these requirements ask for under the runtime; all of it has to be in the layer."""
    # The lock is made for the first release of this version as well.
    environment = {**PLATFORM, "python_version": runtime, "python_full_version": f"{runtime}.0"}
    for one in map(Requirement, lines):
        if one.marker and not one.marker.evaluate(environment):
            continue
        if one.extras:
            raise MissingMetadata(f"the requirement {one} asks for extras; extend required().")
        name = canonicalize_name(one.name)
        if name not in locked:
            raise MissingMetadata(f"{name} is required, but not in the layer; run `make lock`.")
        yield Dependency(locked[name].bom_ref)
