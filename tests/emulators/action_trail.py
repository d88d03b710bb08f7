"""A stand-in for ActionTrail: an API call as the CloudEvent that EventBridge gets of it.

No public sample shows the event of CreateTableBucket. `cloud_event` therefore makes one in each
shape that it may have, and every shape names the bucket in one place only.
"""

import json
import uuid
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, get_args

from tests.emulators.oss_tables import ApiCall

Shape = Literal[
    "responseElements",
    "referencedResources",
    "resourceName",
    "requestParameters",
    "requestParameterJson",
    "eventSource",
    "subject",
]
Kind = Literal["ApiCall", "ConsoleOperation", "AliyunServiceEvent"]
Event = dict[str, Any]

SHAPES: tuple[Shape, ...] = get_args(Shape)
KINDS: tuple[Kind, ...] = get_args(Kind)
RESOURCE_TYPE = "ACS::OSS::TableBucket"
# Where the calls of RAM users come from; those of the account itself are "Internal" in the sample.
CLIENT_ADDRESS = "203.0.113.9"
CHINA = timezone(timedelta(hours=8))


def cloud_event(call: ApiCall, *, shape: Shape, kind: Kind = "ApiCall") -> Event:
    """The event of one call, with the bucket named where `shape` says and nowhere else.

    A refused call that named no bucket makes an event that names none, and nothing is answered to
    one with a bucket. It goes to the default bus of the caller's account and region alone: no page
    says that a trail of the whole organization reaches EventBridge.
    https://alibabacloud.com/help/en/doc-detail/212313.html
    """
    # The same for the same call, so that whatever is published twice is a duplicate.
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{call.request_id}/{call.operation}")
    china = call.at.astimezone(CHINA)
    named = call.bucket is not None
    event = {
        "id": str(identity),
        "source": "acs.oss",
        "specversion": "1.0",
        "type": f"oss:ActionTrail:{kind}",
        "datacontenttype": "application/json;charset=utf-8",
        "time": china.isoformat(timespec="seconds"),
        "aliyunaccountid": call.account_id,
        "aliyunpublishtime": published_at(call.at),
        "aliyuneventbusname": "default",
        "aliyunregionid": call.region,
        "aliyunpublishaddr": "172.25.0.1",
        "data": _record(call, kind) | (_naming(call, shape) if named else {}),
    }
    return event | ({"subject": call.arn} if named and shape == "subject" else {})


def published_at(time: datetime) -> str:
    """When a bus got an event, as its envelope says it."""
    china = time.astimezone(CHINA).replace(tzinfo=None)
    return f"{china.isoformat(timespec='milliseconds')}PRC"


def _record(call: ApiCall, kind: Kind) -> Event:
    """OSS's documented PutBucket record transposed, without the bucket."""
    record = {
        "eventId": call.request_id,
        "eventVersion": 1,
        "eventSource": f"{call.region}.oss-tables.aliyuncs.com",
        "sourceIpAddress": CLIENT_ADDRESS if call.user_name else "Internal",
        "eventType": kind,
        "userIdentity": _identity(call),
        "serviceName": "Oss",
        "additionalEventData": {"CallerBid": "26842"},
        "requestId": call.request_id,
        "eventTime": call.at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "isGlobal": False,
        "acsRegion": call.region,
        "eventName": call.operation,
    }
    error = {"errorCode": call.error_code, "errorMessage": call.error_message}
    return record | {key: value for key, value in error.items() if value is not None}


def _identity(call: ApiCall) -> Event:
    """Who called: https://www.alibabacloud.com/help/doc-detail/28826.htm has a RAM user's."""
    if call.user_name is None:
        principal, kind, name = call.account_id, "root-account", "root"
    else:
        principal, kind, name = (
            f"2{zlib.crc32(call.user_name.encode()):017}",
            "ram-user",
            call.user_name,
        )
    return {
        "accountId": call.account_id,
        "principalId": principal,
        "type": kind,
        "userName": name,
    }


def _naming(call: ApiCall, shape: Shape) -> Event:
    """The part of the record that names the bucket."""
    parameters = (
        {"name": call.bucket}
        if call.operation == "CreateTableBucket"
        else {"tableBucketARN": call.arn}
    )
    host = f"{call.bucket}-{call.account_id}.{call.region}.oss-tables.aliyuncs.com"
    places: dict[Shape, Event] = {
        "responseElements": {"responseElements": {"arn": call.arn}},
        "referencedResources": {"referencedResources": {RESOURCE_TYPE: [call.bucket]}},
        "resourceName": {"resourceName": call.bucket, "resourceType": RESOURCE_TYPE},
        "requestParameters": {"requestParameters": parameters},
        "requestParameterJson": {"requestParameterJson": json.dumps(parameters)},
        "eventSource": {"eventSource": host},
        "subject": {},
    }
    if call.error_code and shape == "responseElements":
        return places["requestParameters"]
    return places[shape]
