"""The page for an auditor in a real browser: on a desk, on a phone, on paper, in the dark."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.cli.evidence import Evidence
from encryption_guard.cli.report import write_report
from encryption_guard.services.inventory import REGIONS
from encryption_guard.sweep.findings import Finding
from tests.unit.sweep.sweeps import (
    LAB,
    bucket,
    data,
    everything,
    exemption,
    incomplete_directory,
    not_prepared,
    of_accounts,
    realistic,
    table,
    without,
)

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver (on Debian: chromium-driver)"
)

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What is left of the width of an A4 sheet between its margins, in CSS pixels.
SHEET = 688
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

# What sticks out of the window to the right, by tag and text.
STICKS_OUT = """
return [...document.querySelectorAll('body *')]
  .filter(e => e.getClientRects().length && getComputedStyle(e).clipPath === 'none')
  .filter(e => !e.closest('thead') || getComputedStyle(e.closest('thead')).position !== 'absolute')
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.tagName + ': ' + e.textContent.trim().slice(0, 40));
"""
# The contrast ratio of every text to what is behind it (WCAG 2.2, 1.4.3), the least first.
CONTRASTS = """
const channels = c => c.match(/[0-9.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) {
  const c = channels(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] === 1) return c;
} return [255, 255, 255]; };
return [...document.querySelectorAll('body *')]
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => { const [a, b] = [luminance(channels(getComputedStyle(e).color)), luminance(behind(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })
  .sort((a, b) => a - b);
"""


MEMBERS = tuple(f"55555555555555{number:02}" for number in range(9))


def organization() -> Evidence:
    """Nine accounts with every finding that there is; one of them was not entered."""
    found = [
        replace(each, scope=Scope(account_id, each.region), arn=_in(each, account_id))
        for account_id in MEMBERS[:2]
        for each in everything()
    ]
    return of_accounts(
        MEMBERS,
        [*found, not_prepared(MEMBERS[8]), incomplete_directory()],
        REGIONS,
        applied=True,
        audit="true",
        exemptions=[LAB],
        member_role="oss-tables-encryption-guard-member",
    )


def _in(finding: Finding, account_id: str) -> TableBucketArn | None:
    return finding.arn._replace(account_id=account_id) if finding.arn else None


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests, without a screen."""
    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(executable_path=DRIVER))
    yield chrome
    chrome.quit()


def show(
    browser: Chrome, folder: Path, sweep: Evidence, *, width: int = 1280, dark: bool = False
) -> str:
    """Write the page, open it at this width, and return what a reader sees."""
    page = folder / "report.html"
    write_report(page, sweep)
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page.as_uri())
    return str(browser.execute_script("return document.body.innerText"))


def asked(browser: Chrome, script: str) -> Any:
    return browser.execute_script(script)


def test_it_is_a_table_on_a_desk(browser: Chrome, tmp_path: Path) -> None:
    """Columns have their headings above them, and nothing sticks out of the window."""
    show(browser, tmp_path, realistic())

    assert asked(browser, "return getComputedStyle(document.querySelector('td')).display") == (
        "table-cell"
    )
    assert browser.find_element(By.CSS_SELECTOR, "#buckets thead").is_displayed()
    assert asked(browser, STICKS_OUT) == []


@pytest.mark.parametrize("width", [320, 412])
def test_it_fits_on_a_phone(browser: Chrome, tmp_path: Path, width: int) -> None:
    """No sideways scrolling; each value stands beside the name of its column."""
    show(browser, tmp_path, realistic(), width=width)

    assert asked(browser, "return document.documentElement.scrollWidth") <= width
    assert asked(browser, STICKS_OUT) == []
    labels = asked(
        browser,
        "return [...document.querySelectorAll('#buckets tbody tr:first-child > *')]"
        ".map(e => getComputedStyle(e, '::before').content)",
    )
    shown = [label.strip('"') for label in labels]
    assert shown[:4] == ["Bucket", "Region", "Created", "State"]


def test_a_long_name_is_broken_on_a_phone(browser: Chrome, tmp_path: Path) -> None:
    """The longest name that there may be does not widen the page."""
    sweep = data([without("n" * 63), bucket("a-" * 31 + "b")])

    show(browser, tmp_path, sweep, width=320)

    assert asked(browser, STICKS_OUT) == []


def test_it_can_be_printed(browser: Chrome, tmp_path: Path) -> None:
    """On a few sheets of A4, in black on white, with the headings of a table on each."""
    show(browser, tmp_path, realistic(), width=SHEET, dark=True)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    too_narrow = asked(
        browser,
        "return [...document.querySelectorAll('thead th')]"
        ".filter(h => h.scrollWidth > h.clientWidth).map(h => h.textContent)",
    )
    paper = asked(browser, "return getComputedStyle(document.body).backgroundColor")
    headings = asked(browser, "return getComputedStyle(document.querySelector('thead')).display")
    broken = asked(browser, "return getComputedStyle(document.querySelector('tr')).breakInside")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    pdf = base64.b64decode(browser.print_page())

    assert pdf.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
    assert paper in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert (headings, broken) == ("table-header-group", "avoid")
    assert too_narrow == []


def test_what_is_folded_is_printed(browser: Chrome, tmp_path: Path) -> None:
    """On a screen a region of many buckets is one line, on paper every bucket is there."""
    many = [bucket(f"bucket-{number:03}") for number in range(150)]
    seen = show(browser, tmp_path, data(many))
    heights = []
    for media in ("screen", "print"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
        heights.append(asked(browser, "return document.querySelector('details').offsetHeight"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    assert "cn-hangzhou: 150 buckets, encrypted or exempt" in seen
    assert "bucket-149" not in seen
    assert heights[0] < 60
    assert heights[1] > 150 * 20


def test_foreign_words_are_words(browser: Chrome, tmp_path: Path) -> None:
    """What looks like HTML in an answer or a name is shown, and does nothing."""
    excuse = exemption("scratch-*", HOSTILE, "2027-01-31")
    findings = [without("orders", detail=HOSTILE), table(HOSTILE, HOSTILE, bucket())]

    seen = show(browser, tmp_path, data(findings, audit="true", exemptions=[excuse]))

    assert seen.count(HOSTILE) == 4
    assert browser.title.startswith("Encryption of OSS table buckets")
    assert asked(browser, "return document.querySelectorAll('img, script').length") == 0


def test_it_loads_nothing_and_complains_of_nothing(browser: Chrome, tmp_path: Path) -> None:
    """One file is all there is: no request, no script, and a policy that would forbid them."""
    show(browser, tmp_path, realistic())

    policy = "return document.querySelector('meta[http-equiv=Content-Security-Policy]').content"
    assert asked(browser, "return performance.getEntriesByType('resource').length") == 0
    assert "default-src 'none'" in asked(browser, policy)
    complaints: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert complaints == []


@pytest.mark.parametrize("sweep", [realistic, organization])
def test_it_can_be_walked_through(
    browser: Chrome, tmp_path: Path, sweep: Callable[[], Evidence]
) -> None:
    """For a screen reader: a language, one first heading, named tables, headings with a scope."""
    show(browser, tmp_path, sweep())

    assert asked(browser, "return document.documentElement.lang") == "en"
    assert asked(browser, "return document.querySelectorAll('h1').length") == 1
    assert asked(
        browser, "return [...document.querySelectorAll('table')].every(t => t.caption.textContent)"
    )
    assert asked(browser, "return [...document.querySelectorAll('th')].every(h => h.scope)")
    assert asked(
        browser,
        "return [...document.querySelectorAll('nav a')]"
        ".every(a => document.querySelector(a.getAttribute('href')))",
    )


@pytest.mark.parametrize("width", [320, SHEET, 1280])
def test_several_accounts_fit_everywhere(browser: Chrome, tmp_path: Path, width: int) -> None:
    """No account is broken on a desk or on a phone, and nothing sticks out."""
    seen = show(browser, tmp_path, organization(), width=width)

    assert asked(browser, "return document.documentElement.scrollWidth") <= width
    assert asked(browser, STICKS_OUT) == []
    assert [each for each in MEMBERS if each not in seen] == []
    assert "the account is not prepared" in seen
    lines = asked(
        browser,
        "return [...document.querySelectorAll('#accounts tbody th > span:first-child')]"
        ".map(e => e.getClientRects().length)",
    )
    assert set(lines) == {1}


def test_an_account_is_whole_in_each_row_of_a_desk(browser: Chrome, tmp_path: Path) -> None:
    """And on paper: sixteen digits are one word."""
    few = of_accounts(MEMBERS[:2], [bucket("orders", account=MEMBERS[0])])
    heights = "return document.querySelector('#buckets td span').getClientRects().length"
    show(browser, tmp_path, few)
    on_a_desk = asked(browser, heights)
    show(browser, tmp_path, few, width=SHEET)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    on_paper = asked(browser, heights)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    assert (on_a_desk, on_paper) == (1, 1)


@pytest.mark.parametrize("sweep", [realistic, organization])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read(
    browser: Chrome, tmp_path: Path, dark: bool, sweep: Callable[[], Evidence]
) -> None:
    """Each text stands out from what is behind it, by day and by night."""
    show(browser, tmp_path, sweep(), dark=dark)

    background = asked(browser, "return getComputedStyle(document.body).backgroundColor")
    assert (background != "rgb(255, 255, 255)") is dark
    assert asked(browser, CONTRASTS)[0] >= 4.5
