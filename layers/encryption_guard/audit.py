"""Says whether anything that is locked is known to be vulnerable: `make audit`. Needs only Python.

It asks OSV about every version that is locked: of the layer, the operators' commands, the checks,
the build, and the npm package. Where OSV cannot be asked it looks into the list beside this file,
and says so: that list is short and has a date, and what is not on it may be known elsewhere.

It exits with 0 when nothing is known, 1 when a locked version is affected, and 2 when it could
neither ask nor read the list. What the list accepts, with a reason and for one version only, is
told each time, and does not count.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timezone
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

REPOSITORY = Path(__file__).parents[2]
LAYER = Path("layers", "encryption_guard")
NPM_LOCK = Path("package-lock.json")
LIST = Path(__file__).with_name("advisories.json")
OSV = "https://api.osv.dev"
# Seconds without a word from OSV: where it is blocked, nobody should have to wait long.
PATIENCE = 5.0
LARGEST_ANSWER = 32 * 1024 * 1024
MOST_PAGES = 20
# After that many days a list says little about today's versions.
OLD = 30
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
# A release, what comes before or after it ("rc1", ".post2", "-beta.1"), and what built it ("+x").
VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:[-_.]?([a-z]+)[-_.]?(\d*)(?:\.\w+)*)?(?:\+.*)?")


class NoAnswer(Exception):
    """OSV cannot be asked, or what it says cannot be read."""


class Unreadable(Exception):
    """A file of ours cannot be read; the message is for a person."""


@dataclass(frozen=True, order=True)
class Package:
    """One version of a package that is locked."""

    ecosystem: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Advisory:
    """What is known of a package: versions from `introduced` up to before `fixed` are affected."""

    id: str
    aliases: Sequence[str]
    package: str
    ecosystem: str
    # Pairs of versions; None: no release mends it.
    ranges: Sequence[tuple[str, str | None]]
    summary: str
    source: str

    def affects(self, package: Package) -> bool:
        """Whether this version of this package is affected."""
        if (self.ecosystem, self.package) != (package.ecosystem, package.name):
            return False
        return any(self.within(package.version, *bounds) for bounds in self.ranges)

    @staticmethod
    def within(version: str, introduced: str, fixed: str | None) -> bool:
        """From `introduced` on, and before `fixed`."""
        return order(introduced) <= order(version) and (
            fixed is None or order(version) < order(fixed)
        )

    def mended(self, package: Package) -> str | None:
        """The release that mends this version, if there is one."""
        bounds = (pair for pair in self.ranges if self.within(package.version, *pair))
        # OSV compares more kinds of versions than this does.
        with suppress(ValueError):
            return next((fixed for _, fixed in bounds), None)
        return None


Reasons = Mapping[tuple[str, Package], str]


@dataclass(frozen=True)
class Listed:
    """The list beside this file, and when it was taken."""

    taken: date
    advisories: Sequence[Advisory]
    # Why a finding is lived with: by its id, and for this version alone.
    accepted: Reasons


Found = Sequence[tuple[Package, Advisory]]


def main() -> None:
    """Read the arguments, look, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="where the lock files are")
    parser.add_argument("--osv", default=OSV, help="the service that is asked")
    parser.add_argument(
        "--list", type=Path, default=LIST, help="what is read where it is not there"
    )
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds to wait for it")
    chosen = parser.parse_args()

    try:
        packages = locked(chosen.root)
        found, how = look(packages, chosen.osv, chosen.list, chosen.patience)
    except Unreadable as error:
        print(f"audit: {error}", file=sys.stderr)
        sys.exit(2)
    reasons = accepted(chosen.list)
    concerning = [one for one in found if reason_for(*one, reasons) is None]
    other = "No other" if found else "None"
    print("\n".join([how, *told(found, reasons)]))
    if not concerning:
        print(f"{other} of the {len(packages)} locked versions is known there to be vulnerable.")
    sys.exit(1 if concerning else 0)


def look(packages: Sequence[Package], osv: str, path: Path, patience: float) -> tuple[Found, str]:
    """What is known of these packages, and a sentence about who says so."""
    try:
        return asked(packages, osv, patience), f"Asked {osv} about {len(packages)} locked versions."
    except NoAnswer as error:
        unasked = f"Could not ask {osv} ({error})"
    try:
        listed = read_list(path)
        known = [(one, each) for one in packages for each in listed.advisories if each.affects(one)]
    except (Unreadable, ValueError) as error:
        raise Unreadable(f"{unasked}, and {error}; nothing is known of what is locked.") from None
    return known, f"{unasked}, so checked against {about(listed, today())}"


def today() -> date:
    """The day it is in UTC."""
    return datetime.now(timezone.utc).date()


def about(listed: Listed, day: date) -> str:
    """The list in words: its date, its age, its size, and what it is not."""
    age = (day - listed.taken).days
    old = f" That is old: run this where {OSV} can be reached." if age > OLD else ""
    return (
        f"the list of {listed.taken} ({age} days old) with {len(listed.advisories)} advisories, "
        f"which is not complete.{old}"
    )


def told(found: Found, reasons: Reasons) -> Iterator[str]:
    """What was found, and what to do about it."""
    for package, advisory in found:
        names = ", ".join([advisory.id, *advisory.aliases])
        yield f"{package} ({package.ecosystem}): {names}: {advisory.summary} {advisory.source}"
        reason = reason_for(package, advisory, reasons)
        remedied = remedy(package, advisory.mended(package))
        yield f"  {remedied}" if reason is None else f"  Accepted for this version: {reason}"


def accepted(path: Path) -> Reasons:
    """What the list accepts; nothing if it cannot be read."""
    try:
        return read_list(path).accepted
    except Unreadable:
        return {}


def reason_for(package: Package, advisory: Advisory, reasons: Reasons) -> str | None:
    """Why this finding is lived with, if it is."""
    known = (reasons.get((id, package)) for id in [advisory.id, *advisory.aliases])
    return next(filter(None, known), None)


def remedy(package: Package, mended: str | None) -> str:
    """What an operator does about one package."""
    if mended is None:
        return (
            "No release that mends it is known: replace it, or see there whether it concerns you."
        )
    if package.ecosystem == "npm":
        return f"Fixed in {mended}: raise it in package.json, then npm install --package-lock-only."
    return f"Fixed in {mended}: `make lock`, `make test`, then `make deploy`."


def locked(root: Path) -> list[Package]:
    """Every version that a lock file names."""
    found: set[Package] = set()
    for path in [
        one for folder in (root / LAYER, root) for one in folder.glob("requirements*.txt")
    ]:
        pins = PIN.findall(read(path))
        if not pins:
            raise Unreadable(f"{path} locks nothing; run `make lock`.")
        found |= {Package("PyPI", normal(name), version) for name, version in pins}
    try:
        npm = json.loads(read(root / NPM_LOCK))["packages"]
        found |= {
            Package("npm", path.rpartition("node_modules/")[2], entry["version"])
            for path, entry in npm.items()
            if path
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unreadable(f"{root / NPM_LOCK} is no lock file of npm.") from None
    return sorted(found)


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> str:
    """A file's text."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read ({error})") from None


def read_list(path: Path) -> Listed:
    """The list of advisories that is committed."""
    try:
        content = json.loads(read(path))
        return Listed(
            date.fromisoformat(content["taken"]),
            [one for record in content["advisories"] for one in from_osv(record)],
            {
                (one["id"], Package(one["ecosystem"], one["name"], one["version"])): one["reason"]
                for one in content["accepted"]
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{path} is no list of advisories ({error!r})") from None


def from_osv(record: Mapping[str, Any]) -> Iterator[Advisory]:
    """An advisory for each package that a record of OSV's format names."""
    for affected in record["affected"]:
        ecosystem, name = affected["package"]["ecosystem"], affected["package"]["name"]
        yield Advisory(
            record["id"],
            tuple(record.get("aliases", ())),
            normal(name) if ecosystem == "PyPI" else name,
            ecosystem,
            tuple(ranges(affected.get("ranges", ()))),
            # Some records have no summary, but each has its page.
            record.get("summary") or "no summary;",
            source_of(record),
        )


def source_of(record: Mapping[str, Any]) -> str:
    """Where to read on."""
    references = record.get("references") or [
        {"url": f"https://osv.dev/vulnerability/{record['id']}"}
    ]
    return str(references[0]["url"])


def ranges(described: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
    """Pairs of versions: where a fault came in, and where it was mended."""
    for one in described:
        if one["type"] == "GIT":
            continue
        introduced: str | None = None
        for event in one["events"]:
            if "introduced" in event:
                introduced = event["introduced"]
            elif "fixed" in event and introduced is not None:
                yield introduced, event["fixed"]
                introduced = None
        if introduced is not None:
            yield introduced, None


def order(version: str) -> tuple[tuple[int, ...], int, str, int]:
    """By what versions compare: release numbers, then whether they come before or after it."""
    match = VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no version that can be compared here")
    release = [int(number) for number in match[1].split(".")]
    while release and not release[-1]:
        release.pop()
    word, number = match[2] or "", int(match[3] or 0)
    if not word:
        return tuple(release), 0, "", 0
    return tuple(release), 1 if word == "post" else -1, word, number


def asked(packages: Sequence[Package], osv: str, patience: float) -> Found:
    """What OSV knows of these packages."""
    waiting = [(package, query(package)) for package in packages]
    found: list[tuple[Package, Advisory]] = []
    for _ in range(MOST_PAGES):
        questions = [question for _, question in waiting]
        answer = fetch(f"{osv}/v1/querybatch", patience, {"queries": questions})
        more = []
        for (package, question), (ids, token) in zip(
            waiting, results(answer, waiting), strict=True
        ):
            known = (detail(package, id, osv, patience) for id in ids)
            found += [(package, advisory) for advisory in known if advisory]
            if token:
                more.append((package, {**question, "page_token": token}))
        if not more:
            return found
        waiting = more
    raise NoAnswer("it has ever more pages")


def query(package: Package) -> dict[str, Any]:
    """The question about one package."""
    about = {"ecosystem": package.ecosystem, "name": package.name}
    return {"package": about, "version": package.version}


def results(answer: Any, waiting: Sequence[object]) -> list[tuple[list[str], str | None]]:
    """For each question the ids of what is known, and what to ask on with."""
    try:
        read = [
            ([str(one["id"]) for one in result.get("vulns") or ()], result.get("next_page_token"))
            for result in answer["results"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise NoAnswer("its answer cannot be read") from None
    if len(read) != len(waiting):
        raise NoAnswer(f"it answered {len(read)} of {len(waiting)} questions")
    return read


def detail(package: Package, id: str, osv: str, patience: float) -> Advisory | None:
    """What OSV knows under an id; None if it was withdrawn."""
    page = f"https://osv.dev/vulnerability/{quote(id)}"
    ours = (package.name, package.ecosystem)
    try:
        record = fetch(f"{osv}/v1/vulns/{quote(id)}", patience)
        if record.get("withdrawn"):
            return None
        known = [one for one in from_osv(record) if (one.package, one.ecosystem) == ours]
        bounds = tuple(pair for one in known for pair in one.ranges)
        return Advisory(id, known[0].aliases, *ours, bounds, known[0].summary, page)
    except (NoAnswer, KeyError, TypeError, AttributeError, IndexError, ValueError):
        # That it is affected is known all the same, and nothing may hide it.
        return Advisory(id, (), *ours, (), "what it is could not be fetched;", page)


def fetch(url: str, patience: float, asking: object = None) -> Any:
    """What the service answers, as JSON."""
    content = None if asking is None else json.dumps(asking).encode()
    request = Request(url, content, {"Content-Type": "application/json"})  # noqa: S310  ours
    try:
        with urlopen(request, timeout=patience) as response:  # noqa: S310
            return json.loads(response.read(LARGEST_ANSWER))
    except HTTPError as error:
        error.close()
        raise NoAnswer(f"it answered {error.code}") from None
    except (OSError, HTTPException) as error:
        raise NoAnswer(str(getattr(error, "reason", "") or error) or "no answer") from None
    except ValueError:
        raise NoAnswer("its answer is no JSON") from None


if __name__ == "__main__":
    main()
