"""Credentials are taken out of what a service or a proxy sends back.

An answer, or an error that quotes one, may echo the token and the signature of its request, also
escaped as JSON, XML or a URL has it. They must not reach a log or a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httpx

# Headers of OSS Tables, SMQ, Function Compute and RPC APIs that let their holder act for us.
SECRET_HEADERS = {
    *(b"authorization", b"x-oss-security-token", b"security-token", b"x-fc-security-token"),
    b"x-acs-security-token",
}
# `OSS4-HMAC-SHA256 Credential=<id>/<date>/…`, `ACS3-HMAC-SHA256 Credential=<id>,SignedHeaders=…`,
# `MNS <id>:<signature>`, `FC <id>:<signature>`.
_KEY_ID = r"(?:Credential=|MNS |FC )(.+?)(?:/\d{8}/|,SignedHeaders=|:)"
# A shorter one proves nothing, and occurs everywhere.
MIN_SECRET_LENGTH = 16
REDACTED = b"[redacted]"


def secrets_of(request: httpx.Request, *, with_id: bool) -> list[str]:
    """The tokens of a signed request, its signature, and the access key's id if wanted."""
    values = [
        value.decode() for name, value in request.headers.raw if name.lower() in SECRET_HEADERS
    ]
    # The signature is what follows the last `Signature=` or `:`.
    secrets = [re.split("Signature=|:", value)[-1] for value in values]
    if with_id:
        secrets += re.findall(_KEY_ID, request.headers.get("authorization", ""))
    return [secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH]


def redact(secrets: Iterable[str], text: bytes) -> bytes:
    """The text without the secrets, however they are escaped in it."""
    for secret in secrets:
        # Hardly an answer holds any: only one with the first plain part of it is searched.
        plain = re.search("[0-9A-Za-z]{8}", secret)
        if plain is None or plain[0].encode() in text:
            text = re.sub("".join(map(_escapes_of, secret)).encode(), REDACTED, text)
    return text


def _escapes_of(sign: str) -> str:
    """A pattern for a character as it stands, and as JSON, XML or a URL escapes it, also nested."""
    if sign.isalnum():
        return sign
    code = f"{ord(sign):02x}"
    plain = rf"\\{{0,4}}{re.escape(sign)}"
    json = rf"\\{{1,4}}u00{code}"
    url = rf"%(?:25){{0,3}}{code}"
    xml = rf"&(?:amp;){{0,3}}(?:#x0{{0,4}}{code}|#0{{0,4}}{ord(sign)}|[a-z]{{1,20}});"
    return f"(?:{plain}|(?i:{json}|{url}|{xml}))"
