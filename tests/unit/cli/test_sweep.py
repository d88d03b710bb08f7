"""`encryption-guard sweep`, as an operator calls it, against a service on loopback."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from encryption_guard.cli import main
from tests.emulators.access_keys import AccessKey
from tests.emulators.faults import Delay, Fault, Refuse
from tests.emulators.oss_tables import OssTables
from tests.unit.fakes import ACCOUNT, REGION, forget_logger

OWNER = AccessKey("LTAI-operator", "operator-secret", ACCOUNT)
NOWHERE = "http://127.0.0.1:9"
PUT, LIST = "PutTableBucketEncryption", "ListTableBuckets"
SAMPLES = {"bucket": "scratch-*", "reason": "samples", "expires": "2099-12-31"}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator's shell with credentials, whose requests lead nowhere unless a test says so."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", OWNER.id)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OWNER.secret)
    monkeypatch.setenv("GUARD_OSS_TABLES_ENDPOINT", NOWHERE)
    monkeypatch.setenv("GUARD_STS_ENDPOINT", NOWHERE)
    monkeypatch.setenv("GUARD_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    forget_logger()
    yield
    forget_logger()


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[OssTables]:
    """The emulated service: one bucket is encrypted, one is not."""
    with OssTables(OWNER, region=REGION, bucket_quota=None) as service:
        service.plant("orders", encryption="AES256")
        service.plant("parts")
        monkeypatch.setenv("GUARD_OSS_TABLES_ENDPOINT", service.url)
        yield service


def run(*arguments: str, **environment: str | None) -> Result:
    return CliRunner().invoke(main, ["sweep", *arguments], env=environment)


def here(*arguments: str, **environment: str | None) -> Result:
    return run("--region", REGION, *arguments, **environment)


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def sentences(result: Result) -> str:
    """What was said on standard error, but for the log."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    return "\n".join(lines)


def puts(tables: OssTables) -> int:
    return [request.operation for request in tables.requests].count(PUT)


# Looking.


def test_looking_changes_nothing(tables: OssTables) -> None:
    """It shows every bucket and what would be done, and says how it is done."""
    result = here()

    assert result.exit_code == 1
    assert "would be encrypted" in result.stdout
    assert "nothing to do" in result.stdout
    assert "2 table buckets: 1 encrypted, 1 not encrypted" in sentences(result)
    assert "run the same command with --apply" in sentences(result)
    assert puts(tables) == 0


def test_what_is_well_is_well(tables: OssTables) -> None:
    """Where all is encrypted or exempt the command succeeds, and says so of each."""
    tables.plant("scratch-1")
    tables.remove(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/parts")

    result = here(GUARD_EXEMPTIONS=json.dumps([SAMPLES]))

    assert result.exit_code == 0
    assert "exempt until 2099-12-31: samples" in result.stdout
    assert sentences(result).endswith("1 encrypted, 0 not encrypted, 0 unknown, 1 exempt.")


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

    assert last_day in sentences(result)
    assert "then the guard encrypts its buckets" in sentences(result)


def test_a_region_that_cannot_be_listed_is_a_row(tables: OssTables) -> None:
    """With the sentence that says why, and the command has failed."""
    tables.faults.add(Fault(Refuse(403), operation=LIST))

    result = here()

    assert result.exit_code == 3
    assert "could not be listed" in result.stdout
    assert "grant oss:ListTableBuckets" in " ".join(result.stdout.split())
    assert "1 list could not be read" in sentences(result)


# Encrypting.


def test_apply_encrypts_and_logs_it(tables: OssTables) -> None:
    """The row says so, and where standard error is no terminal so does a log line."""
    result = here("--apply")

    assert result.exit_code == 0
    assert "encrypted now (new)" in result.stdout
    assert {bucket.encryption is not None for bucket in tables.buckets()} == {True}
    (line,) = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert (line["outcome"], line["reason"], line["bucket"]) == ("encrypted", "created", "parts")
    assert "1 of them now" in sentences(result)


def test_mode_detect_counts_for_an_operator_too(tables: OssTables) -> None:
    """And is said, since --apply asked for something else."""
    result = here("--apply", GUARD_MODE="detect")

    assert result.exit_code == 1
    assert "nothing was changed: GUARD_MODE is detect" in sentences(result)
    assert puts(tables) == 0


def test_without_a_queue_a_letter_is_printed(tables: OssTables) -> None:
    """On standard error: standard output holds the rows."""
    tables.faults.add(Fault(Refuse(403), operation=PUT))

    result = here("--apply", "--output", "json")

    assert result.exit_code == 1
    letters = [line for line in objects("\n".join(_json_lines(result))) if "event" in line]
    assert [letter["reason"] for letter in letters] == ["rejected"]
    assert all("event_encoding" not in line for line in objects(result.stdout))


def _json_lines(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("{")]


def test_with_a_queue_a_letter_is_written_once(tables: OssTables, tmp_path: Path) -> None:
    """However often the same refusal is met."""
    tables.faults.add(Fault(Refuse(403), operation=PUT))
    file = tmp_path / "letters.jsonl"

    for _ in range(2):
        here("--apply", GUARD_DEAD_LETTER_QUEUE=f"file:{file}")

    assert len(file.read_text().splitlines()) == 1


# Tables.


def test_unprotected_tables_are_told_by_name(tables: OssTables) -> None:
    """With what to do, and the command has failed."""
    arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"
    tables.plant_table(arn, "sales", "invoices", unencrypted=True)
    tables.plant_table(arn, "sales", "refunds")

    result = here("--tables", "--apply")

    assert result.exit_code == 1
    assert "sales.invoices" in result.stdout
    assert "refunds" not in result.stdout
    assert "2 tables: 1 unprotected, 0 unknown" in sentences(result)


def test_by_default_the_tables_of_what_was_encrypted_late_are_told(tables: OssTables) -> None:
    """Those of a bucket that was encrypted before are not asked for."""
    late = tables.plant("late", created_at=datetime.now(timezone.utc) - timedelta(days=2))
    for bucket in (late, f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"):
        tables.plant_table(bucket, "sales", "refunds")

    plan, applied = here(), here("--apply")

    assert (plan.exit_code, applied.exit_code) == (1, 1)
    assert "sales.refunds" not in plan.stdout
    assert "perhaps created while its bucket was unencrypted" in " ".join(applied.stdout.split())
    assert "1 table: 1 unprotected, 0 unknown" in sentences(applied)
    asked = {one.resource for one in tables.requests if one.operation == "ListTables"}
    assert asked == {"late"}


def test_without_an_audit_a_late_bucket_is_told_as_that(tables: OssTables) -> None:
    """GUARD_AUDIT_TABLES=false is an operator's choice too."""
    tables.plant("late", created_at=datetime.now(timezone.utc) - timedelta(days=2))

    result = here("--apply", GUARD_AUDIT_TABLES="false")

    assert "its tables were not checked" in " ".join(result.stdout.split())
    assert "tables:" not in sentences(result)


# The page.


def test_a_page_is_written(tables: OssTables, tmp_path: Path) -> None:
    """Beside the output, whatever that is; where it is, is said."""
    page = tmp_path / "report.html"

    result = here("--output", "json", "--html", str(page))

    assert str(page) in sentences(result)
    text = page.read_text("utf-8")
    assert all(bucket.arn.name in text for bucket in tables.buckets())


def test_a_page_without_a_folder_is_misuse(tables: OssTables, tmp_path: Path) -> None:
    """Before anything is asked or done."""
    result = here("--apply", "--html", str(tmp_path / "none" / "report.html"))

    assert result.exit_code == 2
    assert "does not exist" in sentences(result)
    assert tables.requests == []


@pytest.mark.parametrize("option", ["--html", "--report", "--compare"])
def test_an_empty_file_name_is_a_mistake(option: str, tables: OssTables) -> None:
    """A variable that is not set must not mean the current folder."""
    result = here("--apply", option, "")

    assert result.exit_code == 2
    assert "the name is empty" in result.stderr
    assert tables.requests == []


@pytest.mark.parametrize(
    "glob", ["", "Orders-*", f"acs:osstables:{REGION}:1234567890123456:bucket/orders"]
)
def test_a_glob_that_no_name_matches_is_a_mistake(glob: str, tables: OssTables) -> None:
    """An empty one would mean every bucket, and any other would look like good news."""
    result = here("--apply", "--bucket", glob)

    assert result.exit_code == 2
    assert "can match no bucket" in result.stderr
    assert tables.requests == []


def test_no_report_is_written_if_one_cannot_be(tables: OssTables, tmp_path: Path) -> None:
    """A folder stands where the CSV would be written, which is known beforehand."""
    (tmp_path / "report.csv").mkdir()

    result = here("--report", str(tmp_path))

    assert result.exit_code == 2
    assert "report.csv cannot be replaced" in sentences(result)
    assert [each.name for each in tmp_path.iterdir()] == ["report.csv"]
    assert tables.requests == []


@pytest.mark.parametrize("option", ["--html", "--report"])
def test_a_report_goes_into_a_file(option: str, tables: OssTables) -> None:
    """Elsewhere `-` is standard output, which has the results; a file of this name helps nobody."""
    result = here("--apply", option, "-")

    assert result.exit_code == 2
    assert "- is not one" in sentences(result)
    assert tables.requests == []


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("region", "is_doubtful"), [("cn-hangzou", True), ("cn-beijing", False), (REGION, False)]
)
def test_an_empty_region_of_an_unknown_name_is_doubted(region: str, is_doubtful: bool) -> None:
    """A misspelt name would look like good news; a new region is swept all the same."""
    result = run("--region", region)

    doubt = f"{region} has no table bucket. Check its name"
    assert (doubt in sentences(result)) == is_doubtful


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

    assert said in sentences(here("--quiet", GUARD_EXEMPTIONS=given))


@pytest.mark.usefixtures("tables")
def test_a_sweep_says_that_the_shell_has_no_exemptions() -> None:
    """Those of the deployed function would be missing without a word."""
    assert "0 exemptions, from your shell." in sentences(here())


def test_a_page_replaces_nothing_but_a_file(tables: OssTables) -> None:
    """A device is not replaced by a page, and nothing is done."""
    result = here("--apply", "--html", "/dev/null")

    assert result.exit_code == 2
    assert "it is not a regular file" in sentences(result)
    assert Path("/dev/null").is_char_device()
    assert tables.requests == []


def test_a_page_without_a_possible_name_is_misuse(tables: OssTables, tmp_path: Path) -> None:
    """What no file can be called is told before anything is done."""
    result = here("--apply", "--html", str(tmp_path / ("n" * 300)))

    assert result.exit_code == 2
    assert "cannot be written" in sentences(result)
    assert tables.requests == []


def test_a_page_in_a_folder_that_takes_nothing_is_misuse(
    tables: OssTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before hours of work, as far as the system tells; whoever runs this may be root."""
    monkeypatch.setattr("os.access", lambda *_: False)

    result = here("--apply", "--html", str(tmp_path / "report.html"))

    assert result.exit_code == 2
    assert f"the folder {tmp_path} is not writable." in sentences(result)
    assert tables.requests == []


def test_a_page_that_cannot_be_written_is_told(tables: OssTables, tmp_path: Path) -> None:
    """Should its folder go away meanwhile, the rows and the summary are there all the same."""
    folder = tmp_path / "reports"
    folder.mkdir()
    tables.on_event = lambda _: folder.rmdir()

    result = here("--apply", "--html", str(folder / "report.html"))

    assert result.exit_code == 1
    assert "cannot be written (No such file or directory): this sweep has no report" in sentences(
        result
    )
    assert sentences(result).endswith(" 1 of them now, 0 not encrypted, 0 unknown, 0 exempt.")
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
        ([], {}, "No region:"),
        (
            ["--region", REGION, "--all-regions"],
            {},
            "Use either --region or --all-regions, not both.",
        ),
        (["--region", "Hangzhou!"], {}, "is not a region ID"),
        (["--region", REGION], {"ALIBABA_CLOUD_ACCESS_KEY_ID": None}, "ALIBABA_CLOUD_ACCESS_KEY"),
        (["--region", REGION], {"GUARD_AUDIT_TABLES": "perhaps"}, "GUARD_AUDIT_TABLES"),
        ([], {"GUARD_SWEEP_REGIONS": "here, there"}, "GUARD_SWEEP_REGIONS"),
        (["--output", "xml"], {}, "--output"),
    ],
)
def test_misuse_is_told(
    tables: OssTables, arguments: list[str], environment: dict[str, str | None], sentence: str
) -> None:
    """In a sentence, with exit code 2, before anything is asked."""
    result = run(*arguments, **environment)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""
    assert tables.requests == []


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
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in sentences(result)
    assert last["kind"] == "totals"
