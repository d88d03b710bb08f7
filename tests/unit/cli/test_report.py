"""The page for an auditor, as it is written; how it looks is for a browser to tell."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.report import MAX_ROWS, parts_of_buckets, summarize, write_report
from encryption_guard.sweep.findings import FAILED, NOT_REACHED, Finding, Totals
from tests.unit.sweep.sweeps import (
    ACCOUNT,
    FIRST,
    LAB,
    PARTNER,
    REFUSED_REGION,
    SECOND,
    bucket,
    data,
    everything,
    exempt,
    exemption,
    incomplete_directory,
    not_prepared,
    of_accounts,
    realistic,
    table,
    without,
)

HANGZHOU = "cn-hangzhou"
ELSEWHERE = "acs:osstables:cn-hangzhou:9999999999999999:bucket/parts"
NOT_REACHED_REGION = replace(REFUSED_REGION, outcome=NOT_REACHED, detail="The sweep was over.")
UNKNOWN = without("lost", state="unknown", outcome=FAILED, reason="unread", detail="No answer.")
EMPTY_ELEMENTS = {"meta", "col", "br", "img", "link", "hr", "input"}


class Reader(HTMLParser):
    """The texts of a page, and whether every element that was opened was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, found in (("id", self.ids), ("href", self.links)):
            found |= {value for key, value in attributes if key == name and value}
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.texts.append(data)


def read(path: Path, sweep: Evidence) -> tuple[str, Reader]:
    """What a reader may read of the page of this sweep, in one piece."""
    page = path / "report.html"
    write_report(page, sweep)
    reader = Reader()
    reader.feed(page.read_text("utf-8"))
    reader.close()
    assert reader.open == []
    return " ".join(" ".join(reader.texts).split()), reader


# What it says.


@pytest.mark.parametrize(
    ("sweep", "state", "sentence"),
    [
        (data(), "encrypted", "There are no table buckets in the regions that were swept."),
        (data([bucket()]), "encrypted", "Every table bucket is encrypted (1)."),
        (
            data([bucket(), exempt("a", HANGZHOU, LAB)]),
            "encrypted",
            "Every table bucket that is not exempt is encrypted (1).",
        ),
        (data([exempt("a", HANGZHOU, LAB)]), "encrypted", "Every table bucket is exempt (1)."),
        (data([without()]), "not_encrypted", "1 table bucket is not encrypted."),
        (
            data([without(), without("b"), UNKNOWN]),
            "not_encrypted",
            "2 table buckets are not encrypted and 1 is unknown.",
        ),
        (data([UNKNOWN]), "unknown", "1 table bucket is unknown."),
        (
            data([bucket(), table("t", "n", bucket())]),
            "not_encrypted",
            "1 table is not encrypted.",
        ),
        (
            data([bucket(), REFUSED_REGION]),
            "unknown",
            "1 list could not be read, so there may be more.",
        ),
        (
            data([bucket()], complete=False),
            "unknown",
            "This sweep is incomplete: it ended before it had checked everything.",
        ),
        (
            data([without()], complete=False),
            "not_encrypted",
            "This sweep is incomplete: it ended before it had checked everything; 1 table bucket"
            " is not encrypted.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(sweep: Evidence, state: str, sentence: str) -> None:
    """An all-clear only where everything was looked at, and nothing is open or unknown."""
    judged = summarize(sweep)

    assert (judged.state, judged.sentence) == (state, sentence)


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    """Every bucket with its state, each open table, each region, with or without buckets."""
    text, _ = read(tmp_path, realistic())

    findings = [found for found in everything() if found.kind == "bucket"]
    assert [found.bucket for found in findings if (found.bucket or "") not in text] == []
    for word in ("raw_clicks", "salaries_2025", "positions", "cn-wulanchabu", "us-east-1"):
        assert word in text
    for state in ("not encrypted", "unknown", "encrypted", "exempt"):
        assert state in text
    assert "200 d" in text
    assert "41 or more" in text


def test_an_exemption_tells_what_it_covers_and_when_it_ends(tmp_path: Path) -> None:
    """The first to end comes first; what covers nothing, is over or never ends says so."""
    over = exemption("old-*", "long gone", "2020-01-31")
    today = exemption("now-*", "until tonight", "2026-11-22")
    covered = exempt("lab-1", HANGZHOU, LAB)
    sweep = data([covered], exemptions=(PARTNER, LAB, today, over))

    text, _ = read(tmp_path, sweep)

    chapter = text[text.index("Buckets in this sweep") :]
    scopes = [chapter.index(word) for word in ("old-*", "now-*", "lab-*", "partner-exchange")]
    assert scopes == sorted(scopes)
    for words in (
        "expired: the guard ignores it",
        "ends today",
        "ends in 10 days",
        "never",
        "lab-1",
    ):
        assert words in chapter
    assert chapter.count("no bucket") == 3


WELL = table("t", "n", bucket(), state="encrypted", outcome="already_encrypted", detail=None)
LATE = bucket(outcome="encrypted", reason="drift")
FROM_BEFORE = table("t", "n", LATE, reason="made_before", state="unknown")
WORDS = {
    "how late": (data([without()]), ["2026-11-22 22:32 UTC", "1 table bucket is not encrypted."]),
    "a plan": (data([bucket()]), ["None: the sweep ran without --apply."]),
    "applied": (data([bucket()], applied=True), ["The sweep encrypted 0 buckets."]),
    "no look at tables": (data([bucket()]), ["The sweep did not check tables."]),
    "no table": (data([bucket()], audit="true"), ["No table was found."]),
    # They have no row.
    "tables that are well": (
        data([bucket(), WELL], audit="true"),
        ["The sweep checked 1 table: all of them are encrypted."],
    ),
    "tables of late buckets": (
        data([LATE, FROM_BEFORE]),
        ["only those of the buckets that it encrypted late: 1", "created while its bucket was"],
    ),
    "incomplete": (
        data([bucket()], complete=False),
        ["At least 1 table bucket in 8 regions; incomplete", "All regions 1 or more"],
    ),
    "a part of a region": (
        data([bucket(region="us-east-1"), NOT_REACHED_REGION], complete=False),
        ["not reached", "1 or more"],
    ),
    # No zero that would read as an all-clear.
    "nothing listed": (
        data([REFUSED_REGION], regions=["us-east-1"], audit="true"),
        ["grant oss:ListTableBuckets. not known All regions not known Buckets"],
    ),
    "no bucket": (data(), ["0 table buckets in 8 regions", "No table bucket was found."]),
    "no exemption": (data([bucket()]), ["No exemptions are configured."]),
    "one day": (data(exemptions=[exemption("a-*", "b", "2026-11-23")]), ["ends in 1 day "]),
    "whose buckets": (
        data([bucket(), replace(bucket("parts"), arn=TableBucketArn.parse(ELSEWHERE))]),
        ["Accounts 1234567890123456, 9999999999999999"],
    ),
}


@pytest.mark.parametrize(("sweep", "expected"), WORDS.values(), ids=WORDS)
def test_it_says_how_it_was_taken(tmp_path: Path, sweep: Evidence, expected: list[str]) -> None:
    """What was looked at and changed, and whether that is all; numbers and words agree."""
    text, _ = read(tmp_path, sweep)

    places = [text.find(words) for words in expected]
    assert -1 not in places
    assert places == sorted(places)


# How it is written.


def test_the_page_is_all_there_is(tmp_path: Path) -> None:
    """No script, nothing to load, and a policy that forbids both."""
    _, reader = read(tmp_path, realistic())
    page = (tmp_path / "report.html").read_text("utf-8")

    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "url(" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a & b &lt;", "a & b &lt;"),
        ('"> <b onclick="x">', '"> <b onclick="x">'),
        ("{{ 7 * 7 }} {% x %}", "{{ 7 * 7 }} {% x %}"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("turned \u202e round", "turned \\u202e round"),
        ("half \ud800", "half \\ud800"),
        ("naïve 数据", "naïve 数据"),
    ],
)
def test_foreign_words_are_shown_as_they_are(tmp_path: Path, words: str, shown: str) -> None:
    """Whatever a service or a setting says is text; what nobody would see is spelled out."""
    excuse = exemption("scratch-*", words.replace("\ud800", "x"))
    findings = [without("orders", detail=words), table(words, words, bucket())]

    text, reader = read(tmp_path, data(findings, audit="true", exemptions=(excuse,)))

    assert text.count(shown) >= 3
    assert not {"script", "b onclick"} & set(reader.tags)


def test_a_page_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Whoever cannot write it leaves the one before, and nothing half done."""
    page = tmp_path / "report.html"
    page.write_text("before")
    broken = replace(data([bucket()]), findings=[replace(bucket(), outcome="never heard of")])

    with pytest.raises(KeyError):
        write_report(page, broken)

    assert page.read_text() == "before"
    assert list(tmp_path.iterdir()) == [page]


def test_many_buckets_take_little_memory(tmp_path: Path) -> None:
    """The page is written as it is made: it is never in memory as a whole."""
    sweep = data(bucket(f"bucket-{number}") for number in range(2_000))
    write_report(tmp_path / "warm.html", data())
    tracemalloc.start()
    try:
        write_report(tmp_path / "report.html", sweep)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < (tmp_path / "report.html").stat().st_size


def test_totals_may_know_more_than_the_rows(tmp_path: Path) -> None:
    """Tables that are well are counted without having been kept."""
    totals = Totals.empty([Scope(None, HANGZHOU)])
    of = bucket()
    for finding in (of, table("t", "n", of, state="encrypted", outcome="already_encrypted")):
        totals.count(finding)

    text, _ = read(tmp_path, replace(data([of], audit="true"), totals=totals))

    assert "The sweep checked 1 table." in text


# Many rows.


def _well(number: int) -> list[Finding]:
    regions = ("cn-shanghai", "cn-hangzhou")
    return [bucket(f"b-{n:04}", regions[n % 2]) for n in range(number)]


@pytest.mark.parametrize(
    ("found", "anchor"),
    [
        ([without("parts"), *_well(MAX_ROWS - 1)], "buckets"),
        # Such as before the first sweep with --apply.
        ([without(f"open-{n}") for n in range(MAX_ROWS + 1)], "problems-cn-hangzhou"),
    ],
    ids=["few buckets", "many problems"],
)
def test_what_is_in_one_table_is_as_it_was_sorted(found: list[Finding], anchor: str) -> None:
    """Of few buckets problems come first; many of a region are folded, also problems."""
    (part,) = parts_of_buckets(found)

    assert (part.findings, part.anchor) == (found, anchor)


def test_many_buckets_are_a_folded_table_for_each_region() -> None:
    """What needs somebody is not folded, and every bucket is in one of the tables."""
    found = [without("parts"), *_well(MAX_ROWS + 1)]

    problems, *well = parts_of_buckets(found)

    assert (problems.kind, problems.findings, problems.region) == ("problems", found[:1], None)
    assert [part.anchor for part in well] == ["buckets-cn-hangzhou", "buckets-cn-shanghai"]
    assert {*found[1:]} == {each for part in well for each in part.findings}
    assert all(each.region == part.region for part in well for each in part.findings)


def test_a_region_leads_to_its_folded_rows(tmp_path: Path) -> None:
    """Buckets, problems and tables have a link each, to a place that exists."""
    tables = [table(f"t-{n}", "web", bucket("orders")) for n in range(MAX_ROWS + 1)]
    problems = [without(f"open-{n}") for n in range(MAX_ROWS + 1)]
    whole = data([*problems, *_well(2 * MAX_ROWS + 2), *tables], audit="true")

    page, reader = read(tmp_path, whole)

    assert {link.removeprefix("#") for link in reader.links} <= reader.ids
    assert {"#problems-cn-hangzhou", "#buckets-cn-hangzhou", "#tables-cn-hangzhou"} <= reader.links
    assert f"cn-hangzhou: {MAX_ROWS + 1} tables, not encrypted or unknown" in page


def test_an_exemption_of_many_buckets_folds_them(tmp_path: Path) -> None:
    """Twenty are listed, of more only the number is seen first."""
    covered = [exempt(f"lab-{n}", "cn-hangzhou", LAB) for n in range(21)]

    readers = [read(tmp_path, data(covered[:number], exemptions=[LAB]))[1] for number in (20, 21)]

    assert ["summary" in reader.tags for reader in readers] == [False, True]
    assert "21 buckets" in readers[1].texts


# Several accounts.


def of(account_id: str, name: str = "orders", region: str = HANGZHOU, **told: Any) -> Finding:
    return bucket(name, region, account=account_id, **told)


def unlisted(account_id: str) -> Finding:
    return replace(REFUSED_REGION, scope=Scope(account_id, HANGZHOU))


def test_the_accounts_are_a_chapter_of_their_own(tmp_path: Path) -> None:
    """Each with the numbers of its regions, and with why it was not entered, or not read."""
    third = "4444444444444444"
    found = [
        of(ACCOUNT),
        of(ACCOUNT, "parts", "cn-shanghai", state="not_encrypted", outcome="detected"),
        unlisted(third),
        not_prepared(SECOND),
        incomplete_directory(),
    ]
    sweep = of_accounts((ACCOUNT, FIRST, SECOND, third), found, member_role="a-role")

    text, _ = read(tmp_path, sweep)

    assert f"Accounts {ACCOUNT}, {FIRST}, {third} Not swept {SECOND}" in text
    assert "in other accounts with the role a-role" in text
    assert "At least 2 table buckets in 2 regions of 3 accounts" in text
    assert (
        "1 account could not be entered, the list of accounts is incomplete, 1 list could not be"
        " read, so there may be more."
    ) in text
    chapter = text[text.index("Table buckets in each account") : text.index("in all regions, of")]
    for words in (
        f"{ACCOUNT} cn-hangzhou 1; cn-shanghai 1 (1 not encrypted)",
        f"{SECOND} ? the account is not prepared: The role acs:ram::{SECOND}",
        f"{third} ? cn-hangzhou: could not be listed: OSS Tables answered 403",
        "All 4 accounts 2 or more",
    ):
        assert words in chapter
    assert "? the accounts could not be listed in full: The list" in text
    assert "cn-hangzhou ? not read to the end in 2 accounts 1 or more" in text


def test_one_account_has_no_chapter(tmp_path: Path) -> None:
    """Unless it was not entered: then the page says why."""
    well, _ = read(tmp_path, of_accounts([FIRST], [of(FIRST)]))
    closed, _ = read(tmp_path, of_accounts([FIRST], [not_prepared(FIRST)]))

    assert "Table buckets in each account" not in well
    assert "the account is not prepared" in closed
    assert f"Accounts none Not swept {FIRST}" in closed
    assert "cn-hangzhou not known" in closed


def test_each_row_of_several_accounts_has_its_account(tmp_path: Path) -> None:
    """Buckets, tables and what an exemption covers."""
    owner = of(FIRST, "parts")
    excused = replace(of(FIRST, "lab-1"), outcome="skipped", exemption=LAB)
    found = [of(ACCOUNT), owner, excused, table("t", "n", owner)]

    text, _ = read(tmp_path, of_accounts((ACCOUNT, FIRST), found, exemptions=[LAB], audit="true"))

    assert text.count("Account, region") == 2
    assert f"parts acs:osstables:cn-hangzhou:{FIRST}:bucket/parts {FIRST} cn-hangzhou" in text
    assert f"lab-1 {FIRST}, cn-hangzhou" in text
    assert f"t n parts {FIRST} cn-hangzhou" in text


def test_many_rows_are_folded_by_account_then_by_region() -> None:
    """An account with many has a table for each of its regions."""
    few = [of(FIRST, f"b-{number}") for number in range(3)]
    many = [
        of(SECOND, f"b-{number}", region)
        for number in range(MAX_ROWS)
        for region in (HANGZHOU, "cn-shanghai")
    ]

    parts = parts_of_buckets([*many, *few], several=True)

    assert [(part.account_id, part.region, len(part.findings)) for part in parts] == [
        (FIRST, None, 3),
        (SECOND, HANGZHOU, MAX_ROWS),
        (SECOND, "cn-shanghai", MAX_ROWS),
    ]
    assert [part.anchor for part in parts] == [
        f"buckets-{FIRST}",
        f"buckets-{SECOND}-cn-hangzhou",
        f"buckets-{SECOND}-cn-shanghai",
    ]
    assert parts[1].caption.endswith(f"in account {SECOND} in cn-hangzhou")


def test_an_account_leads_to_its_folded_rows(tmp_path: Path) -> None:
    """Each link has a place on the page."""
    many = [of(FIRST, f"b-{number}") for number in range(MAX_ROWS + 1)]

    text, reader = read(tmp_path, of_accounts((FIRST, SECOND), [*many, of(SECOND)]))

    assert {link.removeprefix("#") for link in reader.links} <= reader.ids
    assert {f"#buckets-{FIRST}-cn-hangzhou", f"#buckets-{SECOND}", "#accounts"} <= reader.links
    assert f"{FIRST} buckets, cn-hangzhou" in text


def test_many_accounts_without_a_problem_are_folded(tmp_path: Path) -> None:
    """Those with one are seen first; every account is on the page."""
    accounts = [f"5555555555555{number:03}" for number in range(MAX_ROWS + 1)]

    text, _ = read(tmp_path, of_accounts(accounts, [not_prepared(accounts[7])]))
    well, _ = read(tmp_path, of_accounts(accounts))

    assert f"Accounts {MAX_ROWS} accounts, listed below Not swept {accounts[7]}" in text
    fold = text.index(f"{MAX_ROWS} accounts in which everything is encrypted or exempt")
    assert text.index("the account is not prepared") < fold
    assert [each for each in accounts if each not in text] == []
    assert "Accounts with an unencrypted or unknown" not in well
