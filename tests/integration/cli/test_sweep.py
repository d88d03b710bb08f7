"""`encryption-guard sweep` as an operator runs it: a process of its own, against the cloud."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.services.inventory import REGIONS
from tests.emulators.cloud import ACCOUNT, QUEUE, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Delay, Fault, GarbageBody, Refuse
from tests.emulators.operators_shell import PROGRAM, environment, invoke
from tests.unit.legible import assert_legible

PUT, GET = "PutTableBucketEncryption", "GetTableBucketEncryption"
LIST = "ListTableBuckets"
ELSEWHERE = "cn-shanghai"
HERE = ("sweep", "--region", REGION)
NOWHERE = "https://127.0.0.1:9"


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    with emulated_cloud() as cloud:
        yield cloud


def start(
    cloud: EmulatedCloud, *arguments: str, columns: int | None = None, **variables: str | None
) -> subprocess.Popen[str]:
    """Begin the command in a shell that has these variables too, or lacks those that are None."""
    told = environment(cloud, columns=columns) | variables
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={name: value for name, value in told.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    cloud: EmulatedCloud, *arguments: str, columns: int | None = None, **variables: str | None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; whatever it prints steers no terminal and tells no secret."""
    with start(cloud, *arguments, columns=columns, **variables) as process:
        output, errors = process.communicate(timeout=120)
    assert_legible((output + errors).replace("\r", ""), lines=True)
    assert "Traceback" not in errors
    assert environment(cloud)["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] not in output + errors
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def operations(cloud: EmulatedCloud) -> list[str | None]:
    return [request.operation for request in cloud.tables.requests]


def objects(text: str) -> list[dict[str, Any]]:
    """What was printed, if each line is an object."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(item, dict) for item in found)
    return found


def sentences(errors: str) -> str:
    """What was said to the operator."""
    said = "encryption-guard: "
    return "\n".join(line for line in errors.splitlines() if line.startswith(said))


def letters(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    return [json.loads(b64decode(body)) for body in cloud.queue.bodies(QUEUE)]


# The plan, and carrying it out.


def test_a_plan_changes_nothing(cloud: EmulatedCloud) -> None:
    """Without --apply it is told what would be encrypted, no PUT is made, and it exits with 1."""
    arn = cloud.tables.plant("orders")
    cloud.tables.plant("parts", encryption="KMS")

    result = run(cloud, *HERE)

    assert result.returncode == 1
    assert cloud.tables.encryption(arn) is None
    assert PUT not in operations(cloud)
    assert "would be encrypted" in result.stdout
    assert (
        "nothing was changed; to encrypt these buckets, run the same command with --apply"
        in result.stderr
    )


def test_a_plan_of_what_is_all_encrypted_is_well(cloud: EmulatedCloud) -> None:
    """With nothing to do the exit code is 0, and nobody is told to use --apply."""
    cloud.tables.plant("orders", encryption="AES256")

    result = run(cloud, *HERE)

    assert result.returncode == 0
    assert "--apply" not in result.stderr


def test_apply_encrypts(cloud: EmulatedCloud) -> None:
    """With --apply every bucket ends encrypted, stronger choices are kept, the exit code is 0."""
    arns = [
        cloud.tables.plant("orders"),
        cloud.tables.plant("parts", encryption="KMS"),
        cloud.tables.plant("bills", encryption="AES256"),
    ]

    first, second = run(cloud, *HERE, "--apply"), run(cloud, *HERE, "--apply")

    assert (first.returncode, second.returncode) == (0, 0)
    assert [cloud.tables.encryption(arn) for arn in arns] == ["AES256", "KMS", "AES256"]
    assert "3 encrypted, 1 of them now" in sentences(first.stderr)
    assert "3 encrypted, 0 of them now" in sentences(second.stderr)
    assert operations(cloud).count(PUT) == 1


@pytest.mark.parametrize("apply", [(), ("--apply",)], ids=["plan", "apply"])
def test_exempt_buckets_do_not_spoil_it(cloud: EmulatedCloud, apply: tuple[str, ...]) -> None:
    """What is exempt or managed by OSS is shown with its reason, left alone, and is no failure."""
    today = datetime.now(timezone.utc).date()
    until = (today + timedelta(days=10)).isoformat()
    exempt = [{"bucket": "sandbox-*", "reason": "public samples", "expires": until}]
    arns = [
        cloud.tables.plant(name, kind=None)
        for name in ("sandbox-1", "sandbox-2", "oss-managed-table-bucket")
    ]
    cloud.tables.plant("orders", encryption="SM4")

    result = run(cloud, *HERE, *apply, columns=200, GUARD_EXEMPTIONS=json.dumps(exempt))

    assert result.returncode == 0
    assert [cloud.tables.encryption(arn) for arn in arns] == [None, None, None]
    assert f"exempt until {until}: public samples" in result.stdout
    assert "managed by OSS" in result.stdout
    assert sentences(result.stderr).count("with no type") == 1
    assert f"ends after {until}" in result.stderr


def test_detect_mode_wins_over_apply(cloud: EmulatedCloud) -> None:
    """GUARD_MODE=detect changes nothing even with --apply, and says so."""
    arn = cloud.tables.plant("orders")

    result = run(cloud, *HERE, "--apply", GUARD_MODE="detect")

    assert result.returncode == 1
    assert cloud.tables.encryption(arn) is None
    assert "nothing was changed: GUARD_MODE is detect" in sentences(result.stderr)


@pytest.mark.parametrize(("operation", "code"), [(LIST, 3), (GET, 3), (PUT, 1)])
def test_what_could_not_be_read_has_another_exit_code_than_what_is_open(
    cloud: EmulatedCloud, operation: str, code: int
) -> None:
    """A list, a read or a PUT that fails has its row, with the reason."""
    cloud.tables.plant("orders")
    cloud.tables.faults.add(Fault(Refuse(500), operation=operation))

    result = run(cloud, *HERE, "--apply", columns=400, GUARD_MAX_ATTEMPTS="1")

    assert result.returncode == code
    assert f"OSS Tables answered 500 InternalServerException to {operation}" in result.stdout
    assert operation == LIST or "orders" in result.stdout


# Forms of output.


def plant_all_kinds(cloud: EmulatedCloud) -> None:
    for name, encryption in (
        ("orders", None),
        ("parts", "KMS"),
        ("bills", "AES256"),
        ("odd", "ROT13"),
    ):
        cloud.tables.plant(name, encryption=encryption)
    cloud.tables.plant("orders", region=ELSEWHERE)


def test_json_is_one_object_a_line(cloud: EmulatedCloud) -> None:
    """Each bucket is an object, and the last one holds the totals."""
    plant_all_kinds(cloud)

    result = run(cloud, *HERE, "--region", ELSEWHERE, "--output", "json")

    *found, last = objects(result.stdout)
    assert {(one["region"], one["bucket"]): one["state"] for one in found} == {
        (REGION, "orders"): "not_encrypted",
        (REGION, "parts"): "encrypted",
        (REGION, "bills"): "encrypted",
        (REGION, "odd"): "unknown",
        (ELSEWHERE, "orders"): "not_encrypted",
    }
    assert {one["kind"] for one in found} == {"bucket"}
    assert (last["kind"], last["complete"], last["applied"]) == ("totals", True, False)
    assert last["ok"] is False
    assert last["totals"]["buckets"] == 5
    assert {region: told["buckets"] for region, told in last["regions"].items()} == {
        REGION: 4,
        ELSEWHERE: 1,
    }


def test_csv_is_a_spreadsheet(cloud: EmulatedCloud) -> None:
    """One header, one row for each bucket, the same number of cells in each, and no formulas."""
    arn = cloud.tables.plant("orders")
    cloud.tables.plant("parts", encryption="AES256")
    for table in ("=1+1", "+1", "-1", "@SUM(A1)", '"quoted", and more', "a\r\nb", "\t=1"):
        cloud.tables.plant_table(arn, "=namespace", table)
    exempt = [{"bucket": "sandbox", "reason": '=HYPERLINK("https://evil.example")'}]
    cloud.tables.plant("sandbox")

    result = run(cloud, *HERE, "--tables", "--output", "csv", GUARD_EXEMPTIONS=json.dumps(exempt))

    header, *rows = list(csv.reader(io.StringIO(result.stdout, newline="")))
    assert header[:5] == ["kind", "region", "bucket", "namespace", "table"]
    assert header not in rows
    assert {len(row) for row in rows} == {len(header)}
    told = [dict(zip(header, row, strict=True)) for row in rows]
    states = {row["bucket"]: row["state"] for row in told if row["kind"] == "bucket"}
    assert states == {
        "orders": "not_encrypted",
        "parts": "encrypted",
        "sandbox": "not_encrypted",
    }
    assert len([row for row in told if row["kind"] == "table"]) == 7
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))] == []
    assert "HYPERLINK" in "".join(cells)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_table_fits_the_terminal(cloud: EmulatedCloud, columns: int) -> None:
    """Names, encryption, what was done and the totals are there, however narrow it is."""
    plant_all_kinds(cloud)

    result = run(cloud, *HERE, "--region", ELSEWHERE, columns=columns)

    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    for word in (REGION, ELSEWHERE, "orders", "parts", "bills", "odd", "KMS", "AES256"):
        assert word in result.stdout
    for word in ("not encrypted", "unknown", "would be encrypted", "all"):
        assert all(part in result.stdout for part in word.split())
    if columns == 200:
        (row,) = [line.split() for line in lines if "parts" in line]
        assert row[:2] + row[-2:] == [REGION, "parts", "kept", "KMS"]
        (total,) = [line.split() for line in lines if line.split()[:1] == ["all"]]
        assert total == ["all", "5", "2", "2", "1", "0"]


def test_what_was_done_is_in_the_table(cloud: EmulatedCloud) -> None:
    """With --apply a row tells that its bucket was encrypted now, and since when it should be."""
    cloud.tables.plant("fresh")
    cloud.tables.plant("old", created_at=datetime.now(timezone.utc) - timedelta(days=3))

    result = run(cloud, *HERE, "--apply", columns=200)

    rows = {line.split()[1]: line for line in result.stdout.splitlines() if len(line.split()) > 4}
    assert "encrypted now (new)" in rows["fresh"]
    assert "encrypted now (drift)" in rows["old"]


def test_times_are_in_utc(cloud: EmulatedCloud) -> None:
    """A time that the service tells in another zone stands in UTC, and says so."""
    at = datetime(2026, 3, 1, 6, 30, tzinfo=timezone(timedelta(hours=8)))
    cloud.tables.plant("orders", encryption="AES256", created_at=at)

    result = run(cloud, *HERE, columns=200)

    assert "2026-02-28 22:30 UTC" in result.stdout


def test_an_extreme_time_can_be_shown(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """Whenever a bucket was created, there is a row for it, and a page."""
    at = "0001-01-01T00:00:00+14:00"
    arn = cloud.tables.plant("orders", encryption="AES256")
    page = json.dumps({"tableBuckets": [{"arn": arn, "createdAt": at}]}).encode()
    cloud.tables.faults.add(Fault(GarbageBody(page), operation=LIST))

    result = run(cloud, *HERE, "--html", str(tmp_path / "page.html"))

    assert result.returncode == 0
    assert "orders" in result.stdout


# Which regions.


def test_regions_are_chosen(cloud: EmulatedCloud) -> None:
    """--region counts before GUARD_SWEEP_REGIONS, that before FC_REGION; each is swept once."""
    told = {"GUARD_SWEEP_REGIONS": f"{ELSEWHERE},us-east-1", "FC_REGION": "eu-central-1"}
    swept = []
    for arguments, variables in (
        ((*HERE, "--region", "ap-southeast-1", "--region", REGION), told),
        (("sweep",), told),
        (("sweep",), {"FC_REGION": "eu-central-1"}),
    ):
        result = run(cloud, *arguments, "--output", "json", columns=200, **variables)
        assert result.returncode == 0
        swept.append(list(objects(result.stdout)[-1]["regions"]))

    assert swept == [[REGION, "ap-southeast-1"], [ELSEWHERE, "us-east-1"], ["eu-central-1"]]


def test_all_regions_are_those_where_there_are_table_buckets(cloud: EmulatedCloud) -> None:
    """--all-regions encrypts wherever OSS Tables is offered, whatever GUARD_SWEEP_REGIONS says."""
    arns = [cloud.tables.plant("orders", region=region) for region in REGIONS]

    result = run(cloud, "sweep", "--all-regions", "--apply", GUARD_SWEEP_REGIONS=REGION)

    assert result.returncode == 0
    assert {cloud.tables.encryption(arn) for arn in arns} == {"AES256"}


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("--region", "hangzhou"), {}, "hangzhou"),
        (("--region", "cn-hangzhou.evil.com/"), {}, "evil"),
        (("--region", ""), {}, "region"),
        (("--region", "cn-hangzhou\x1b[31m"), {}, "region"),
        (("--region", REGION, "--all-regions"), {}, "--all-regions"),
        ((), {}, "GUARD_SWEEP_REGIONS"),
        ((), {"GUARD_SWEEP_REGIONS": ","}, "GUARD_SWEEP_REGIONS"),
        ((), {"GUARD_SWEEP_REGIONS": "cn-hangzhou;eu"}, "GUARD_SWEEP_REGIONS"),
        (("--region", REGION), {"GUARD_AUDIT_TABLES": "yes"}, "GUARD_AUDIT_TABLES"),
        (("--region", REGION), {"GUARD_MODE": "dry-run"}, "GUARD_MODE"),
        (
            ("--region", REGION),
            {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": None},
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        ),
        (("--region", REGION, "--output", "xml"), {}, "xml"),
        (("--region", REGION, "orders"), {}, "orders"),
    ],
    ids=str,
)
@pytest.mark.parametrize("output", ["table", "csv"])
def test_misuse_is_exit_code_2(
    cloud: EmulatedCloud,
    arguments: tuple[str, ...],
    variables: dict[str, str | None],
    words: str,
    output: str,
) -> None:
    """What is wrong is said on standard error, nothing is printed, and nothing was asked."""
    if "--output" not in arguments:
        arguments = (*arguments, "--output", output)

    result = run(cloud, "sweep", "--apply", *arguments, columns=200, **variables)

    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert cloud.tables.requests == []


def test_a_region_that_nobody_knows_has_a_row(cloud: EmulatedCloud) -> None:
    """A region id that is well-formed but no region of OSS Tables is unknown, with the reason."""
    result = run(
        cloud, "sweep", "--region", "cn-nowhere", columns=600, GUARD_OSS_TABLES_ENDPOINT=NOWHERE
    )

    assert result.returncode == 3
    (row,) = [line for line in result.stdout.splitlines() if "could not be listed" in line]
    assert row.split()[0] == "cn-nowhere"
    assert "unknown" in row
    assert "Check the region:" in row


# Tables.


@pytest.mark.parametrize(
    ("options", "variables"),
    [(("--tables",), {}), ((), {"GUARD_AUDIT_TABLES": "true"})],
    ids=["--tables", "GUARD_AUDIT_TABLES"],
)
def test_unprotected_tables_are_shown(
    cloud: EmulatedCloud, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    """Tables that stay unencrypted are named with what to do, and the exit code is 1."""
    arn = cloud.tables.plant("orders")
    cloud.tables.plant_table(arn, "sales", "early")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    cloud.tables.plant_table(arn, "sales", "late", created_at=later)

    result = run(cloud, *HERE, "--apply", *options, columns=200, **variables)

    assert result.returncode == 1
    assert cloud.tables.encryption(arn) == "AES256"
    assert "sales.early" in result.stdout
    assert "sales.late" not in result.stdout
    assert "2 tables: 1 unprotected, 0 unknown" in sentences(result.stderr)


def test_without_tables_none_is_looked_at(cloud: EmulatedCloud) -> None:
    """Without --tables nothing is asked about them, and they do not spoil the exit code."""
    arn = cloud.tables.plant("orders", encryption="AES256")
    cloud.tables.plant_table(arn, "sales", "early", unencrypted=True)

    result = run(cloud, *HERE)

    assert result.returncode == 0
    assert set(operations(cloud)) == {LIST, GET}


# Dead letters.


def test_without_a_queue_a_letter_is_printed(cloud: EmulatedCloud) -> None:
    """A refused bucket's letter is an object on standard error; results stay on standard output."""
    arn = cloud.tables.plant("orders")
    cloud.tables.faults.add(Fault(Refuse(403, message="No.\x1b[31m"), operation=PUT))

    result = run(cloud, *HERE, "--apply", "--output", "json", GUARD_DEAD_LETTER_QUEUE=None)

    assert result.returncode == 1
    told = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    (letter,) = [one for one in told if "event_encoding" in one]
    assert (letter["reason"], letter["arn"]) == ("rejected", arn)
    assert letter["function"] == "encryption-guard sweep"
    assert [one["kind"] for one in objects(result.stdout)] == ["bucket", "totals"]
    assert cloud.queue.requests == []


def test_with_a_queue_a_letter_is_there_once(cloud: EmulatedCloud) -> None:
    """A refused bucket's letter lands in the queue, and a second sweep writes no other."""
    arn = cloud.tables.plant("orders")
    cloud.tables.faults.add(Fault(Refuse(403), operation=PUT))

    results = [run(cloud, *HERE, "--apply", columns=200) for _ in range(2)]

    assert [result.returncode for result in results] == [1, 1]
    assert [letter["arn"] for letter in letters(cloud)] == [arn]
    first, second = results
    assert "dead-lettered (rejected)" in first.stdout
    assert "; 1 dead letter written." in first.stderr
    assert "rejected; a dead letter waits already" in second.stdout
    assert "; 1 dead letter waits already." in second.stderr

    cloud.tables.faults.clear()
    redriven = run(cloud, "dead-letters", "redrive", "--apply")
    cloud.api.join(timeout=60)

    assert redriven.returncode == 0
    assert cloud.tables.encryption(arn) == "AES256"


def test_a_file_takes_letters_too(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """GUARD_DEAD_LETTER_QUEUE=file:<path> gets one letter for each refused bucket, once."""
    names = [f"bucket-{number:02}" for number in range(20)]
    arns = [cloud.tables.plant(name) for name in names]
    cloud.tables.faults.add(Fault(Refuse(403), operation=PUT))
    path = tmp_path / "letters"

    for _ in range(2):
        run(cloud, *HERE, "--apply", GUARD_DEAD_LETTER_QUEUE=f"file:{path}")

    written = [json.loads(line)["arn"] for line in path.read_text("utf-8").splitlines()]
    assert sorted(written) == sorted(arns)


def test_a_plan_writes_no_letter(cloud: EmulatedCloud) -> None:
    """Without --apply nothing is refused, and nothing is written."""
    cloud.tables.plant("orders")

    run(cloud, *HERE)

    assert cloud.queue.requests == []


# Ctrl-C.


def interrupted(
    cloud: EmulatedCloud, *arguments: str, after: int
) -> subprocess.CompletedProcess[str]:
    """Run until so many buckets were asked about, then press Ctrl-C."""
    process = start(cloud, *HERE, *arguments)
    deadline = time.monotonic() + 60
    while operations(cloud).count(GET) < after:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_ctrl_c_tells_what_was_found_so_far(cloud: EmulatedCloud, output: str) -> None:
    """Stopped midway it exits with 1, says that this is not all, and prints the rows so far."""
    names = [f"bucket-{number:02}" for number in range(40)]
    for name in names:
        cloud.tables.plant(name, encryption="KMS")
    cloud.tables.faults.add(Fault(Delay(0.3)))

    result = interrupted(cloud, "--output", output, after=17)

    assert result.returncode == 130
    assert "the results are incomplete" in sentences(result.stderr)
    assert len([name for name in names if name in result.stdout]) >= 16
    asked = {each.resource for each in cloud.tables.requests if each.operation == GET}
    assert 17 <= len(asked) < 40
    if output == "json":
        *found, last = objects(result.stdout)
        assert (last["kind"], last["complete"], last["ok"]) == ("totals", False, False)
        encrypted = {one["bucket"] for one in found if one["state"] == "encrypted"}
        assert encrypted == asked


def test_ctrl_c_lets_what_is_under_way_end(cloud: EmulatedCloud) -> None:
    """A bucket that is being encrypted when Ctrl-C comes is encrypted, and told as such."""
    for number in range(30):
        cloud.tables.plant(f"bucket-{number:02}")
    cloud.tables.faults.add(Fault(Delay(0.2)))

    result = interrupted(cloud, "--apply", "--output", "json", after=12)

    assert result.returncode == 130
    *found, _ = objects(result.stdout)
    told = {one["bucket"] for one in found if one["state"] == "encrypted"}
    truth = {bucket.arn.name for bucket in cloud.tables.buckets() if bucket.encryption is not None}
    assert told == truth


def test_ctrl_c_at_the_very_end_does_not_contradict_itself(cloud: EmulatedCloud) -> None:
    """If nothing was left to do, that is all of it: the exit code and the sentence agree."""
    cloud.tables.plant("orders", encryption="AES256")
    cloud.tables.faults.add(Fault(Delay(1), operation=GET))

    result = interrupted(cloud, "--output", "json", after=1)

    *_, last = objects(result.stdout)
    says_not_all = "the results are incomplete" in result.stderr
    assert says_not_all is not last["complete"]
    assert (result.returncode == 130) is says_not_all


# What comes from elsewhere.


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_nothing_foreign_steers_a_terminal(cloud: EmulatedCloud, output: str) -> None:
    """Names and messages of buckets, tables and the service are printed, but made harmless."""
    escape = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202e"
    arn = cloud.tables.plant("orders", encryption="AES256")
    cloud.tables.plant_table(arn, f"ns{escape}", f"table{escape}", unencrypted=True)
    cloud.tables.plant("odd", encryption=f"ROT13{escape}")
    cloud.tables.plant("refused")
    bad = {"arn": f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{escape}"}
    entries = [bad] + [
        {"arn": str(bucket.arn), "createdAt": escape} for bucket in cloud.tables.buckets()
    ]
    page = json.dumps({"tableBuckets": entries}).encode()
    cloud.tables.faults.add(
        Fault(GarbageBody(page), operation=LIST),
        Fault(Refuse(403, "Denied", f"No.{escape}"), operation=PUT, resource="refused"),
    )
    exempt = [{"bucket": "nothing", "reason": f"x{escape}", "expires": "2020-01-01"}]

    result = run(
        cloud,
        *HERE,
        *("--apply", "--tables", "--output", output),
        GUARD_EXEMPTIONS=json.dumps(exempt),
        GUARD_DEAD_LETTER_QUEUE=None,
    )

    assert result.returncode == 1
    assert "\x1b" not in result.stdout + result.stderr
    for name in ("orders", "odd", "refused", "table"):
        assert name in result.stdout


# The page.


@pytest.mark.parametrize("apply", [(), ("--apply",)], ids=["plan", "apply"])
def test_a_page_is_written(cloud: EmulatedCloud, tmp_path: Path, apply: tuple[str, ...]) -> None:
    """--html writes one file with every bucket in it, beside what is printed."""
    plant_all_kinds(cloud)
    page = tmp_path / "page.html"

    result = run(cloud, *HERE, *apply, "--html", str(page))

    assert result.returncode == 1
    text = page.read_text("utf-8")
    for name in ("orders", "parts", "bills", "odd", REGION):
        assert name in text
        assert name in result.stdout
    assert "<script" not in text
    assert str(page) in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("output", ["json", "csv"])
def test_a_page_can_go_with_every_output(cloud: EmulatedCloud, tmp_path: Path, output: str) -> None:
    """The page has the buckets whatever is printed, and names the unprotected tables."""
    arn = cloud.tables.plant("orders", encryption="AES256")
    cloud.tables.plant_table(arn, "sales", "early", unencrypted=True)
    page = tmp_path / "page.html"

    run(cloud, *HERE, "--tables", "--output", output, "--html", str(page))

    text = page.read_text("utf-8")
    assert "orders" in text
    assert "early" in text


def test_a_page_of_a_stopped_sweep_says_so(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """What an auditor gets of half a sweep does not look like a whole one."""
    for number in range(40):
        cloud.tables.plant(f"bucket-{number:02}", encryption="KMS")
    cloud.tables.faults.add(Fault(Delay(0.3)))
    page = tmp_path / "page.html"

    interrupted(cloud, "--html", str(page), after=9)

    text = page.read_text("utf-8")
    assert "incomplete" in text
    assert "Every table bucket is encrypted" not in text


def test_a_page_without_a_folder_is_misuse(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """Nothing is swept if the page could not be written afterwards."""
    result = run(cloud, *HERE, "--apply", "--html", str(tmp_path / "nowhere" / "page.html"))

    assert (result.returncode, result.stdout) == (2, "")
    assert "nowhere" in result.stderr
    assert cloud.tables.requests == []


def test_a_folder_is_no_page(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """A page that would replace a folder is misuse."""
    result = run(cloud, *HERE, "--apply", "--html", str(tmp_path))

    assert result.returncode == 2
    assert cloud.tables.requests == []


def test_misuse_writes_no_page(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """A command that ended with 2 leaves no page, and what was there as it was."""
    page = tmp_path / "page.html"
    page.write_text("an earlier one", "utf-8")

    result = run(cloud, "sweep", "--html", str(page))

    assert result.returncode == 2
    assert page.read_text("utf-8") == "an earlier one"


# Filters.


def test_only_matching_buckets_are_checked(cloud: EmulatedCloud) -> None:
    """With --bucket nothing else is read or encrypted, and the totals count nothing else."""
    orders, parts = cloud.tables.plant("orders-1"), cloud.tables.plant("parts")

    result = invoke(cloud, *HERE, "--bucket", "orders-*", "--apply", "--output", "json")

    *rows, last = objects(result.stdout)
    assert [row["bucket"] for row in rows] == ["orders-1"]
    assert (last["totals"]["buckets"], last["bucket"]) == (1, "orders-*")
    encrypted = [cloud.tables.encryption(arn) for arn in (orders, parts)]
    assert encrypted == ["AES256", None]


@pytest.mark.parametrize("option", ["--html", "--report", "--compare"])
def test_a_report_covers_every_bucket(cloud: EmulatedCloud, tmp_path: Path, option: str) -> None:
    """Nobody is told that all is encrypted by a sweep that left something out."""
    place = tmp_path if option == "--report" else tmp_path / "file"

    result = invoke(cloud, *HERE, "--bucket", "orders-*", option, str(place))

    assert result.exit_code == 2
    assert "A report covers every bucket" in result.stderr


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_rows_can_be_filtered(cloud: EmulatedCloud, tmp_path: Path, output: str) -> None:
    """The totals, the exit code and the report count what is not shown, too."""
    for name in ("a-open", "b-open", "c-fine"):
        cloud.tables.plant(name, encryption="AES256" if name == "c-fine" else None)

    result = invoke(
        cloud,
        *(*HERE, "--only-problems", "--sort", "name", "--limit", "1", "--output", output),
        *("--report", str(tmp_path)),
    )

    assert [name in result.stdout for name in ("a-open", "b-open", "c-fine")] == [
        True,
        False,
        False,
    ]
    assert "--limit leaves out 1 row." in result.stderr
    assert "3 table buckets: 1 encrypted, 2 not encrypted" in result.stderr
    assert result.exit_code == 1
    page = (tmp_path / "report.html").read_text("utf-8")
    assert all(name in page for name in ("a-open", "b-open", "c-fine"))
