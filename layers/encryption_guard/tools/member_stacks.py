"""What the stacks of a deployment do for other accounts: their role, and the way of their events.

A role exists once in an account, so the stack of one region, the home, creates it in all of them.
It trusts the functions of every region.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import yaml

from encryption_guard.errors import ConfigurationError
from encryption_guard.untrusted import as_text, object_or_empty
from layers.encryption_guard.tools.comparison import Stack
from layers.encryption_guard.tools.organization import ACCOUNTS, Guarded
from layers.encryption_guard.tools.preflight import Finding

HOME: Final = "GUARD_ORGANIZATION_HOME"
FOLDERS: Final = "GUARD_ORGANIZATION_FOLDERS"
BUS: Final = "GUARD_ORGANIZATION_BUS"
# Every account has it.
DEFAULT_BUS: Final = "default"
EXTERNAL_ID: Final = "GUARD_EXTERNAL_ID"
MEMBER_ROLE: Final = "GUARD_MEMBER_ROLE"
# The digest of all that the stack group consists of; empty: there is none.
STACK_GROUP: Final = "ENCRYPTION_GUARD_STACK_GROUP"
RECEIVING_BUS: Final = "ENCRYPTION_GUARD_BUS"
# Nothing is done for other accounts, whatever the shell has.
NO_MEMBERS: Final[Mapping[str, str]] = dict.fromkeys(
    (
        *(STACK_GROUP, RECEIVING_BUS, "ENCRYPTION_GUARD_FORWARD_ROLE", "ENCRYPTION_GUARD_SENDERS"),
        *("ENCRYPTION_GUARD_MEMBER_TEMPLATE", "ENCRYPTION_GUARD_MEMBER_PARAMETERS"),
        *("ENCRYPTION_GUARD_MEMBER_FOLDERS", "ENCRYPTION_GUARD_MEMBER_REGIONS"),
    ),
    "",
)
# The template of what another account gets.
MEMBER: Final = Path(__file__).parents[1] / "member.yaml"
# What template.yaml calls its stack, and the roles of the functions begin with.
NAME: Final = "oss-tables-encryption-guard"
FORWARD_ROLE: Final = f"{NAME}-forward"
# The characters of a trust policy, by the older pages of RAM; the newer ones have no number.
MAX_TRUST: Final = 2048


class Home(NamedTuple):
    """The region whose stack prepares other accounts, and every region that has the functions."""

    region: str
    regions: tuple[str, ...]


def find_home(settings: Mapping[str, str], regions: Iterable[str]) -> Home | Finding:
    """Return the home of these regions: the stated one, or the only one."""
    every = tuple(dict.fromkeys(regions))
    stated = settings.get(HOME)
    if not stated and len(every) == 1:
        return Home(every[0], every)
    if stated in every:
        return Home(str(stated), (str(stated), *(each for each in every if each != stated)))
    found = f"{HOME} is {stated}" if stated else f"{HOME} is not set"
    remedy = "A role exists once in an account, so one region has to create it: state which one."
    return Finding("error", f"{found}, but the guard is in {', '.join(sorted(every))}", remedy)


def serves_members(settings: Mapping[str, str]) -> bool:
    """Return whether the stacks do something for other accounts."""
    return bool(settings.get(FOLDERS) or settings.get(BUS))


def list_trusted(stack: Stack | None) -> list[str]:
    """Return the regions whose roles the deployed stack group trusts."""
    group = _deployed_group(stack)
    if not group:
        return []
    guards = object_or_empty(group["ENCRYPTION_GUARD_MEMBER_PARAMETERS"]).get("Guards")
    found = re.findall(rf":role/{NAME}-(?:sweep-)?([^,]+)", as_text(guards) or "")
    return list(dict.fromkeys(found))


def list_guards(account_id: str, regions: Iterable[str]) -> list[str]:
    """Return the ARNs of the roles of both functions in these regions."""
    return [
        f"acs:ram::{account_id}:role/{NAME}-{part}{region}"
        for region in regions
        for part in ("", "sweep-")
    ]


@dataclass(frozen=True)
class Members:
    """The other accounts, as the stacks of all regions serve them; `settings` are GUARD_*."""

    settings: Mapping[str, str]
    account_id: str
    home: Home
    guarded: Guarded

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of member.yaml."""
        bus = self.settings.get(BUS, "")
        return {
            "Guards": ",".join(list_guards(self.account_id, self.home.regions)),
            "ExternalId": self.settings.get(EXTERNAL_ID, ""),
            "RoleName": self.settings[MEMBER_ROLE],
            "AuditTables": self.settings["GUARD_AUDIT_TABLES"],
            "Home": self.home.region,
            "GuardAccount": self.account_id,
            "Bus": bus,
            "ForwardRole": FORWARD_ROLE if bus else "",
        }

    @property
    def custom_bus(self) -> str:
        """The event bus that somebody has to have created; empty: none."""
        bus = self.settings.get(BUS, "")
        return "" if bus == DEFAULT_BUS else bus

    def bus_regions(self, region: str) -> tuple[str, ...]:
        """Return where the stack of a region needs the bus: other accounts send to all of them."""
        sends = region == self.home.region and self.settings.get(FOLDERS)
        return self.home.regions if sends else (region,)

    @property
    def senders(self) -> list[str]:
        """The services that may send events here, as many as a trust policy holds."""
        senders: list[str] = []
        for each in self.guarded.account_ids:
            sender = f"{each}@eventbridge.aliyuncs.com"
            if each != self.account_id and len(_trust("Service", [*senders, sender])) <= MAX_TRUST:
                senders.append(sender)
        return senders

    def variables(self, region: str, *, without: Collection[str] = ()) -> dict[str, str]:
        """Return the variables of the template for the stack of a region.

        `without` are regions whose roles do not exist.
        """
        bus, is_home = self.settings.get(BUS, ""), region == self.home.region
        variables = {**NO_MEMBERS, RECEIVING_BUS: bus}
        if is_home and self.settings.get(FOLDERS):
            variables |= self._group([each for each in self.home.regions if each not in without])
        if is_home and bus and (senders := self.senders):
            variables["ENCRYPTION_GUARD_SENDERS"] = json.dumps(senders)
            variables["ENCRYPTION_GUARD_FORWARD_ROLE"] = FORWARD_ROLE
        return variables

    def _group(self, regions: Sequence[str]) -> dict[str, str]:
        guards = ",".join(list_guards(self.account_id, regions))
        parts = {
            "TEMPLATE": read_template(),
            "PARAMETERS": {**self.parameters, "Guards": guards},
            "FOLDERS": self.settings[FOLDERS].split(","),
            # The rule that forwards events is needed in each region, the role in one.
            "REGIONS": regions if self.settings.get(BUS) else [self.home.region],
        }
        texts = _group_variables(parts)
        digest = sha256("\0".join(texts.values()).encode()).hexdigest()
        return {**texts, STACK_GROUP: digest[:16]}

    def check(self) -> list[Finding]:
        """Check the trust policies against the limit of their length."""
        findings = []
        guards = list_guards(self.account_id, self.home.regions)
        if len(_trust("RAM", guards, self.settings.get(EXTERNAL_ID))) > MAX_TRUST:
            what = f"A trust policy with this external id has more than {MAX_TRUST:,} characters"
            findings.append(Finding("error", what, f"Set a shorter {EXTERNAL_ID}."))
        others, sent = {*self.guarded.account_ids} - {self.account_id}, len(self.senders)
        if self.settings.get(BUS) and (len(others) > sent or self.guarded.problem):
            which = "the other accounts" if self.guarded.problem else f"{len(others) - sent} more"
            what = f"Events of {sent} accounts are forwarded, and not those of {which}"
            remedy = (
                f"A trust policy has {MAX_TRUST:,} characters, and names each of them. The watch"
                " of the sweep function finds the new buckets of all."
            )
            findings.append(Finding("warning", what, remedy))
        return findings


def describe_missing_bus(bus: str, regions: Sequence[str]) -> Finding:
    """Return the error about an event bus that these regions do not have."""
    what = f"{BUS} is {bus}, and there is no such event bus in {', '.join(regions)}"
    remedy = (
        f"Correct it, or create the bus in each region: `aliyun eventbridge CreateEventBus"
        f" --EventBusName {bus} --region {regions[0]}`."
    )
    return Finding("error", what, remedy)


def describe_unknown_bus(bus: str, error: Exception, *, is_needed: bool) -> Finding:
    """Return the finding about an event bus that cannot be read.

    `is_needed`: the role in other accounts would be removed before its absence is noticed.
    """
    what = f"Whether there is an event bus {bus} is not known: {error}"
    remedy = "See the rights in docs/deploy.md (eventbridge:GetEventBus)."
    if is_needed:
        remedy += " The role in other accounts would be removed before its absence is noticed."
    return Finding("error" if is_needed else "warning", what, remedy)


def read_template(parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return member.yaml, with these parameters as the defaults."""
    template: dict[str, Any] = yaml.safe_load(MEMBER.read_text("utf-8"))
    for name, text in (parameters or {}).items():
        template["Parameters"][name]["Default"] = text
    return template


class Step(NamedTuple):
    """A step of a deployment: what it does, and the variables that differ in it from the last."""

    title: str
    variables: Mapping[str, str] = MappingProxyType({})
    # It removes the role from other accounts.
    removes: bool = False


def choose_steps(
    variables: Mapping[str, str], stack: Stack | None
) -> tuple[Mapping[str, str], list[Step]]:
    """Return the variables that differ while the functions are deployed, and the steps after that.

    `stack` is the deployed one. Other accounts trust only roles that exist, and a rule calls only a
    function that exists, so both come after the functions. No property of a stack group can be
    updated: one that changes is removed, after all that a service may refuse for another reason,
    and created again at once.
    """
    deployed = stack.parameters if stack else {}
    group, bus = (
        variables.get(name) and variables[name] != deployed.get(parameter)
        for name, parameter in ((STACK_GROUP, "StackGroup"), (RECEIVING_BUS, "Bus"))
    )
    kept = {STACK_GROUP: "", **_deployed_group(stack)} if group else {}
    of_bus = {RECEIVING_BUS: deployed.get("Bus", "")} if bus else {}
    steps = [Step("Deploy the part for other accounts")] if group or bus else []
    if is_replaced(variables, deployed):
        removal = Step("Remove the role from other accounts", {STACK_GROUP: ""}, removes=True)
        rule = [Step("Deploy the rule for events of other accounts", kept)] if bus else []
        steps = [*rule, removal, *steps]
    return {**kept, **of_bus}, steps


def _deployed_group(stack: Stack | None) -> dict[str, str]:
    """Return the variables with which the stack group stays as it is; empty: there is none.

    Raises ConfigurationError if the deployed template has another form than template.yaml.
    """
    if stack is None or not (digest := stack.parameters.get("StackGroup")):
        return {}
    try:
        resources = stack.template["Resources"]
        group, instances = (
            resources[name]["Properties"] for name in ("MemberStacks", "MemberStackInstances")
        )
        parts = {
            "TEMPLATE": group["TemplateBody"],
            "PARAMETERS": group["Parameters"],
            "FOLDERS": instances["DeploymentTargets"]["RdFolderIds"],
            "REGIONS": instances["RegionIds"],
        }
    except (KeyError, TypeError) as error:
        problem = f"The deployed stack has a stack group without {error}."
        raise ConfigurationError(problem) from None
    return {**_group_variables(parts), STACK_GROUP: digest}


def _group_variables(parts: Mapping[str, Any]) -> dict[str, str]:
    return {f"ENCRYPTION_GUARD_MEMBER_{name}": json.dumps(part) for name, part in parts.items()}


def is_replaced(variables: Mapping[str, str], deployed: Mapping[str, str]) -> bool:
    """Return whether the deployed stack group is removed, and created again with other contents."""
    before, after = deployed.get("StackGroup", ""), variables.get(STACK_GROUP, "")
    return bool(before and after and before != after)


def describe_removal(
    region: str, settings: Mapping[str, str], others: Sequence[str], *, keeps_stack: bool
) -> list[Finding]:
    """Say what becomes of other accounts when the guard is removed from a region.

    `settings` are the deployed ones, and `others` the other regions that have the functions.
    """
    if not settings.get(ACCOUNTS):
        return []
    role = f"the role {settings.get(MEMBER_ROLE)}"
    if not settings.get(FOLDERS):
        remedy = "Delete it in those accounts, or take the roles of this region out of its trust."
        what = f"In other accounts {role} stays, and trusts the roles of {region}"
        return [Finding("warning", what, remedy)]
    home = settings.get(HOME) or region
    if keeps_stack:
        what = f"The stacks stay, and {role} in the accounts of {settings[FOLDERS]} too"
        return [Finding("warning", what, "`make remove` without KEEP_LOGS removes all of them.")]
    if region != home:
        what = f"In other accounts {role} still trusts the roles of {region}, which are removed"
        return [Finding("warning", what, f"Then run `make deploy REGION={home}`: it ends that.")]
    findings = [Finding("ok", f"The stack group removes {role} from {settings[FOLDERS]}")]
    if others:
        what = f"{', '.join(others)} can then enter no other account"
        remedy = f"Deploy one of them with {HOME} first to prevent that, or remove them too."
        findings.append(Finding("warning", what, remedy))
    return findings


def _trust(kind: str, principals: Sequence[str], external_id: str | None = None) -> str:
    """Return a trust policy as RAM gets it, at its longest."""
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {kind: principals},
    }
    if external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": [external_id]}}
    return json.dumps({"Version": "1", "Statement": [statement]})
