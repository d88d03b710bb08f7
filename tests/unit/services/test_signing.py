"""Ours against the vendor's signer: recorded (vectors) and live (properties)."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encryption_guard.services.signing import (
    Oss4Auth,
    canonical_query,
    canonical_request,
    canonical_uri,
    signature,
    string_to_sign,
)
from tests.vectors.make import FILE, Case, sign

VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["vectors"]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])


def signed_request(case: Case, *, access_key_id: str, access_key_secret: str) -> httpx.Request:
    """The request as Oss4Auth sends it."""
    auth = Oss4Auth(
        access_key_id=access_key_id,
        access_key_secret=access_key_secret,
        security_token=case.security_token,
        region=case.region,
        resource=case.resource,
        now=lambda: datetime.fromisoformat(case.time).astimezone(timezone.utc),
    )
    return next(auth.auth_flow(httpx.Request(case.method, case.url, headers=case.headers)))


def headers_to_sign(vector: dict[str, Any], timestamp: str) -> list[tuple[str, str]]:
    """The vector's headers and those that signing adds."""
    added = {"x-oss-date": timestamp, "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
    if vector["security_token"]:
        added["x-oss-security-token"] = vector["security_token"]
    return list((vector["headers"] | added).items())


def timestamp_of(vector: dict[str, Any]) -> str:
    """The vector's time as it is signed."""
    at = datetime.fromisoformat(vector["time"]).astimezone(timezone.utc)
    return at.strftime("%Y%m%dT%H%M%SZ")


@each_vector
def test_canonical_request_is_the_vendors(vector: dict[str, Any]) -> None:
    """The first stage gives the vendor's canonical request, character by character."""
    uri = canonical_uri(
        resource=vector["resource"], region=vector["region"], path="/" + vector["path"]
    )
    query = canonical_query(vector["url"].partition("?")[2])

    made = canonical_request(
        method=vector["method"],
        uri=uri,
        query=query,
        headers=headers_to_sign(vector, timestamp_of(vector)),
    )

    assert made == vector["canonical_request"]


@each_vector
def test_string_to_sign_is_the_vendors(vector: dict[str, Any]) -> None:
    """The second stage gives the vendor's string to sign."""
    made = string_to_sign(
        timestamp=timestamp_of(vector),
        region=vector["region"],
        canonical_request=vector["canonical_request"],
    )

    assert made == vector["string_to_sign"]


@each_vector
def test_signature_is_the_vendors(vector: dict[str, Any]) -> None:
    """The third stage gives the vendor's signature."""
    made = signature(
        access_key_secret="AKSECRET",
        timestamp=timestamp_of(vector),
        region=vector["region"],
        string_to_sign=vector["string_to_sign"],
    )

    assert made == vector["signature"]


@each_vector
def test_request_carries_the_vendors_authorization(vector: dict[str, Any]) -> None:
    """A request that went through Oss4Auth carries the vendor's Authorization header."""
    case = Case(**{key: vector[key] for key in Case.__dataclass_fields__})

    request = signed_request(case, access_key_id="AKID", access_key_secret="AKSECRET")

    assert request.headers["authorization"] == vector["authorization"]


def test_vectors_are_what_the_installed_sdk_makes() -> None:
    """The committed vectors are still what the vendor's signer makes of their requests."""
    for vector in VECTORS:
        case = Case(**{key: vector[key] for key in Case.__dataclass_fields__})

        assert sign(case).authorization == vector["authorization"]


visible_ascii = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=24)
# No client can send `.` and `..` as segments of a path: each takes them out of the URL.
segment = st.text(min_size=1, max_size=12).filter(
    lambda text: text.isprintable() and text not in {".", ".."}
)
bucket_name = st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", fullmatch=True)
region = st.sampled_from(["cn-hangzhou", "ap-southeast-1", "eu-central-1", "us-east-1"])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any request that could be made of the service, and many that could not."""
    where = draw(region)
    account = draw(st.from_regex(r"[0-9]{5,20}", fullmatch=True))
    arn = f"acs:osstables:{where}:{account}:bucket/{draw(bucket_name)}"
    segments = draw(st.lists(segment, min_size=1, max_size=4))
    path = "/".join(quote(part, safe="") for part in [draw(st.sampled_from(["", arn])), *segments])
    pairs = draw(st.lists(st.tuples(segment, st.none() | st.just("") | segment), max_size=4))
    query = "&".join(
        quote(key, safe="") + ("" if value is None else "=" + quote(value, safe=""))
        for key, value in pairs
    )
    headers = draw(
        st.dictionaries(
            st.sampled_from(["content-type", "content-md5", "x-oss-meta", "x-oss-a-b", "x-other"]),
            visible_ascii,
        )
    )
    return Case(
        name="random",
        method=draw(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"])),
        url=f"https://{where}.oss-tables.aliyuncs.com/{path}" + (f"?{query}" if query else ""),
        path=path,
        resource=draw(st.sampled_from([arn, None])),
        region=where,
        time=draw(
            st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001  made aware here
        ).strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        security_token=draw(st.none() | visible_ascii),
        headers=headers,
    )


@settings(max_examples=300, deadline=None)
@given(
    case=cases(), access_key_id=visible_ascii, access_key_secret=st.text(min_size=1, max_size=40)
)
def test_any_request_is_signed_as_the_vendor_signs_it(
    case: Case, access_key_id: str, access_key_secret: str
) -> None:
    """For any method, path, query, header, token, time and secret, both signers agree."""
    request = signed_request(case, access_key_id=access_key_id, access_key_secret=access_key_secret)

    theirs = sign(case, access_key_id=access_key_id, access_key_secret=access_key_secret)
    assert request.headers["authorization"] == theirs.authorization


def test_nothing_but_headers_is_touched() -> None:
    """Signing leaves method, URL and body as they were."""
    case = Case(**{key: VECTORS[0][key] for key in Case.__dataclass_fields__})

    request = signed_request(case, access_key_id="AKID", access_key_secret="AKSECRET")

    assert (request.method, str(request.url), request.content) == (case.method, case.url, b"")
