"""What an auditor keeps of a sweep: each form stands alone, and two can be compared."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from jsonschema import Draft202012Validator

from encryption_guard.cli.evidence import Conditions
from encryption_guard.cli.sweep_run import Outputs, SweepCommand
from encryption_guard.settings import Settings
from encryption_guard.sweep.findings import Totals
from encryption_guard.version import __version__
from tests.documents import REPOSITORY
from tests.emulators.cloud import ACCOUNT, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Fault, Refuse
from tests.emulators.function_compute_api import Deployed
from tests.emulators.operators_shell import invoke as run
from tests.integration.cli.test_sweep import HERE
from tests.unit.cli.printed import objects
from tests.unit.sweep.sweeps import AT

SCHEMA = json.loads((REPOSITORY / "docs" / "report.schema.json").read_text("utf-8"))
SCRATCH = [{"bucket": "scratch-*", "reason": "samples", "expires": "2099-12-31"}]
CALLER = {"account_id": ACCOUNT, "arn": f"acs:ram::{ACCOUNT}:root", "type": "Account"}
SWEEPER = "oss-tables-encryption-sweep"


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    with emulated_cloud() as cloud:
        yield cloud


def report(cloud: EmulatedCloud, folder: Path, *arguments: str, **shell: Any) -> dict[str, Any]:
    """Sweep with --report, and return its document, which the schema of the docs describes."""
    folder.mkdir(exist_ok=True)
    command = shell.pop("command", HERE)
    result = run(cloud, *command, "--report", str(folder), *arguments, **shell)
    assert result.exit_code in (0, 1, 3), result.stderr
    for name in ("report.html", "report.json", "report.csv"):
        digest = sha256((folder / name).read_bytes()).hexdigest()
        assert f"the report is in {folder / name} (SHA-256 {digest})." in result.stderr
    document: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    Draft202012Validator(SCHEMA).validate(document)
    return document


def test_a_report_of_nothing_says_of_what(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """Account, caller, time, version, region and mode are in each form, also without a bucket."""
    document = report(cloud, tmp_path, GUARD_MODE="detect", GUARD_EXEMPTIONS=json.dumps(SCRATCH))

    assert document["account_ids"] == [ACCOUNT]
    assert document["caller"] == CALLER
    assert (document["version"], document["schema_version"]) == (__version__, 1)
    assert (document["mode"], document["applied"], document["complete"]) == ("detect", False, True)
    assert (document["exemptions"], document["exemptions_from"]) == (SCRATCH, "shell")
    assert list(document["regions"]) == [REGION]
    assert "us-east-1" in document["regions_not_swept"]
    assert document["started_at"] <= document["ended_at"]
    assert document["findings"] == []
    page = (tmp_path / "report.html").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text("utf-8"))))
    for text in (ACCOUNT, CALLER["arn"], __version__, REGION, "scratch-*", "samples"):
        assert text in page
        assert any(text in row.values() for row in rows)


def test_each_form_has_the_request_behind_a_finding(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """And the ARN, for who wants to ask the service about it."""
    arn = cloud.tables.plant("orders", encryption="AES256")

    document = report(cloud, tmp_path)

    (finding,) = document["findings"]
    request_id = finding["oss_request_id"]
    assert (finding["arn"], bool(request_id)) == (arn, True)
    for name in ("report.html", "report.csv"):
        text = (tmp_path / name).read_text("utf-8")
        assert (arn in text, request_id in text) == (True, True)


def test_only_its_owner_may_read_a_report(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """It names accounts, buckets and refusals."""
    report(cloud, tmp_path)

    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_the_totals_on_standard_output_stand_alone_too(cloud: EmulatedCloud) -> None:
    """The last object of JSON has what the document has, but for the findings."""
    cloud.tables.plant("orders", encryption="AES256")

    *_, last = objects(run(cloud, *HERE, "--output", "json").stdout)

    assert (last["caller"], last["account_ids"]) == (CALLER, [ACCOUNT])
    assert last["started_at"].endswith("Z")


def test_an_unknown_caller_does_not_stop_a_sweep(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """The report says why it is not known."""
    cloud.sts.faults.add(Fault(Refuse(403)))
    cloud.tables.plant("orders")

    document = report(cloud, tmp_path, "--apply")

    assert document["caller"] is None
    assert "403 NoPermission" in document["no_caller"]
    assert document["totals"]["encrypted"] == 1
    assert "403 NoPermission" in (tmp_path / "report.html").read_text("utf-8")


# Changes.


def test_a_report_can_be_compared_with_an_earlier_one(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """What is new, gone and changed since is on the terminal, in JSON and on the page."""
    for name in ("orders", "parts", "bills"):
        cloud.tables.plant(name)
    old = report(cloud, tmp_path / "old")
    cloud.tables.remove(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/bills")
    cloud.tables.plant("new", encryption="KMS")
    run(cloud, *HERE, "--apply")

    again = tmp_path / "old" / "report.json"
    new = report(cloud, tmp_path / "new", "--compare", str(again))
    shown = run(cloud, *HERE, "--compare", str(again))

    changes = new["changes"]
    assert changes["since"] == old["ended_at"]
    assert [each["arn"].rpartition("/")[2] for each in changes["new"]] == ["new"]
    assert [each["arn"].rpartition("/")[2] for each in changes["gone"]] == ["bills"]
    assert [(each["before"], each["after"]) for each in changes["changed"]] == [
        ("not encrypted", "encrypted (AES256)")
    ] * 2
    assert "1 new, 1 gone, 2 changed." in shown.stderr
    assert "What is new, gone and changed" in (tmp_path / "new/report.html").read_text("utf-8")
    assert [line.split()[:2] for line in shown.stdout.splitlines() if " (AES256)" in line] == [
        ["changed", "orders"],
        ["changed", "parts"],
    ]


def test_the_report_of_another_account_is_not_compared(
    cloud: EmulatedCloud, tmp_path: Path
) -> None:
    """Everything would be new or gone."""
    document = report(cloud, tmp_path)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document | {"account_ids": ["9999999999999999"]}), "utf-8")

    new = report(cloud, tmp_path, "--compare", str(other))
    said = run(cloud, *HERE, "--output", "json", "--compare", str(other)).stderr

    assert new["changes"] is None
    assert "it is about another account (9999999999999999)" in said


# Whose exemptions.


def deploy(cloud: EmulatedCloud, **variables: str) -> None:
    """Let the deployed sweep have these variables."""
    deployed = cloud.api.deployed[SWEEPER]
    function = {**deployed.function, "environmentVariables": variables}
    cloud.api.deployed[SWEEPER] = replace(deployed, function=function)


def test_a_sweep_goes_by_those_of_the_function(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """With --as-deployed the shell's own do not count, in either direction."""
    arn = cloud.tables.plant("scratch-1")
    other = cloud.tables.plant("lab-1")
    deploy(cloud, GUARD_EXEMPTIONS=json.dumps(SCRATCH))
    lab = json.dumps([{"bucket": "lab-*", "reason": "a lab"}])

    document = report(cloud, tmp_path, "--apply", "--as-deployed", GUARD_EXEMPTIONS=lab)

    assert (document["exemptions_from"], document["exemptions"]) == ("deployed", SCRATCH)
    assert (cloud.tables.encryption(arn), cloud.tables.encryption(other)) == (None, "AES256")
    assert "from the deployed function" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GUARD_EXEMPTIONS": "file:exemptions-0.json"}, "are in a file of its code"),
        (None, f"No guard is deployed in {REGION} of account {ACCOUNT}"),
    ],
)
def test_what_is_not_known_of_the_function_stops_the_sweep(
    cloud: EmulatedCloud, variables: dict[str, str] | None, said: str
) -> None:
    """Rather than to go by exemptions that nobody has."""
    if variables is None:
        del cloud.api.deployed[SWEEPER]
    else:
        deploy(cloud, **variables)

    result = run(cloud, *HERE, "--apply", "--as-deployed")

    assert result.exit_code == 2
    assert said in result.stderr
    assert cloud.tables.requests == []


def test_without_an_account_the_function_is_not_known(cloud: EmulatedCloud) -> None:
    """The caller's is taken; if that is not told either, it has to be named."""
    cloud.sts.faults.add(Fault(Refuse(403)))

    unknown = run(cloud, *HERE, "--as-deployed")
    named = run(cloud, *HERE, "--as-deployed", FC_ACCOUNT_ID=ACCOUNT)

    assert (unknown.exit_code, named.exit_code) == (2, 0)
    assert "set FC_ACCOUNT_ID" in unknown.stderr
    assert "0 exemptions, from the deployed function." in named.stderr


def test_functions_with_different_exemptions_are_swept_one_by_one(cloud: EmulatedCloud) -> None:
    """Each region would have to go by its own."""
    answers = iter([json.dumps(SCRATCH), "[]"])

    class Changing(dict[str, Deployed]):
        def get(self, name: str, _: Any = None) -> Any:
            deploy(cloud, GUARD_EXEMPTIONS=next(answers))
            return self[name]

    cloud.api.deployed = Changing(cloud.api.deployed)

    result = run(cloud, "sweep", "--region", f"{REGION},cn-shanghai", "--as-deployed")

    assert result.exit_code == 2
    assert "sweep one region at a time" in result.stderr
    assert isinstance(cloud.api.deployed[SWEEPER], Deployed)


def test_a_function_that_cannot_be_read_now_is_not_looked_past(cloud: EmulatedCloud) -> None:
    """A later try may succeed: the exit code says that nobody looked."""
    cloud.api.faults.add(Fault(Refuse(503)))

    result = run(cloud, *HERE, "--as-deployed", GUARD_MAX_ATTEMPTS="1")

    assert result.exit_code == 3
    assert cloud.tables.requests == []


@pytest.mark.parametrize(("complete", "code"), [(False, 130), (True, 0)])
def test_a_sweep_that_was_stopped_has_an_exit_code_of_its_own(complete: bool, code: int) -> None:
    """Whatever it has found so far; if nothing was left to do, that is all of it."""
    conditions = Conditions(started_at=AT, settings=Settings(), applied=False)
    invocation = Mock(settings=Settings())
    command = SweepCommand(invocation, Totals(), Outputs("table"), conditions)
    command.stopped, command.complete = True, complete

    assert command.exit_code == code


def test_an_exemption_that_is_over_is_not_in_force(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """A report has those that count."""
    over = {"bucket": "orders", "reason": "x", "expires": "2020-01-31"}
    exemptions = json.dumps([over, *SCRATCH])

    result = run(cloud, *HERE, "--report", str(tmp_path), GUARD_EXEMPTIONS=exemptions)

    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [each["bucket"] for each in document["exemptions"]] == [SCRATCH[0]["bucket"]]
    assert "2020-01-31" not in (tmp_path / "report.csv").read_text("utf-8")
    assert "1 exemption, from your shell." in result.stderr


def test_a_bad_deployed_exemption_is_said(cloud: EmulatedCloud) -> None:
    """The function ignores it, and an operator would miss it."""
    deploy(cloud, GUARD_EXEMPTIONS=json.dumps([*SCRATCH, {"bucket": "Payments", "reason": "x"}]))

    result = run(cloud, *HERE, "--as-deployed")

    assert "Payments" in result.stderr
    assert "1 exemption, from the deployed function." in result.stderr


def test_the_csv_of_some_buckets_says_so(cloud: EmulatedCloud) -> None:
    """Its totals are not those of the region."""
    cloud.tables.plant("logs-1", encryption="AES256")
    cloud.tables.plant("payments")

    result = run(cloud, *HERE, "--bucket", "logs-*", "--output", "csv")

    assert "only buckets named logs-*" in result.stdout.splitlines()[-1]
