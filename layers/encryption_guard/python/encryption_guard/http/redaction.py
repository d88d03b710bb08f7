"""Redaction of credentials in answers and errors.

A service or a proxy may echo the token and the signature of a request, also escaped for JSON, XML
or a URL. They must not reach a log or a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httpx

# The headers of OSS Tables, SMQ, Function Compute and RPC APIs whose values grant access.
SECRET_HEADERS = {
    *(b"authorization", b"x-oss-security-token", b"security-token", b"x-fc-security-token"),
    b"x-acs-security-token",
}
# The access key id, as `<id>` in these values of the header `authorization`:
# `OSS4-HMAC-SHA256 Credential=<id>/<date>/…`, `ACS3-HMAC-SHA256 Credential=<id>,SignedHeaders=…`,
# `MNS <id>:<signature>`, `FC <id>:<signature>`.
_KEY_ID = r"(?:Credential=|MNS |FC )(.+?)(?:/\d{8}/|,SignedHeaders=|:)"
# A shorter value grants no access, and may occur in any text.
MIN_SECRET_LENGTH = 16
REDACTED = b"[redacted]"


def secrets_of(request: httpx.Request, *, with_id: bool) -> list[str]:
    """Return the tokens and the signature of a request, and its access key id if wanted."""
    values = [
        value.decode() for name, value in request.headers.raw if name.lower() in SECRET_HEADERS
    ]
    # The signature follows the last `Signature=` or `:`.
    secrets = [re.split("Signature=|:", value)[-1] for value in values]
    if with_id:
        secrets += re.findall(_KEY_ID, request.headers.get("authorization", ""))
    return [secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH]


def redact(secrets: Iterable[str], text: bytes) -> bytes:
    """Replace the secrets in a text with `[redacted]`, also if they are escaped there.

    >>> redact(["0123456789abcdef/+"], b"token=0123456789abcdef%2F%2B")
    b'token=[redacted]'
    """
    for secret in secrets:
        # Few answers contain a secret, so search first for a part of it that is never escaped.
        plain = re.search("[0-9A-Za-z]{8}", secret)
        if plain is None or plain[0].encode() in text:
            text = re.sub("".join(map(_escapes_of, secret)).encode(), REDACTED, text)
    return text


def _escapes_of(char: str) -> str:
    """Return a pattern for a character, plain or escaped for JSON, XML or a URL, also nested."""
    if char.isalnum():
        return char
    code = f"{ord(char):02x}"
    plain = rf"\\{{0,4}}{re.escape(char)}"
    json = rf"\\{{1,4}}u00{code}"
    url = rf"%(?:25){{0,3}}{code}"
    xml = rf"&(?:amp;){{0,3}}(?:#x0{{0,4}}{code}|#0{{0,4}}{ord(char)}|[a-z]{{1,20}});"
    return f"(?:{plain}|(?i:{json}|{url}|{xml}))"
