"""Credentials are taken out of what comes back."""

from __future__ import annotations

import html
import json
import traceback
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.http import Answer, new_request, send
from tests.unit.fakes import Chunks, mocked

FAR = 1e12  # an instant that no test reaches


TOKEN = "CAIS+planted/Token=0123456789abcdef=="
KEY_ID = "STS.Planted/Key+Id1234"
SIGNATURE = "+Planted/Signature0123456789="
HEX = "0123456789abcdef" * 4
PROVEN = {
    "token of OSS": ("x-oss-security-token", TOKEN, (TOKEN,)),
    "token of SMQ": ("security-token", TOKEN, (TOKEN,)),
    "token of FC": ("x-fc-security-token", TOKEN, (TOKEN,)),
    "token of an RPC API": ("x-acs-security-token", TOKEN, (TOKEN,)),
    "OSS": (
        "authorization",
        f"OSS4-HMAC-SHA256 Credential={KEY_ID}/20260101/cn/osstables/x,Signature={HEX}",
        (KEY_ID, HEX),
    ),
    "ACS3": (
        "authorization",
        f"ACS3-HMAC-SHA256 Credential={KEY_ID},SignedHeaders=host;x-acs-date,Signature={HEX}",
        (KEY_ID, HEX),
    ),
    "SMQ": ("authorization", f"MNS {KEY_ID}:{SIGNATURE}", (KEY_ID, SIGNATURE)),
    "FC": ("authorization", f"FC {KEY_ID}:{SIGNATURE}", (KEY_ID, SIGNATURE)),
    "another": ("authorization", "Planted of any form", ("Planted of any form",)),
}
PROOF = st.text("+/=.-_ abcXYZ019", min_size=16, max_size=40).map(str.strip)


def json_of(text: str) -> str:
    return json.dumps(text)[1:-1]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json_of(text).replace("/", r"\/"),
    "JSON in numbers": lambda text: text.replace("/", r"\u002f").replace("+", r"\u002B"),
    "JSON in JSON": lambda text: json_of(json_of(text).replace("/", r"\/")),
    "XML in numbers": lambda text: text.replace("/", "&#47;").replace("=", "&#x3D;"),
    "XML in names": lambda text: text.replace("/", "&sol;").replace("+", "&plus;"),
    "XML in XML": lambda text: html.escape(text.replace("/", "&#047;")),
    "URL": lambda text: quote(text, safe=""),
    "URL in URL": lambda text: quote(quote(text, safe="").replace("2F", "2f")),
}


def asked_with(name: str, value: str, response: httpx.Response | Exception) -> Answer:
    """What comes back to a request with this header."""

    def answer_or_fail(_: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    request = new_request("GET", "http://service/", headers={name: value})
    return send(mocked(answer_or_fail), request, until=FAR)


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize(("name", "value", "proofs"), PROVEN.values(), ids=PROVEN)
def test_what_proves_who_asks_is_taken_out_of_an_answer(
    name: str, value: str, proofs: tuple[str, ...], spelled: Callable[[str], str]
) -> None:
    """However a service writes what it was sent, only that is gone."""
    echoed = " and ".join(spelled(proof) for proof in proofs)
    said = httpx.Response(403, headers={"x-said": f"<{echoed}>"}, stream=Chunks([echoed.encode()]))

    read = asked_with(name, value, said)

    redacted = " and ".join("[redacted]" for _ in proofs)
    assert read == Answer(403, httpx.Headers({"x-said": f"<{redacted}>"}), redacted.encode())


@given(PROOF.filter(lambda text: len(text) >= 16), st.data())
def test_a_proof_is_found_whatever_it_consists_of(proof: str, data: st.DataObject) -> None:
    """Each sign may be written in a way of its own."""
    ways = st.sampled_from(list(SPELLINGS.values()))
    echoed = "".join(data.draw(ways)(sign) for sign in proof)

    said = httpx.Response(403, stream=Chunks([echoed.encode()]))
    read = asked_with("security-token", proof, said)

    assert read.body == b"[redacted]"


@pytest.mark.parametrize(
    "said", [b"", TOKEN[:-2].encode(), rb"\\\\\\\\/", b"&amp;" * 9, b"%25" * 9]
)
def test_an_answer_without_a_proof_is_left_as_it_is(said: bytes) -> None:
    """What only looks a little like one is the service's to say."""
    read = asked_with("security-token", TOKEN, httpx.Response(403, stream=Chunks([said])))

    assert read.body == said


@pytest.mark.parametrize("name", ["OSS", "SMQ", "FC"])
def test_an_event_about_the_same_key_is_left_as_it_is(name: str) -> None:
    """What a queue hands out may tell of the operator's key, and has to stay byte for byte."""
    header, value, (key_id, signature) = PROVEN[name]
    event = f'{{"userIdentity": {{"accessKeyId": "{key_id}"}}}}'.encode()
    said = httpx.Response(200, stream=Chunks([event, signature.encode()]))

    assert asked_with(header, value, said).body == event + b"[redacted]"


def test_what_is_too_short_to_prove_anything_is_left_alone() -> None:
    """Else it would be found in every other word."""
    said = httpx.Response(403, stream=Chunks([b"the token is a token"]))

    assert asked_with("security-token", "token", said).body == b"the token is a token"


@pytest.mark.parametrize(("name", "value", "proofs"), PROVEN.values(), ids=PROVEN)
def test_an_error_does_not_quote_what_proves_who_asks(
    name: str, value: str, proofs: tuple[str, ...]
) -> None:
    """What came instead of HTTP is quoted by the libraries; it is in no text of any cause."""
    lost = httpx.RemoteProtocolError(f"illegal header line: b'x : {value}'")
    lost.__cause__ = ValueError(value)

    with pytest.raises(httpx.RemoteProtocolError, match="illegal header line") as raised:
        asked_with(name, value, lost)

    told = "".join(traceback.format_exception(raised.value))
    assert "[redacted]" in told
    assert not any(proof in told for proof in proofs)


def test_any_other_error_keeps_its_causes() -> None:
    """Whoever looks for the reason finds it."""
    lost = httpx.ReadError("reset")

    with pytest.raises(httpx.ReadError) as raised:
        asked_with("security-token", TOKEN, lost)

    assert raised.value is lost
