"""Who sent a request to an RPC API: everything is checked, the signature by the official library.

A client chooses which headers it signs: the vendor's signs `accept` and `user-agent` too. So the
list is taken from the request, and has to hold whatever a signature must not leave out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl

from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import RefusedError, refuse
from tests.emulators.wire import Request

ALGORITHM = "ACS3-HMAC-SHA256"
LARGEST_SKEW = timedelta(minutes=15)
ACS_DATE = "%Y-%m-%dT%H:%M:%SZ"
HAVE_TO_BE_SIGNED = frozenset(
    {"host", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
)
AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<access_key_id>[^,\s]+),SignedHeaders=(?P<names>[a-z0-9;-]+)"
    r",Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)


def parameters(request: Request) -> dict[str, str]:
    """The query, decoded as a form: the vendor's client signs a blank as %20 and sends a `+`."""
    return dict(parse_qsl(request.query, keep_blank_values=True))


def authenticate(request: Request, keys: Mapping[str, AccessKey], now: datetime) -> AccessKey:
    """The key that signed the request."""
    authorization = _authorization(request)
    key = keys.get(authorization["access_key_id"])
    if key is None:
        raise _unknown_key()
    signed = authorization["names"].split(";")
    _check_signed_headers(request, signed)
    _check_date(request, now)
    _check_token(request, key, now)
    if request.headers["x-acs-content-sha256"] != hashlib.sha256(request.body).hexdigest():
        raise _incomplete("x-acs-content-sha256 is not that of the body")
    _check_signature(request, signed, key)
    return key


class Nonces:
    """What a service has seen already: no request is taken twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    def check(self, request: Request) -> None:
        nonce = request.headers["x-acs-signature-nonce"]
        with self._lock:
            if nonce in self._seen:
                raise refuse(400, "SignatureNonceUsed", "Specified signature nonce was used.")
            self._seen.add(nonce)


def _authorization(request: Request) -> re.Match[str]:
    header = request.headers.get("authorization")
    if header is None:
        raise refuse(400, "MissingAuthorization", "Authorization is mandatory for this action.")
    match = AUTHORIZATION.fullmatch(header)
    if match is None:
        raise _incomplete("the Authorization header is not valid")
    return match


def _unknown_key() -> RefusedError:
    return refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")


def _incomplete(why: str) -> RefusedError:
    message = f"The request signature does not conform to Aliyun standards: {why}."
    return refuse(400, "IncompleteSignature", message)


def _check_signed_headers(request: Request, signed: list[str]) -> None:
    sent = {name for name in request.headers if name.startswith("x-acs-")}
    if missing := (HAVE_TO_BE_SIGNED | sent) - set(signed):
        raise _incomplete(f"{sorted(missing)} has to be signed")
    if absent := set(signed) - set(request.headers):
        raise _incomplete(f"{sorted(absent)} is not there")


def _check_date(request: Request, now: datetime) -> None:
    try:
        date = request.headers["x-acs-date"]
        sent_at = datetime.strptime(date, ACS_DATE).replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise refuse(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        ) from error
    if abs(now - sent_at) > LARGEST_SKEW:
        raise refuse(
            400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."
        )


def _check_token(request: Request, key: AccessKey, now: datetime) -> None:
    token = request.headers.get("x-acs-security-token")
    if token is None and key.security_token is not None:
        # Without its token, a temporary key is in nobody's records.
        raise _unknown_key()
    if token != key.security_token:
        raise refuse(400, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
    if key.expired(now):
        raise refuse(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")


def _check_signature(request: Request, signed: list[str], key: AccessKey) -> None:
    theirs = DaraRequest()
    theirs.method, theirs.pathname = request.method, request.path
    theirs.query = parameters(request)
    theirs.headers = {name: request.headers[name] for name in signed}
    expected: str = Utils.get_authorization(
        theirs, ALGORITHM, request.headers["x-acs-content-sha256"], key.id, key.secret
    )
    if not hmac.compare_digest(expected, request.headers["authorization"]):
        raise refuse(
            400,
            "SignatureDoesNotMatch",
            "Specified signature does not match our calculation.",
        )
