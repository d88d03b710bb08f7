"""What the layer's CycloneDX document says; the official schema and parsers judge it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement

from layers.encryption_guard.tools.build import ZIP_DATE
from layers.encryption_guard.tools.sbom import (
    PLATFORM,
    TIMESTAMP,
    MissingMetadata,
    Product,
    ShippedWheel,
    create_document,
)

SHA256 = "5" * 64
OURS = Product("ours", "1.2.3", "Apache-2.0", ["a>=1,<2", "B_b.c>=3"], "3.12")


def wheel(*headers: str, sha256: str = SHA256) -> ShippedWheel:
    """One that says this of itself."""
    text = "\n".join(["Metadata-Version: 2.4", *headers, "", "Name: no header"])
    return ShippedWheel(parse_email(text)[0], sha256)


A = wheel("Name: a", "Version: 1.0", "License-Expression: MIT", "Requires-Dist: b-b-c (>=3)")
B = wheel("Name: B_b.c", "Version: 3.1", "License-Expression: MIT OR (Apache-2.0 AND ISC)")


def described(*shipped: ShippedWheel, product: Product = OURS) -> dict[str, Any]:
    """The document, which has to keep to the official schema."""
    written = create_document(product, shipped, archive=SHA256)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    parsed: dict[str, Any] = json.loads(written)
    return parsed


def graph_of(document: dict[str, Any]) -> dict[str, list[str]]:
    """What each part of the document requires."""
    return {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}


def alone(*headers: str) -> list[dict[str, Any]]:
    """The licences of a package that says this of itself."""
    ours = Product("ours", "1", "Apache-2.0", ["a"], "3.12")
    (component,) = described(wheel("Name: a", "Version: 1", *headers), product=ours)["components"]
    stated: list[dict[str, Any]] = component.get("licenses", [])
    return stated


def test_everything_that_ships_is_described() -> None:
    """Name and version as the package has them, its package URL, and the wheel's SHA-256."""
    second, first = described(B, A)["components"]

    assert (first["name"], first["version"]) == ("a", "1.0")
    assert (second["name"], second["version"]) == ("B_b.c", "3.1")
    assert first["hashes"] == second["hashes"] == [{"alg": "SHA-256", "content": SHA256}]
    assert PackageURL.from_string(first["purl"]) == PackageURL("pypi", None, "a", "1.0")
    assert PackageURL.from_string(second["purl"]) == PackageURL("pypi", None, "b-b-c", "3.1")


def test_the_root_is_our_package() -> None:
    """With its version and licence, the zip's SHA-256, and the Python that it is built for."""
    root = described(A, B)["metadata"]["component"]

    assert (root["name"], root["version"]) == ("ours", "1.2.3")
    assert root["licenses"][0]["license"]["id"] == "Apache-2.0"
    assert root["hashes"] == [{"alg": "SHA-256", "content": SHA256}]
    assert root["properties"] == [{"name": "python", "value": "3.12"}]


def test_the_graph_is_what_the_packages_require() -> None:
    """An edge for each requirement, however the name is written in it."""
    assert graph_of(described(A, B)) == {
        "pkg:generic/ours@1.2.3": ["pkg:pypi/a@1.0", "pkg:pypi/b-b-c@3.1"],
        "pkg:pypi/a@1.0": ["pkg:pypi/b-b-c@3.1"],
        "pkg:pypi/b-b-c@3.1": [],
    }


def test_the_same_parts_make_the_same_document() -> None:
    """Nothing of it depends on when, where, or in which order it is made."""
    assert create_document(OURS, [A, B], archive=SHA256) == create_document(
        OURS, [B, A], archive=SHA256
    )


def test_the_date_is_the_one_of_the_files_in_the_zip() -> None:
    """Neither of them tells when it was built."""
    assert TIMESTAMP.timetuple()[:6] == ZIP_DATE
    assert described(A, B)["metadata"]["timestamp"] == "1980-01-01T00:00:00+00:00"


def test_a_bill_that_a_wheel_brings_is_referred_to() -> None:
    """What is compiled into a wheel is told by the wheel's own document in the zip."""
    documents = {"python/b.dist-info/sboms/b.cyclonedx.json": SHA256}
    second, _ = described(A, ShippedWheel(B.fields, SHA256, documents))["components"]

    assert second["externalReferences"] == [
        {
            "type": "bom",
            "url": "python/b.dist-info/sboms/b.cyclonedx.json",
            "hashes": [{"alg": "SHA-256", "content": SHA256}],
        }
    ]


def test_an_expression_stays_one() -> None:
    """A licence expression is passed on as it stands; one id of the SPDX list is an id."""
    assert alone("License-Expression: MIT OR (Apache-2.0 AND ISC)") == [
        {"expression": "MIT OR (Apache-2.0 AND ISC)", "acknowledgement": "declared"}
    ]


@pytest.mark.parametrize(
    ("headers", "ids"),
    [
        (["License-Expression: PSF-2.0", "License: MIT"], ["PSF-2.0"]),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], None),
        (["Classifier: License :: OSI Approved :: MIT License"], ["MIT"]),
        (["License: MPL-2.0", "Classifier: Typing :: Typed"], ["MPL-2.0"]),
        (["License: Words", "Classifier: License :: OSI Approved :: MIT License"], ["MIT"]),
        (
            [
                "License: MIT",
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: MIT No Attribution License (MIT-0)",
            ],
            ["MIT", "MIT-0"],
        ),
    ],
)
def test_a_licence_is_what_the_package_declares(headers: list[str], ids: list[str] | None) -> None:
    """The expression first, else the older field and every classifier that means one licence."""
    assert alone(*headers) == [
        {"license": {"id": one, "acknowledgement": "declared"}} for one in ids or ["BSD-3-Clause"]
    ]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("License: Our Own Licence\n        And its text", "Our Own Licence"),
        ("License-Expression: LicenseRef-Ours", "LicenseRef-Ours"),
    ],
)
def test_a_licence_that_has_no_id_keeps_its_name(header: str, name: str) -> None:
    """Words that are no SPDX id are not made into one."""
    assert alone(header) == [{"license": {"name": name, "acknowledgement": "declared"}}]


@pytest.mark.parametrize("headers", [[], ["Classifier: License :: OSI Approved :: BSD License"]])
def test_no_licence_is_invented(headers: list[str]) -> None:
    """Who declares none, or one of several, has none in the document."""
    assert alone(*headers) == []


@pytest.mark.parametrize(
    ("marker", "runtime", "expected"),
    [
        ("python_version < '3.11'", "3.10", True),
        ("python_version < '3.11'", "3.12", False),
        ("python_full_version < '3.11'", "3.12", False),
        ("extra == 'http2'", "3.12", False),
        ("platform_system == 'Windows' or platform_machine == 'arm64'", "3.12", False),
    ],
)
def test_markers_are_judged_by_the_runtime(marker: str, runtime: str, expected: bool) -> None:
    """On Function Compute's Linux, with its Python, and with no extra."""
    ours = Product("ours", "1", "Apache-2.0", ["a", "b-b-c"], runtime)
    first = wheel("Name: a", "Version: 1", f"Requires-Dist: b-b-c; {marker}")

    graph = graph_of(described(first, B, product=ours))

    assert graph["pkg:pypi/a@1"] == ["pkg:pypi/b-b-c@3.1"] * expected


def test_markers_are_not_judged_by_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that is built elsewhere is described in the same way."""
    here = create_document(OURS, [A, B], archive=SHA256)
    elsewhere = dict.fromkeys(PLATFORM, "elsewhere")
    monkeypatch.setattr("packaging.markers.default_environment", lambda: elsewhere)
    markers = " and ".join(f"{name} != 'elsewhere'" for name in PLATFORM)
    first = ShippedWheel({**A.fields, "requires_dist": [f"b-b-c; {markers}"]}, SHA256)

    assert create_document(OURS, [first, B], archive=SHA256) == here


@pytest.mark.parametrize(
    ("requires", "refusal", "reason"),
    [
        ("c", MissingMetadata, "c is required, but not in the layer"),
        ("b-b-c[extra]>=3", MissingMetadata, "has extras"),
        ("== nothing", InvalidRequirement, "== nothing"),
    ],
)
def test_a_requirement_that_is_not_met_ends_the_build(
    requires: str, refusal: type[Exception], reason: str
) -> None:
    """A layer that lacks something would fail in the cloud, and nobody would see it here."""
    with pytest.raises(refusal, match=reason):
        create_document(
            OURS,
            [wheel("Name: a", "Version: 1", f"Requires-Dist: {requires}"), B],
            archive=SHA256,
        )


def test_what_nothing_requires_ends_the_build() -> None:
    """The lock holds more than what pyproject.toml asks for: nobody would know why it ships."""
    with pytest.raises(MissingMetadata, match="nothing in the layer requires stray"):
        create_document(OURS, [A, B, wheel("Name: stray", "Version: 1")], archive=SHA256)
