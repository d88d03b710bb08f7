"""Security Token Service: who the credentials belong to."""

from __future__ import annotations

from typing import Final, NamedTuple

from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import Api, call
from encryption_guard.untrusted import as_text, shortened

ENDPOINT: Final = "https://sts.aliyuncs.com"
VERSION: Final = "2015-04-01"


class Caller(NamedTuple):
    """An identity: its account, its ARN, and its type, such as `RAMUser` or `AssumedRoleUser`."""

    account_id: str
    arn: str
    type: str


def read_caller(invocation: Invocation) -> Caller:
    """Return the identity of the invocation's credentials.

    Raises ApiRefused or Unavailable if the service does not return it.
    https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-getcalleridentity
    """
    api = Api(invocation.settings.sts_endpoint or ENDPOINT, VERSION)
    answer = call(api, "GetCallerIdentity", invocation)
    fields = (as_text(answer.get(name)) for name in ("AccountId", "Arn", "IdentityType"))
    account_id, arn, kind = (shortened(text) if text else "" for text in fields)
    if not account_id or not arn:
        raise Unavailable("GetCallerIdentity returned no account or no ARN.")
    return Caller(account_id, arn, kind)
