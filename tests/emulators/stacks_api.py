"""Resource Orchestration Service as far as a deployment is read: stacks and their templates.

Forms as the vendor's SDK has them (`alibabacloud_ros20190910` 3.7.0); no live answer was at hand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import parameters
from tests.emulators.emulated_service import Call, refuse
from tests.emulators.rpc_service import RpcService, answered, no_such_action
from tests.emulators.wire import Answer

VERSION = "2019-09-10"
ACTIONS = ("ListStacks", "GetStack", "GetTemplate", "GetStackGroup")


@dataclass(frozen=True)
class KeptStack:
    """A stack of a region."""

    name: str
    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    status: str = "CREATE_COMPLETE"
    id: str = "c754d2a4-28f1-46df-b557-000000000001"
    reason: str = ""


class StacksApi(RpcService):
    """The service. A parameter with NoEcho is shown as asterisks.

    `groups` are the names of the stack groups.
    """

    def __init__(
        self,
        key: AccessKey,
        *stacks: KeptStack,
        region: str = "cn-hangzhou",
        groups: Collection[str] = (),
    ) -> None:
        super().__init__(key)
        self.groups = groups
        self.stacks: Sequence[KeptStack] = stacks
        self._region = region

    def perform(self, call: Call) -> Answer:
        action, asked = call.operation or "", parameters(call.request)
        if action not in ACTIONS or call.request.headers.get("x-acs-version") != VERSION:
            raise no_such_action()
        key = self.authenticated(call)
        if asked.get("RegionId") != self._region:
            raise refuse(400, "InvalidRegionId", f"The region {asked.get('RegionId')} is unknown.")
        kind = "stackgroup/*" if action == "GetStackGroup" else f"stack/{asked.get('StackId', '*')}"
        place = f"acs:ros:{self._region}:{key.account_id}:{kind}"
        self.require_right(key, f"ros:{action}", place)
        if action == "ListStacks":
            found = [each for each in self.stacks if each.name == asked.get("StackName.1")]
            fields: dict[str, Any] = {"TotalCount": len(found), "Stacks": list(map(_row, found))}
        elif action == "GetStackGroup":
            fields = {"StackGroup": self._group(asked.get("StackGroupName", ""))}
        else:
            fields = self._described(action, asked.get("StackId"))
        return answered(call, fields)

    def _group(self, name: str) -> dict[str, str]:
        if name not in self.groups:
            raise refuse(404, "StackGroupNotFound", f"The StackGroup ({name}) could not be found.")
        return {"StackGroupName": name, "Status": "ACTIVE", "PermissionModel": "SERVICE_MANAGED"}

    def _described(self, action: str, stack_id: str | None) -> dict[str, Any]:
        stack = next((each for each in self.stacks if each.id == stack_id), None)
        if stack is None:
            raise refuse(404, "StackNotFound", f"The Stack ({stack_id}) could not be found.")
        if action == "GetTemplate":
            return {"StackId": stack.id, "TemplateBody": json.dumps(stack.template)}
        declared = stack.template.get("Parameters", {})
        parameters = {
            "ALIYUN::Region": self._region,
            **{
                name: "******" if declared[name].get("NoEcho") else text
                for name, text in stack.parameters.items()
            },
        }
        told = [{"ParameterKey": key, "ParameterValue": text} for key, text in parameters.items()]
        return {**_row(stack), "StatusReason": stack.reason, "Parameters": told}


def _row(stack: KeptStack) -> dict[str, str]:
    return {"StackId": stack.id, "StackName": stack.name, "Status": stack.status}
