"""Who sent a request to SMQ: everything is checked, the signature by the official client."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from mns.auth import Credentials
from mns.mns_client import MNSClient

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import refuse
from tests.emulators.wire import Request

LARGEST_SKEW = timedelta(minutes=15)
VERSION = "2015-06-06"


def authenticate(request: Request, keys: Mapping[str, AccessKey], now: datetime) -> AccessKey:
    """The key that signed the request."""
    if request.headers.get("x-mns-version") != VERSION:
        raise refuse(400, "InvalidVersionHeader", f"The x-mns-version must be {VERSION}.")
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise refuse(400, "MissingAuthorizationHeader", "Authorization header is required.")
    scheme, _, credential = authorization.partition(" ")
    access_key_id, colon, _ = credential.partition(":")
    if scheme != "MNS" or not colon:
        raise refuse(
            400, "InvalidAuthorizationHeader", "The Authorization header format is invalid."
        )
    key = keys.get(access_key_id)
    if key is None:
        raise _unknown_key()
    _check_date(request, now)
    _check_token(request, key, now)
    _check_signature(request, key, authorization)
    return key


def check_content(request: Request) -> None:
    """The digest is the base64 of the hexadecimal MD5, as the official client sends it."""
    digest = request.headers.get("content-md5")
    actual = hashlib.md5(request.body, usedforsecurity=False).hexdigest().encode("ascii")
    if digest is not None and digest != base64.b64encode(actual).decode("ascii"):
        raise refuse(400, "InvalidDegist", "The Content-MD5 you specified is invalid.")


def _unknown_key() -> Exception:
    return refuse(403, "InvalidAccessKeyId", "The AccessKey Id you provided is not exist.")


def _check_date(request: Request, now: datetime) -> None:
    date = request.headers.get("date")
    if date is None:
        raise refuse(400, "MissingDateHeader", "Date header is required.")
    try:
        sent_at = parsedate_to_datetime(date)
    except ValueError as error:
        raise refuse(400, "InvalidDateHeader", "The Date header format is invalid.") from error
    if abs(now - sent_at.replace(tzinfo=timezone.utc)) > LARGEST_SKEW:
        raise refuse(400, "TimeExpired", "The http request you sent is expired.")


def _check_token(request: Request, key: AccessKey, now: datetime) -> None:
    token = request.headers.get("security-token")
    if token is None and key.security_token is not None:
        # Without its token, a temporary key is in nobody's records.
        raise _unknown_key()
    if token != key.security_token:
        raise refuse(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if key.expired(now):
        raise refuse(403, "SecurityTokenExpired", "The security token you provided has expired.")


def _check_signature(request: Request, key: AccessKey, authorization: str) -> None:
    official = MNSClient("http://127.0.0.1", key.id, key.secret)
    expected: str = official.get_signature(
        request.method,
        dict(request.headers),
        request.target,
        Credentials(key.id, key.secret, key.security_token),
    )
    if not hmac.compare_digest(expected, authorization):
        raise refuse(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
