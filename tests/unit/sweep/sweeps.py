"""A sweep as it may well be: eight regions, some forty buckets, and everything that can happen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.cli.evidence import Conditions, Evidence
from encryption_guard.cli.sweep_rows import OF_ACCOUNTS
from encryption_guard.services.inventory import GONE, REGIONS
from encryption_guard.services.sts import Caller
from encryption_guard.settings import Exemption, Settings
from encryption_guard.sweep.findings import (
    FAILED,
    NOT_REACHED,
    RECREATE_TABLE,
    UNPROTECTED,
    Finding,
    Totals,
)

AT = datetime(2026, 11, 22, 22, 32, 7, tzinfo=timezone.utc)
ACCOUNT = "1234567890123456"
# Members of the organization of ACCOUNT, which comes first by its number.
FIRST, SECOND = "2222222222222222", "3333333333333333"
CALLER = Caller(ACCOUNT, f"acs:ram::{ACCOUNT}:user/auditor", "RAMUser")


def exemption(glob: str, reason: str, expires: str | None = None) -> Exemption:
    """An exemption as the settings would read it."""
    return Exemption.read({"bucket": glob, "reason": reason, "expires": expires})


LAB = exemption(
    "lab-*", "Throw-away data of the performance lab, agreed with the CISO", "2026-12-02"
)
PARTNER = exemption("partner-exchange", "The partner reads without KMS until its migration is done")
OLD = exemption("legacy-hive-*", "To be switched off", "2027-06-30")


def bucket(name: str = "orders", region: str = "cn-hangzhou", **told: Any) -> Finding:
    """An encrypted bucket, but for what is told of it."""
    known: dict[str, Any] = {
        "kind": "bucket",
        "state": "encrypted",
        "outcome": "already_encrypted",
        "reason": "AES256",
        "encryption": "AES256",
        "created_at": AT - timedelta(days=200),
    }
    account = told.pop("account", None)
    arn = TableBucketArn(region, account or ACCOUNT, name)
    return Finding(**known | {"scope": Scope(account, region), "arn": arn} | told)


def without(name: str = "orders", region: str = "cn-hangzhou", **told: Any) -> Finding:
    """A bucket without encryption, or with an unknown one."""
    known: dict[str, Any] = {
        "state": "not_encrypted",
        "outcome": "detected",
        "reason": "would_encrypt",
        "encryption": None,
    }
    return bucket(name, region, **known | told)


def exempt(name: str, region: str, by: Exemption | None, **told: Any) -> Finding:
    """A bucket that is left alone."""
    reason = f"exempt: {by.reason}" if by else "managed_by_oss"
    known: dict[str, Any] = {"outcome": "skipped", "reason": reason, "exemption": by}
    return replace(bucket(name, region), **known | told)


def table(name: str | None, namespace: str | None, of: Finding, **told: Any) -> Finding:
    """An unprotected table, but for what is told of it."""
    known: dict[str, Any] = {
        "kind": "table",
        "state": "not_encrypted",
        "outcome": UNPROTECTED,
        "reason": "created_unencrypted",
        "detail": RECREATE_TABLE,
        "created_at": AT - timedelta(days=220),
    }
    about = {"scope": of.scope, "arn": of.arn}
    return Finding(**known | about | {"namespace": namespace, "table": name} | told)


REFUSED_REGION = Finding(
    kind="region",
    scope=Scope(None, "us-east-1"),
    state="unknown",
    outcome=FAILED,
    reason="not_listed",
    detail="OSS Tables answered 403 AccessDenied (request 65F1C0A3D8E2B4). If that is a missing"
    " right, grant oss:ListTableBuckets.",
    status=403,
    code="AccessDenied",
)


def not_prepared(account_id: str) -> Finding:
    """An account whose role cannot be taken."""
    detail = f"The role acs:ram::{account_id}:role/member cannot be taken (403 NoPermission)."
    found = Finding.of_accounts(account_id, kind="account", reason="not_prepared", detail=detail)
    return replace(found, status=403, code="NoPermission")


def incomplete_directory() -> Finding:
    """A list of accounts that leads back to an earlier page."""
    detail = "The list of accounts is incomplete: its token leads to an earlier page."
    return Finding.of_accounts(
        ACCOUNT, kind="organization", reason="directory_incomplete", detail=detail
    )


def of_accounts(
    account_ids: Iterable[str],
    findings: Iterable[Finding] = (),
    regions: Sequence[str] = ("cn-hangzhou", "cn-shanghai"),
    **told: Any,
) -> Evidence:
    """A complete sweep of these accounts and regions that found this."""
    scopes = [Scope(account_id, region) for account_id in account_ids for region in regions]
    return _evidence(findings, scopes, **told)


def _well() -> list[Finding]:
    names = {
        "cn-hangzhou": "orders payments customers inventory shipments invoices audit-trail",
        "cn-shanghai": "telemetry clickstream sessions experiments",
        "cn-beijing": "finance-ledger finance-close treasury-positions",
        "cn-shenzhen": "device-events firmware-rollouts factory-line-04-quality-measurements",
        "ap-southeast-1": "sg-orders sg-customers sg-risk-scores sg-claims",
        "eu-central-1": "eu-orders eu-consents eu-erasure-requests",
    }
    return [bucket(name, region) for region, list_ in names.items() for name in list_.split()]


def everything() -> list[Finding]:
    """Each outcome that there is, as found by a sweep that also encrypts."""
    lost = without("kyc-documents", "cn-shanghai", outcome="dead_lettered", reason="rejected")
    refused = (
        "OSS Tables refused the encryption (403 Forbidden), and a retry cannot help. The dead"
        " letter has a remedy."
    )
    unread: dict[str, Any] = {"state": "unknown", "outcome": FAILED, "reason": "unread"}
    late: dict[str, Any] = {"state": "unknown", "outcome": NOT_REACHED, "reason": "time_over"}
    hidden = bucket("eu-vault", "eu-central-1")
    return [
        *_well(),
        hidden,
        bucket(
            "ml-features", "cn-hangzhou", outcome="kept_stronger", reason="KMS", encryption="KMS"
        ),
        bucket(
            "gov-registry", "cn-beijing", outcome="kept_stronger", reason="SM4", encryption="SM4"
        ),
        bucket(
            "new-arrivals",
            "cn-hangzhou",
            outcome="encrypted",
            reason="created",
            time_to_encrypt_ms=4210,
            created_at=AT - timedelta(seconds=9),
        ),
        bucket(
            "warehouse-2019",
            "cn-shenzhen",
            outcome="encrypted",
            reason="drift",
            time_to_encrypt_ms=200 * 86_400_000,
        ),
        without("marketing-leads", "cn-hangzhou"),
        without("hr-reviews", "eu-central-1"),
        replace(lost, detail=refused, status=403, code="Forbidden"),
        without(
            "sg-settlements",
            "ap-southeast-1",
            outcome=FAILED,
            reason="unavailable",
            detail="PutTableBucketEncryption: no answer within 5 seconds, at 4 tries.",
        ),
        without(
            "firmware-images",
            "cn-shenzhen",
            outcome=FAILED,
            reason="not_confirmed",
            detail="OSS Tables confirmed the encryption, but the guard could not read it back. The"
            " bucket still shows no encryption.",
        ),
        without(
            "treasury-archive",
            "cn-beijing",
            **unread,
            detail="OSS Tables answered 403 AccessDenied. If that is a missing right, grant"
            " oss:GetTableBucketEncryption.",
        ),
        without("tmp-import", "cn-shanghai", **unread | {"reason": "gone"}, detail=GONE),
        without(
            "sg-archive",
            "ap-southeast-1",
            **late,
            detail="The sweep ended before it could check this.",
            created_at=None,
        ),
        exempt("lab-load-test", "cn-hangzhou", LAB, state="not_encrypted", encryption=None),
        exempt("lab-replay", "ap-southeast-1", LAB, state="not_encrypted", encryption=None),
        exempt("partner-exchange", "eu-central-1", PARTNER),
        exempt("oss-managed-table-bucket", "cn-hangzhou", None),
        table("raw_clicks", "web", bucket("clickstream", "cn-shanghai")),
        table("salaries_2025", "payroll", bucket("hr-reviews", "eu-central-1")),
        table(
            "positions",
            "desk_a",
            bucket("treasury-positions", "cn-beijing"),
            **unread,
            detail="OSS Tables answered 503 ServiceUnavailable at 4 tries.",
        ),
        table(
            None,
            None,
            hidden,
            **unread | {"reason": "not_listed"},
            detail="OSS Tables answered 403 AccessDenied. If that is a missing right, grant"
            " oss:ListNamespaces.",
        ),
        table(
            "orders",
            "sales",
            bucket(),
            state="encrypted",
            outcome="already_encrypted",
            reason="AES256",
            detail=None,
        ),
        REFUSED_REGION,
    ]


def data(
    findings: Iterable[Finding] = (), regions: Sequence[str] = REGIONS, **told: Any
) -> Evidence:
    """A complete sweep over these regions of the own account that found this."""
    return _evidence(findings, [Scope(None, region) for region in regions], **told)


def _evidence(findings: Iterable[Finding], scopes: Sequence[Scope], **told: Any) -> Evidence:
    found, totals = list(findings), Totals.empty(scopes)
    for finding in found:
        totals.count(finding)
    settings = Settings(
        audit_tables=told.pop("audit", "late"), exemptions=tuple(told.pop("exemptions", ()))
    )
    conditions = Conditions(
        started_at=AT - timedelta(seconds=3),
        settings=settings,
        applied=told.pop("applied", False),
        caller=told.pop("caller", CALLER),
        no_caller=told.pop("no_caller", None),
        exemptions_from=told.pop("exemptions_from", "shell"),
        member_role=told.pop("member_role", None),
    )
    left_out = [finding for finding in found if finding.kind in OF_ACCOUNTS]
    own = conditions.caller.account_id if conditions.caller else None
    accounts = {scope.account_id or own for scope in scopes}
    accounts -= {finding.account_id for finding in left_out if finding.kind == "account"}
    accounts |= {finding.arn.account_id for finding in found if finding.arn}
    known: dict[str, Any] = {
        "at": AT,
        "complete": True,
        "accounts": sorted(filter(None, accounts)),
        "accounts_left_out": left_out,
    }
    return Evidence(found, totals, conditions=conditions, **known | told)


def realistic(**told: Any) -> Evidence:
    """Everything, with three exemptions of which one ends soon and one covers nothing."""
    known: dict[str, Any] = {
        "applied": True,
        "audit": "true",
        "exemptions": (PARTNER, OLD, LAB),
    }
    return data(everything(), **known | told)
