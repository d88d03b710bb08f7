"""`encryption-guard sweep`, as an operator calls it, against a service on loopback."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from encryption_guard.cli import main
from tests.emulators.faults import Delay, Fault, GarbageBody, Refuse
from tests.emulators.oss_tables import OssTables
from tests.unit.cli.conftest import NOWHERE
from tests.unit.cli.printed import assert_harmless, logged, objects, sentences
from tests.unit.fakes import ACCOUNT, REGION

PUT, LIST, GET = "PutTableBucketEncryption", "ListTableBuckets", "GetTableBucketEncryption"
SAMPLES = {"bucket": "scratch-*", "reason": "samples", "expires": "2099-12-31"}


@pytest.fixture
def tables(tables: OssTables) -> OssTables:
    """The emulated service: one bucket is encrypted, one is not."""
    tables.plant("orders", encryption="AES256")
    tables.plant("parts")
    return tables


def run(*arguments: str, **environment: str | None) -> Result:
    return CliRunner().invoke(main, ["sweep", *arguments], env={"COLUMNS": "200", **environment})


def here(*arguments: str, **environment: str | None) -> Result:
    return run("--region", REGION, *arguments, **environment)


def puts(tables: OssTables) -> int:
    return [request.operation for request in tables.requests].count(PUT)


# Looking.


def test_looking_changes_nothing(tables: OssTables) -> None:
    """It shows every bucket and what would be done, and says how it is done."""
    result = here()

    assert result.exit_code == 1
    assert "would be encrypted" in result.stdout
    assert "nothing to do" in result.stdout
    assert "2 table buckets: 1 encrypted, 1 not encrypted" in result.stderr
    assert "run the same command with --apply" in result.stderr
    assert "0 exemptions, from your shell." in result.stderr
    assert puts(tables) == 0


@pytest.mark.parametrize("apply", [(), ("--apply",)], ids=["plan", "apply"])
def test_what_is_well_is_well(tables: OssTables, apply: tuple[str, ...]) -> None:
    """Where all is encrypted or exempt the command succeeds, says so of each, and advises none."""
    exempt = tables.plant("scratch-1")
    tables.remove(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/parts")

    result = here(*apply, GUARD_EXEMPTIONS=json.dumps([SAMPLES]))

    assert (result.exit_code, tables.encryption(exempt)) == (0, None)
    assert "exempt until 2099-12-31: samples" in result.stdout
    assert "0 not encrypted, 0 unknown, 1 exempt." in sentences(result.stderr)[-1]
    assert "--apply" not in result.stderr


@pytest.mark.usefixtures("tables")
def test_json_is_an_object_a_line_and_the_totals_last() -> None:
    """For programs, as the buckets come."""
    result = here("--output", "json")

    *buckets, last = objects(result.stdout)
    assert {bucket["bucket"]: bucket["state"] for bucket in buckets} == {
        "orders": "encrypted",
        "parts": "not_encrypted",
    }
    assert (last["kind"], last["ok"], last["complete"]) == ("totals", False, True)
    assert last["totals"]["buckets"] == 2


@pytest.mark.usefixtures("tables")
def test_csv_has_a_row_for_each_bucket() -> None:
    """Under one line of headings, in a form that spreadsheets read; the totals follow."""
    result = here("--output", "csv")

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["kind"], row["bucket"], row["encryption"]) for row in rows[:2]] == [
        ("bucket", "orders", "AES256"),
        ("bucket", "parts", ""),
    ]
    assert [row["kind"] for row in rows[2:]] == ["total", "total", "sweep"]


@pytest.mark.usefixtures("tables")
def test_an_exemption_that_ends_soon_is_a_warning() -> None:
    """Whoever looks has time to renew it."""
    last_day = (datetime.now(timezone.utc).date() + timedelta(days=3)).isoformat()
    soon = {"bucket": "x-*", "reason": "y", "expires": last_day}

    result = here(GUARD_EXEMPTIONS=json.dumps([soon]))

    assert last_day in result.stderr
    assert "then the guard encrypts its buckets" in result.stderr


@pytest.mark.parametrize(
    ("operation", "code", "words"),
    [
        (LIST, 3, "grant oss:ListTableBuckets"),
        (GET, 3, "could not be read"),
        (PUT, 1, "dead-lettered (rejected)"),
    ],
)
def test_what_could_not_be_read_has_another_exit_code_than_what_is_open(
    tables: OssTables, operation: str, code: int, words: str
) -> None:
    """A list, a read or a PUT that fails has its row, with the reason."""
    tables.faults.add(Fault(Refuse(403), operation=operation))

    result = here("--apply", COLUMNS="400")

    assert result.exit_code == code
    assert words in " ".join(result.stdout.split())


@pytest.mark.usefixtures("shell")
def test_a_region_that_nobody_knows_has_a_row() -> None:
    """A region id that is well-formed but no region of OSS Tables is unknown, with the reason."""
    result = run("--region", "cn-nowhere", GUARD_OSS_TABLES_ENDPOINT=NOWHERE, COLUMNS="600")

    assert result.exit_code == 3
    (row,) = [line for line in result.stdout.splitlines() if "could not be listed" in line]
    assert row.split()[0] == "cn-nowhere"
    assert "Check the region:" in row


# Encrypting.


def test_apply_encrypts_and_logs_it(tables: OssTables) -> None:
    """The row says so, and where standard error is no terminal so does a log line."""
    first, second = here("--apply"), here("--apply")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "encrypted now (new)" in first.stdout
    assert all(bucket.encryption for bucket in tables.buckets())
    (line,) = logged(first.stderr)
    assert (line["outcome"], line["reason"], line["bucket"]) == ("encrypted", "created", "parts")
    assert "1 of them now" in first.stderr
    assert "0 of them now" in second.stderr
    assert puts(tables) == 1


def test_mode_detect_counts_for_an_operator_too(tables: OssTables) -> None:
    """And is said, since --apply asked for something else."""
    result = here("--apply", GUARD_MODE="detect")

    assert result.exit_code == 1
    assert "nothing was changed: GUARD_MODE is detect" in result.stderr
    assert puts(tables) == 0


def test_without_a_queue_a_letter_is_printed(tables: OssTables) -> None:
    """On standard error: standard output holds the rows."""
    tables.faults.add(Fault(Refuse(403), operation=PUT))

    result = here("--apply", "--output", "json")

    assert result.exit_code == 1
    (letter,) = [line for line in logged(result.stderr) if "event_encoding" in line]
    assert (letter["reason"], letter["function"]) == ("rejected", "encryption-guard sweep")
    assert all("event_encoding" not in line for line in objects(result.stdout))


def test_with_a_queue_a_letter_is_written_once(tables: OssTables, tmp_path: Path) -> None:
    """However often the same refusal is met."""
    tables.faults.add(Fault(Refuse(403), operation=PUT))
    file = tmp_path / "letters.jsonl"

    for _ in range(2):
        here("--apply", GUARD_DEAD_LETTER_QUEUE=f"file:{file}")

    assert len(file.read_text().splitlines()) == 1


# Tables.


@pytest.mark.parametrize(
    ("options", "variables"),
    [(("--tables",), {}), ((), {"GUARD_AUDIT_TABLES": "true"})],
    ids=["--tables", "GUARD_AUDIT_TABLES"],
)
def test_unprotected_tables_are_told_by_name(
    tables: OssTables, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    """With what to do, and the command has failed."""
    arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"
    tables.plant_table(arn, "sales", "invoices", unencrypted=True)
    tables.plant_table(arn, "sales", "refunds")

    result = here("--apply", *options, **variables)

    assert result.exit_code == 1
    assert "sales.invoices" in result.stdout
    assert "refunds" not in result.stdout
    assert "2 tables: 1 unprotected, 0 unknown" in result.stderr


def test_by_default_the_tables_of_what_was_encrypted_late_are_told(tables: OssTables) -> None:
    """Those of a bucket that was encrypted before are not asked for."""
    late = tables.plant("late", created_at=datetime.now(timezone.utc) - timedelta(days=2))
    for bucket in (late, f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"):
        tables.plant_table(bucket, "sales", "refunds")

    plan, applied = here(), here("--apply")

    assert (plan.exit_code, applied.exit_code) == (1, 1)
    assert "sales.refunds" not in plan.stdout
    assert "perhaps created while its bucket was unencrypted" in " ".join(applied.stdout.split())
    assert "1 table: 1 unprotected, 0 unknown" in applied.stderr
    asked = {one.resource for one in tables.requests if one.operation == "ListTables"}
    assert asked == {"late"}


def test_without_an_audit_a_late_bucket_is_told_as_that(tables: OssTables) -> None:
    """GUARD_AUDIT_TABLES=false is an operator's choice too."""
    tables.plant("late", created_at=datetime.now(timezone.utc) - timedelta(days=2))

    result = here("--apply", GUARD_AUDIT_TABLES="false")

    assert "its tables were not checked" in " ".join(result.stdout.split())
    assert "tables:" not in sentences(result.stderr)[-1]


# The page.


def test_a_page_is_written(tables: OssTables, tmp_path: Path) -> None:
    """Beside the output, whatever that is; where it is, is said."""
    page = tmp_path / "report.html"

    result = here("--output", "json", "--html", str(page))

    assert str(page) in result.stderr
    text = page.read_text("utf-8")
    assert all(bucket.arn.name in text for bucket in tables.buckets())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--html", "{folder}/none/report.html", "does not exist"),
        ("--html", "{folder}/pipe", "it is not a regular file"),
        ("--html", "{folder}/" + "n" * 300, "cannot be written"),
        ("--html", "{folder}", "is a directory"),
        ("--html", "-", "- is not one"),
        ("--report", "-", "- is not one"),
        ("--report", "{folder}", "report.csv cannot be replaced"),
        ("--html", "", "the name is empty"),
        ("--report", "", "the name is empty"),
        ("--compare", "", "the name is empty"),
    ],
)
def test_a_report_that_could_not_be_written_is_misuse(
    tables: OssTables, tmp_path: Path, option: str, value: str, said: str
) -> None:
    """Before hours of work: nothing is asked or done, and nothing is replaced."""
    (tmp_path / "report.csv").mkdir()
    # Never a device of this machine: whoever runs this may be root, and a bug would replace it.
    os.mkfifo(tmp_path / "pipe")

    result = here("--apply", option, value.format(folder=tmp_path))

    assert (result.exit_code, result.stdout, tables.requests) == (2, "", [])
    assert said in result.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"report.csv", "pipe"}
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("region", "is_doubtful"), [("cn-hangzou", True), ("cn-beijing", False), (REGION, False)]
)
def test_an_empty_region_of_an_unknown_name_is_doubted(region: str, is_doubtful: bool) -> None:
    """A misspelt name would look like good news; a new region is swept all the same."""
    result = run("--region", region)

    doubt = f"{region} has no table bucket. Check its name"
    assert (doubt in result.stderr) == is_doubtful


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("exemption", "said"),
    [
        ({"bucket": "a-*", "expires": "2020-01-31"}, "a-* ended after 2020-01-31: it is ignored."),
        ({"bucket": "*"}, "The exemption * covers every bucket: nothing is encrypted."),
        (
            {"bucket": f"acs:osstables:{REGION}:*:bucket/*"},
            f"covers every bucket of region {REGION}: no bucket there is encrypted.",
        ),
    ],
)
def test_an_exemption_that_does_too_little_or_too_much_is_said_aloud(
    exemption: dict[str, str], said: str
) -> None:
    """Also with --quiet: it is no note."""
    given = json.dumps([exemption | {"reason": "samples"}])

    assert said in here("--quiet", GUARD_EXEMPTIONS=given).stderr


def test_a_page_in_a_folder_that_takes_nothing_is_misuse(
    tables: OssTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before hours of work, as far as the system tells; whoever runs this may be root."""
    monkeypatch.setattr("os.access", lambda *_: False)

    result = here("--apply", "--html", str(tmp_path / "report.html"))

    assert result.exit_code == 2
    assert f"the folder {tmp_path} is not writable." in result.stderr
    assert tables.requests == []


def test_a_page_that_cannot_be_written_is_told(tables: OssTables, tmp_path: Path) -> None:
    """Should its folder go away meanwhile, the rows and the summary are there all the same."""
    folder = tmp_path / "reports"
    folder.mkdir()
    tables.on_event = lambda _: folder.rmdir()

    result = here("--apply", "--html", str(folder / "report.html"))

    assert result.exit_code == 1
    *_, lost, summary = sentences(result.stderr)
    assert "cannot be written (No such file or directory): this sweep has no report" in lost
    assert summary.endswith(" 1 of them now, 0 not encrypted, 0 unknown, 0 exempt.")
    assert "encrypted now" in result.stdout


# What may be given.


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--region", REGION, "--region", "us-east-1", "--region", REGION], {}, 2),
        (["--all-regions"], {}, 8),
        ([], {"GUARD_SWEEP_REGIONS": "cn-beijing,us-east-1,cn-shanghai"}, 3),
        ([], {"FC_REGION": REGION}, 1),
    ],
    ids=["--region", "--all-regions", "GUARD_SWEEP_REGIONS", "FC_REGION"],
)
def test_the_regions_are_chosen(
    tables: OssTables, arguments: list[str], environment: dict[str, str], expected: int
) -> None:
    """Each once; what is given counts before what is set."""
    run(*arguments, **environment)

    assert [request.operation for request in tables.requests].count(LIST) == expected


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "No region: pass --region or --all-regions, or set GUARD_SWEEP_REGIONS"),
        (
            ["--region", REGION, "--all-regions"],
            {},
            "Use either --region or --all-regions, not both.",
        ),
        (["--region", "Hangzhou!"], {}, "is not a region ID"),
        (["--region", "cn-hangzhou.evil.com/"], {}, "is not a region ID"),
        (["--region", "cn-hangzhou\x1b[31m"], {}, "is not a region ID"),
        (["--region", ""], {}, "is not a region ID"),
        (["--region", REGION], {"ALIBABA_CLOUD_ACCESS_KEY_ID": None}, "ALIBABA_CLOUD_ACCESS_KEY"),
        (["--region", REGION], {"GUARD_AUDIT_TABLES": "perhaps"}, "GUARD_AUDIT_TABLES"),
        ([], {"GUARD_SWEEP_REGIONS": "here, there"}, "GUARD_SWEEP_REGIONS"),
        (["--output", "xml"], {}, "--output"),
        (["--region", REGION, "orders"], {}, "orders"),
        (["--region", REGION, "--compare", "/dev/null"], {}, "is no report.json of version 1"),
        (["--region", REGION, "--bucket", ""], {}, "can match no bucket"),
        (["--region", REGION, "--bucket", "Orders-*"], {}, "can match no bucket"),
        (["--region", REGION, "--bucket", "o-*", "--html", "x"], {}, "A report covers every"),
        (["--region", REGION, "--bucket", "o-*", "--report", "x"], {}, "A report covers every"),
        (["--region", REGION, "--bucket", "o-*", "--compare", "x"], {}, "A report covers every"),
    ],
)
def test_misuse_is_told(
    tables: OssTables, arguments: list[str], environment: dict[str, str | None], sentence: str
) -> None:
    """In a sentence, with exit code 2, before anything is asked."""
    result = run("--apply", *arguments, **environment)

    assert (result.exit_code, result.stdout, tables.requests) == (2, "", [])
    assert sentence in result.stderr
    assert_harmless(result.stderr)


# Which buckets, and which rows.


def test_only_matching_buckets_are_checked(tables: OssTables) -> None:
    """With --bucket nothing else is read or encrypted, and the totals count nothing else."""
    result = here("--bucket", "part?", "--apply", "--output", "json")

    *rows, last = objects(result.stdout)
    assert [row["bucket"] for row in rows] == ["parts"]
    assert (last["totals"]["buckets"], last["bucket"]) == (1, "part?")
    assert [one.resource for one in tables.requests if one.operation == PUT] == ["parts"]


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_rows_can_be_filtered(tables: OssTables, tmp_path: Path, output: str) -> None:
    """The totals, the exit code and the report count what is not shown, too."""
    tables.plant("a-open")

    result = here(
        *("--only-problems", "--sort", "name", "--limit", "1", "--output", output),
        *("--report", str(tmp_path)),
    )

    names = ("a-open", "parts", "orders")
    assert [name in result.stdout for name in names] == [True, False, False]
    assert "--limit leaves out 1 row." in result.stderr
    assert "3 table buckets: 1 encrypted, 2 not encrypted" in result.stderr
    assert result.exit_code == 1
    page = (tmp_path / "report.html").read_text("utf-8")
    assert all(name in page for name in names)


# What comes from elsewhere.


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_nothing_foreign_steers_a_terminal(tables: OssTables, output: str) -> None:
    """Names and messages of buckets, tables and the service are printed, but made harmless."""
    escape = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202e"
    arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"
    tables.plant_table(arn, f"ns{escape}", f"table{escape}", unencrypted=True)
    tables.plant("odd", encryption=f"ROT13{escape}")
    arns = [f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{escape}"]
    entries = [{"arn": each, "createdAt": escape} for each in arns]
    entries += [{"arn": str(bucket.arn), "createdAt": escape} for bucket in tables.buckets()]
    tables.faults.add(
        Fault(GarbageBody(json.dumps({"tableBuckets": entries}).encode()), operation=LIST),
        Fault(Refuse(403, "Denied", f"No.{escape}"), operation=PUT, resource="parts"),
    )
    exempt = [{"bucket": "nothing", "reason": f"x{escape}", "expires": "2020-01-01"}]

    result = here("--apply", "--tables", "--output", output, GUARD_EXEMPTIONS=json.dumps(exempt))

    assert result.exit_code == 1
    assert_harmless(result.stdout.replace("\r", "") + result.stderr)
    for name in ("orders", "odd", "parts", "table"):
        assert name in result.stdout


def test_what_was_found_is_told_even_if_the_sweep_fails(
    tables: OssTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that go away in the middle end it as misuse, with all rows so far."""

    def forget(_call: object) -> None:
        monkeypatch.delenv("ALIBABA_CLOUD_ACCESS_KEY_ID", raising=False)

    tables.on_event = forget
    tables.faults.add(Fault(Delay(0.05), operation=PUT))
    for number in range(100):
        tables.plant(f"many-{number}")

    result = here("--apply", "--output", "json")

    last = objects(result.stdout)[-1]
    assert result.exit_code == 2
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in result.stderr
    assert last["kind"] == "totals"
