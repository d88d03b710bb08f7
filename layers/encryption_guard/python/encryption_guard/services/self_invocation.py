"""An asynchronous invocation of a function by itself, through Function Compute's API 2023-03-30.

The commands use `function_compute`, because the vendor's client there also reaches functions of FC
2.0; it is not in the layer.
"""

from __future__ import annotations

from urllib.parse import quote

import httpx

from encryption_guard.http import Answer, new_request
from encryption_guard.http.retries import UnreadableAnswer
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import Api, ApiAnswer, send

VERSION = "2023-03-30"
ACTION = "InvokeFunction"


def invoke_self(invocation: Invocation, payload: bytes) -> str:
    """Start another invocation of this function, and return its request ID; do not wait for it.

    Host, path and headers are those of the vendor's SDK (`alibabacloud_fc20230330` 4.8.3). Raises
    ApiRefused if no retry can help, and Unavailable if the service did not confirm in time that it
    has queued the payload. A retry may start a second invocation.
    https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-invokefunction
    """
    settings = invocation.settings
    api = Api(settings.fc_endpoint or f"https://fcv3.{settings.region}.aliyuncs.com", VERSION)
    name = quote(settings.function_name or "", safe="")
    url = f"{api.endpoint}/{VERSION}/functions/{name}/invocations"
    headers = {
        "accept": "application/json",
        "content-type": "application/octet-stream",
        "x-acs-action": ACTION,
        "x-acs-version": VERSION,
        "x-fc-invocation-type": "Async",
    }

    def new() -> httpx.Request:
        return new_request("POST", url, headers=headers, content=payload)

    return send(api, ACTION, invocation, new_request=new, read=_request_id)


def _request_id(answer: Answer, parsed: ApiAnswer) -> str:
    # Any other success would be that of a synchronous invocation, or of another service.
    if answer.status != 202 or not parsed.request_id:
        raise UnreadableAnswer("no confirmation of an asynchronous invocation")
    return parsed.request_id
