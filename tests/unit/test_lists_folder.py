"""Lists out of a folder: what may be in it, and what is refused with file, line and reason."""

import os

import msgspec
import pytest

from domain.vocabulary import AgentClass, NetworkClass
from ml.lists.folder import BOTS_FILE, EXCLUSIONS_FILE, FILES, SUSPECTS_FILE, read_folder, signature
from ml.lists.packaged import packaged
from ml.lists.readers import FILE_BYTES_MAX, ListsRefused, line_of, read_ranges
from ml.lists.screen_lists import Lists


def write(folder, **files):
    """Write files by field: `hosting="1.2.3.0/24"` is hosting.txt; bots are patterns of crawler-user-agents."""
    for name, content in files.items():
        if name == "bots":
            entries = [{"pattern": pattern, "tags": []} for pattern in content]
            (folder / BOTS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(entries)))
        elif name == "suspects":
            (folder / SUSPECTS_FILE).write_text("\n".join(content))
        elif name == "exclusions":
            (folder / EXCLUSIONS_FILE).write_text("\n".join(content))
        else:
            (folder / f"{name}.txt").write_text(content)
    return folder


def read(folder, **more):
    return read_folder(folder, packaged(), **more)


def refused(folder, **more):
    with pytest.raises(ListsRefused) as caught:
        read(folder, **more)
    assert caught.value.file.startswith(str(folder))
    return caught.value


def test_an_empty_folder_holds_the_packaged_lists_and_was_never_refreshed(tmp_path):
    found = read(tmp_path)
    assert found.sources.version == packaged().version
    assert found.refreshed_ms is None


def test_a_file_goes_before_the_packaged_list_and_the_others_stay(tmp_path):
    write(tmp_path, hosting="# version: h-7\n# date: 2026-11-20\n1.2.3.0/24  # ours\n\n2a01:4f8::/32\n")
    found = read(tmp_path).sources
    lists = Lists(found)
    assert lists.network("1.2.3.4") is NetworkClass.DATA_CENTRE
    assert lists.network("5.9.0.1") is NetworkClass.EYEBALL
    assert lists.network("52.94.76.1") is NetworkClass.DATA_CENTRE
    part = found.parts["hosting"]
    assert (part.version, part.date, part.entries, part.origin) == ("h-7", "2026-11-20", 2, "hosting.txt")
    assert found.version != packaged().version


def test_the_newest_file_says_when_the_lists_were_refreshed(tmp_path):
    write(tmp_path, hosting="1.2.3.0/24", vpns="1.2.4.0/24")
    os.utime(tmp_path / "hosting.txt", (1_790_000_000, 1_790_000_000))
    os.utime(tmp_path / "vpns.txt", (1_790_000_777, 1_790_000_777))
    assert read(tmp_path).refreshed_ms == 1_790_000_777_000


def test_bots_and_libraries_are_read_as_crawler_user_agents_publishes_them(tmp_path):
    entries = [{"pattern": "NewBot\\/", "url": "", "instances": [], "addition_date": "2026/11/01", "tags": ["ai"]}]
    entries += [{"pattern": "newlib", "tags": ["http-library"]}, {"pattern": "python-requests"}]
    entries += [{"pattern": word} for word in ("Googlebot", "bingbot", "facebookexternalhit", "Headless", "curl")]
    (tmp_path / BOTS_FILE).write_bytes(msgspec.json.encode(entries))
    found = read(tmp_path).sources
    assert found.parts["bots"].date == "2026-11-01"
    assert Lists(found).agent("Mozilla/5.0 (X11) NewBot/1") is AgentClass.DECLARED_BOT
    assert Lists(found).agent("Mozilla/5.0 (X11) newlib/1") is AgentClass.NOT_A_BROWSER


def test_suspects_are_read_as_crawlerdetect_publishes_them(tmp_path):
    write(tmp_path, suspects=[*packaged().suspects, "brandnewthing", r"#not a comment\/"])
    found = read(tmp_path).sources
    assert len(found.suspects) == len(packaged().suspects) + 2
    assert Lists(found).agent("Mozilla/5.0 (X11; Linux) BrandNewThing/1") is AgentClass.DECLARED_BOT


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("1.2.3.0/24\nnowhere\n", 2, "'nowhere' is no address or range of addresses"),
        ("1.2.3.0/24\n1.2.3.0/33\n", 2, "'1.2.3.0/33' is no address or range of addresses"),
        ("\n\n0.0.0.0/0\n", 3, "0.0.0.0/0 is broader than /8, which nobody has"),
        ("2a00::/12\n", 1, "2a00::/12 is broader than /16, which nobody has"),
        ("# date: yesterday\n1.2.3.4\n", 1, "'yesterday' is no date such as 2026-11-01"),
        ("# nothing\n\n", 0, "has no range"),
        ("1.2.3.4\nb\u00fccher\n", 2, "is not ASCII"),
        ("79.231.0.0/16\n", 1, "takes a home for a data_centre: 79.231.131.169"),
        ("1.2.3.4\n2003:c1::/32\n", 2, "takes a home for a data_centre: 2003:c1:1::1"),
    ],
)
def test_a_wrong_file_of_ranges_is_refused_with_line_and_reason(tmp_path, content, line, reason):
    caught = refused(write(tmp_path, hosting=content))
    assert (caught.file, caught.line, caught.reason) == (str(tmp_path / "hosting.txt"), line, reason)
    assert str(caught).startswith(f"{tmp_path / 'hosting.txt'}:{line}: " if line else f"{tmp_path / 'hosting.txt'}: ")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("(unclosed", "is no regular expression: "),
        ("a{99999999999}", "is no regular expression: "),
        ("x*", "is found in every agent"),
        ("(a+)+b", "repeats a repetition"),
        ("(?:[a-z]+\\d*)*x", "repeats a repetition"),
        ("y" * 501, "is not ASCII of at most 500 characters"),
    ],
)
def test_a_wrong_expression_is_refused_with_line_and_reason(tmp_path, expression, reason):
    caught = refused(write(tmp_path, suspects=[*packaged().suspects[:40], expression, "zzz"]))
    assert (caught.file, caught.line) == (str(tmp_path / SUSPECTS_FILE), 41)
    assert reason in caught.reason


@pytest.mark.parametrize("pattern", ["Chrome\\/", "iPhone", "Dalvik\\/", "Edg\\/\\d"])
def test_a_pattern_that_takes_a_person_for_a_robot_is_refused_with_its_line(tmp_path, pattern):
    caught = refused(write(tmp_path, bots=["Googlebot", pattern, "other"]))
    assert caught.reason.startswith(f"{pattern!r} takes a person for a declared_bot: ")
    written = (tmp_path / BOTS_FILE).read_text().splitlines()[caught.line - 1]
    assert msgspec.json.encode(pattern).decode() in written


def test_a_wrong_pattern_in_json_is_refused_with_its_line(tmp_path):
    write(tmp_path, bots=["Googlebot", "bad\\/(", "other"])
    caught = refused(tmp_path)
    text = (tmp_path / BOTS_FILE).read_text().splitlines()
    assert "bad" in text[caught.line - 1]


@pytest.mark.parametrize(
    ("content", "line"), [(b'[\n{"pattern": "x",\n}]', 3), (b'[{"pattern": 7}]', 0), (b"", 0), (b"[]", 0), (b"\xff", 1)]
)
def test_what_is_not_the_json_of_bots_is_refused(tmp_path, content, line):
    (tmp_path / BOTS_FILE).write_bytes(content)
    caught = refused(tmp_path)
    assert (caught.file, caught.line) == (str(tmp_path / BOTS_FILE), line)


def test_lists_that_let_a_known_robot_pass_are_refused(tmp_path):
    caught = refused(write(tmp_path, exclusions=[*packaged().exclusions, "HeadlessChrome"], bots=["Googlebot"]))
    assert "let a robot pass" in caught.reason


def test_a_file_that_is_no_list_is_refused_and_what_is_being_written_is_not_looked_at(tmp_path):
    write(tmp_path, hosting="1.2.3.4")
    for name in (".hosting.txt.swp", "vpns.txt.part", "vpns.txt~", "clouds.txt.tmp"):
        (tmp_path / name).write_text("half")
    assert read(tmp_path).sources.parts["vpns"].origin == "program"
    (tmp_path / "hostings.txt").write_text("1.2.3.4")
    caught = refused(tmp_path)
    assert caught.reason == f"is no list; the lists are {', '.join(FILES)}"


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "cannot be read: No such file" in refused(tmp_path / "gone").reason


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "hosting.txt").mkdir()
    assert "cannot be read: Is a directory" in refused(tmp_path).reason


def test_a_file_that_is_too_large_is_refused():
    with pytest.raises(ListsRefused, match="more than"):
        read_ranges("hosting", b"#" * (FILE_BYTES_MAX + 1), file="hosting.txt")


def test_a_list_that_lost_half_of_its_entries_while_in_force_is_refused(tmp_path):
    whole = [f"1.2.{n * 2}.0/24" for n in range(10)]
    in_force = read(write(tmp_path, hosting="\n".join(whole))).sources
    write(tmp_path, hosting="\n".join(whole[:4]))
    assert "under half of the 10 in force" in refused(tmp_path, in_force=in_force).reason
    assert read(tmp_path).sources.parts["hosting"].entries == 4


def test_what_a_folder_is_like_changes_with_name_time_and_size_of_its_lists(tmp_path):
    write(tmp_path, hosting="1.2.3.4")
    os.utime(tmp_path / "hosting.txt", (1, 1))
    before = signature(tmp_path)
    assert signature(tmp_path) == before
    write(tmp_path, hosting="1.2.3.5")
    os.utime(tmp_path / "hosting.txt", (2, 2))
    assert signature(tmp_path) != before


def test_an_expression_is_found_on_its_line_as_it_stands_and_as_json_writes_it():
    data = b'{\n"a": "x\\\\/y"}\nx\\/y'
    assert line_of(r"x\/y", data) == 3
    assert line_of(r"x\/y", data.partition(b"\nx")[0]) == 2
    assert line_of("nowhere", data) == 0
