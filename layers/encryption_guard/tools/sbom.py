"""Describe the layer as a CycloneDX document (SBOM), from the metadata of its wheels.

The document holds only what the packages declare. A licence that a package does not declare is
left out, and a dependency that is not in the layer stops the build. The serial number and the
date are reproducible, so the same layer has the same document.
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

# The classifiers that mean exactly one SPDX licence; "BSD License" means several.
CLASSIFIED = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
}
# The environment of Function Compute in which markers are evaluated, without the Python version.
PLATFORM = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}
PLATFORM |= {"platform_machine": "x86_64", "implementation_name": "cpython"}
PLATFORM |= {"platform_python_implementation": "CPython"}
# The date of the files in the zip.
TIMESTAMP = datetime(1980, 1, 1, tzinfo=timezone.utc)


class MissingMetadata(Exception):
    """The metadata of the packages and the layer's contents do not agree."""


@dataclass(frozen=True)
class Product:
    """Our own package; `runtime` is the Python version that it is built for (such as "3.12")."""

    name: str
    version: str
    licence: str
    requires: Sequence[str]
    runtime: str


@dataclass(frozen=True)
class ShippedWheel:
    """A wheel whose contents are in the layer: its metadata and its SHA-256."""

    fields: RawMetadata
    sha256: str
    # SBOM documents in the wheel about code that is compiled into it: path in the zip, SHA-256.
    documents: Mapping[str, str] = field(default_factory=dict)


def create_document(product: Product, shipped: Iterable[ShippedWheel], *, archive: str) -> str:
    """Create the CycloneDX JSON; `archive` is the SHA-256 of the layer's zip.

    Raises MissingMetadata if a requirement is not in the layer, or if a wheel is not required.
    """
    wheels = list(shipped)
    ours, libraries = describe_product(product, archive), [describe_wheel(one) for one in wheels]
    locked = {canonicalize_name(one.name): one for one in libraries}
    requirements = [product.requires, *(one.fields.get("requires_dist", []) for one in wheels)]
    graph = [
        Dependency(one.bom_ref, resolve_requirements(lines, locked, product.runtime))
        for one, lines in zip([ours, *libraries], requirements, strict=True)
    ]
    reached = {dependency.ref for one in graph for dependency in one.dependencies}
    if unused := sorted(name for name, one in locked.items() if one.bom_ref not in reached):
        raise MissingMetadata(
            f"nothing in the layer requires {', '.join(unused)}; run `make lock`."
        )
    phases = [PredefinedLifecycle(LifecyclePhase.BUILD)]
    metadata = BomMetaData(component=ours, lifecycles=phases, timestamp=TIMESTAMP)
    bom = Bom(
        components=libraries, dependencies=graph, metadata=metadata, serial_number=UUID(int=0)
    )
    bom.serial_number = uuid5(NAMESPACE_URL, JsonV1Dot6(bom).output_as_string())
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def describe_product(product: Product, archive: str) -> Component:
    """Describe our package, with the hash of the zip that holds it."""
    identity = ("generic", product.name, product.version)
    python = model.Property(name="python", value=product.runtime)
    extra: dict[str, Any] = {"type": ComponentType.APPLICATION, "properties": [python]}
    return create_component(*identity, archive, [product.licence], **extra)


def describe_wheel(wheel: ShippedWheel) -> Component:
    """Describe a wheel, with references to the SBOM documents that it brings."""
    fields, kind = wheel.fields, model.ExternalReferenceType.BOM
    references = [
        model.ExternalReference(type=kind, url=model.XsUri(path), hashes=[hash_entry(content)])
        for path, content in wheel.documents.items()
    ]
    identity = ("pypi", fields["name"], fields["version"])
    return create_component(
        *identity, wheel.sha256, read_licences(fields), external_references=references
    )


def create_component(
    kind: str, name: str, version: str, content: str, declared: Sequence[str], **extra: Any
) -> Component:
    """Create a component; `content` is the SHA-256 of its file, `declared` its licences."""
    url = PackageURL(kind, None, canonicalize_name(name), version)
    make, acknowledgement = LicenseFactory().make_from_string, LicenseAcknowledgement.DECLARED
    extra["licenses"] = [make(one, license_acknowledgement=acknowledgement) for one in declared]
    extra["hashes"] = [hash_entry(content)]
    # Without a bom_ref of our own the library uses a random one for each output.
    return Component(bom_ref=str(url), purl=url, name=name, version=version, **extra)


def hash_entry(content: str) -> model.HashType:
    """Return a SHA-256 in CycloneDX's form."""
    return model.HashType(alg=model.HashAlgorithm.SHA_256, content=content)


def read_licences(fields: RawMetadata) -> list[str]:
    """Read the declared licences: SPDX ids, one SPDX expression, or a name.

    >>> read_licences({"license": "MIT", "classifiers": ["Typing :: Typed"]})
    ['MIT']
    """
    if expression := fields.get("license_expression"):
        return [expression]
    ids = {CLASSIFIED[name] for name in fields.get("classifiers", []) if name in CLASSIFIED}
    # The older field holds an SPDX id, a name, or the whole text of the licence.
    first_line = fields.get("license", "").strip().partition("\n")[0]
    if is_supported_id(first_line) or (first_line and not ids):
        ids.add(first_line)
    return sorted(ids)


def resolve_requirements(
    lines: Iterable[str], locked: Mapping[NormalizedName, Component], runtime: str
) -> Iterator[Dependency]:
    """Yield the component in the layer for each requirement that applies to the runtime.

    Raises MissingMetadata if it is not in the layer, or if the requirement has extras.
    """
    # The lock holds for the first release of this Python version too.
    environment = {**PLATFORM, "python_version": runtime, "python_full_version": f"{runtime}.0"}
    for requirement in map(Requirement, lines):
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        if requirement.extras:
            raise MissingMetadata(
                f"the requirement {requirement} has extras; extend resolve_requirements()."
            )
        name = canonicalize_name(requirement.name)
        if name not in locked:
            raise MissingMetadata(f"{name} is required, but not in the layer; run `make lock`.")
        yield Dependency(locked[name].bom_ref)
