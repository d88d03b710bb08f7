"""Who sent a request to OSS Tables: everything is checked, the signature by the official signer."""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from alibabacloud_oss_v2.signer.tables_v4 import TablesSignerV4
from alibabacloud_oss_v2.types import Credentials, HttpRequest, SigningContext

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import RefusedError
from tests.emulators.faults import Refuse
from tests.emulators.oss_tables_requests import BucketArn, bad_request
from tests.emulators.wire import Request

PRODUCT = "osstables"
LARGEST_SKEW = timedelta(minutes=15)
OSS_DATE = "%Y%m%dT%H%M%SZ"

# What a caller is told apart from "forbidden", if he is told.
TELLING_CODES = frozenset({"RequestTimeTooSkewed", "SecurityTokenExpired", "InvalidSecurityToken"})

AUTHORIZATION = re.compile(
    r"OSS4-HMAC-SHA256 Credential=(?P<access_key_id>[^,/\s]+)/(?P<date>[0-9]{8})"
    r"/(?P<region>[a-z0-9-]+)/(?P<product>[a-z0-9]+)/aliyun_v4_request"
    r"(?:,AdditionalHeaders=(?P<additional>[a-z0-9;-]+))?,Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)


def forbidden(code: str, message: str, ec: str) -> RefusedError:
    return RefusedError(Refuse(403, code, message, {"x-oss-ec": ec}))


def authenticate(
    request: Request,
    keys: Mapping[str, AccessKey],
    *,
    bucket: BucketArn | None,
    host_region: str | None,
    now: datetime,
) -> tuple[AccessKey, str]:
    """The key that signed the request, and the region it was signed for."""
    authorization = _authorization(request)
    key = keys.get(authorization["access_key_id"])
    if key is None:
        raise _unknown_key()
    signed_at = _signing_time(request, authorization, now)
    _check_scope(authorization, {bucket.region if bucket else None, host_region} - {None})
    if request.headers.get("x-oss-content-sha256") != "UNSIGNED-PAYLOAD":
        raise bad_request("The x-oss-content-sha256 must be UNSIGNED-PAYLOAD.")
    _check_token(request, key, now)
    _check_signature(request, authorization, key, bucket, signed_at)
    if bucket is not None and bucket.account_id != key.account_id:
        raise forbidden(
            "ForbiddenException", "The bucket you access does not belong to you.", "0003-00000001"
        )
    return key, authorization["region"]


def _authorization(request: Request) -> re.Match[str]:
    header = request.headers.get("authorization")
    if header is None:
        raise forbidden(
            "ForbiddenException",
            "Anonymous user has no right to access this bucket.",
            "0003-00000001",
        )
    match = AUTHORIZATION.fullmatch(header)
    if match is None:
        raise bad_request("The Authorization header is not valid.")
    return match


def _unknown_key() -> RefusedError:
    return forbidden(
        "ForbiddenException",
        "The OSS Access Key Id you provided does not exist in our records.",
        "0002-00000902",
    )


def _signing_time(request: Request, authorization: re.Match[str], now: datetime) -> datetime:
    date = request.headers.get("x-oss-date", "")
    try:
        signed_at = datetime.strptime(date, OSS_DATE).replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise forbidden(
            "ForbiddenException", "OSS authentication requires a valid Date.", "0002-00000505"
        ) from error
    if abs(now - signed_at) > LARGEST_SKEW:
        raise forbidden(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            "0002-00000504",
        )
    if authorization["date"] != date[:8]:
        raise bad_request("Invalid signing date in Authorization header.")
    return signed_at


def _check_scope(authorization: re.Match[str], regions: set[str | None]) -> None:
    if regions - {authorization["region"]}:
        raise bad_request("Invalid signing region in Authorization header.")
    if authorization["product"] != PRODUCT:
        raise bad_request("Invalid signing product in Authorization header.")


def _check_token(request: Request, key: AccessKey, now: datetime) -> None:
    token = request.headers.get("x-oss-security-token")
    if token is None and key.security_token is not None:
        # Without its token, a temporary key is in nobody's records.
        raise _unknown_key()
    if token != key.security_token:
        raise forbidden(
            "InvalidSecurityToken", "The security token you provided is invalid.", "0002-00000006"
        )
    if key.expired(now):
        raise forbidden(
            "SecurityTokenExpired",
            "The security token you provided has expired.",
            "0002-00000007",
        )


def _check_signature(
    request: Request,
    authorization: re.Match[str],
    key: AccessKey,
    bucket: BucketArn | None,
    signed_at: datetime,
) -> None:
    headers = {n: v for n, v in request.headers.items() if n != "authorization"}
    signed = HttpRequest(request.method, f"http://{request.host}{request.target}", headers)
    TablesSignerV4().sign(
        SigningContext(
            product=PRODUCT,
            region=authorization["region"],
            bucket=None if bucket is None else str(bucket),
            key=request.path.removeprefix("/"),
            request=signed,
            credentials=Credentials(key.id, key.secret, key.security_token),
            signing_time=signed_at,
            additional_headers=set((authorization["additional"] or "").split(";")) - {""},
        )
    )
    expected: str = signed.headers["Authorization"]
    if not hmac.compare_digest(expected, request.headers["authorization"]):
        raise forbidden(
            "ForbiddenException",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
            "0002-00000040",
        )
