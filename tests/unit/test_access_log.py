"""Access logs as servers write them: escapes, IPv6, gzip, CRLF, and whatever else ends up in a log."""

import gzip
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.traffic.access_log import (
    BLANK,
    LINE_BYTES_MAX,
    MALFORMED,
    LogUnreadable,
    Request,
    parse_line,
    read_access_log,
    read_digested_log,
    referrer_parts,
)

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "access_combined.log"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"


def line(**changes):
    fields = {
        "host": "198.51.100.7",
        "user": "-",
        "time": "17/May/2015:10:05:03 +0000",
        "request": "GET /images/a.png HTTP/1.1",
        "status": "200",
        "size": "203023",
        "referrer": "http://example.com/page",
        "agent": FIREFOX,
    } | changes
    text = '{host} - {user} [{time}] "{request}" {status} {size} "{referrer}" "{agent}"\n'.format(**fields)
    return text.encode("utf-8", "surrogateescape")


def parsed(**changes):
    request = parse_line(line(**changes))
    assert isinstance(request, Request)
    return request


def test_a_line_says_who_asked_for_what_when_and_how_it_ended():
    assert parsed() == Request(
        host="198.51.100.7",
        at=1_431_857_103_000,
        method="GET",
        target="/images/a.png",
        status=200,
        referrer="http://example.com/page",
        agent=FIREFOX,
    )


@pytest.mark.parametrize(
    ("time", "iso"),
    [
        ("17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03+00:00"),
        ("29/Feb/2024:23:59:59 -0330", "2024-02-29T23:59:59-03:30"),
        ("01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00+00:00"),
        ("31/Dec/2030:00:00:00 +1400", "2030-12-31T00:00:00+14:00"),
    ],
)
def test_times_are_read_in_their_zone(time, iso):
    assert parsed(time=time).at == int(datetime.fromisoformat(iso).timestamp() * 1_000)


@pytest.mark.parametrize(
    "time",
    [
        "30/Feb/2024:10:05:03 +0000",
        "17/Mai/2015:10:05:03 +0000",
        "17/May/2015:24:05:03 +0000",
        "00/Jan/2020:00:00:00 +0000",
        "17/May/1969:10:05:03 +0000",
        "01/Jan/2106:00:00:00 +0000",
        "31/Dec/9999:23:59:59 -1200",
        "17/May/2015 10:05:03",
        "2015-05-17T10:05:03Z",
    ],
)
def test_a_time_that_never_was_makes_the_line_malformed(time):
    assert parse_line(line(time=time)) is MALFORMED


def test_a_dash_is_nothing():
    request = parsed(referrer="-", agent="-", size="-")
    assert request.referrer is None
    assert request.agent is None


def test_escaped_quotes_backslashes_and_bytes_are_read_as_the_server_meant_them():
    assert parsed(agent=r"say \"hi\" \\ to \xc3\xbc").agent == 'say "hi" \\ to ü'


def test_control_characters_and_broken_bytes_become_text_that_every_store_can_keep():
    request = parsed(agent=r"a\x00b\nc", referrer="http://x/\udcff")
    assert request.agent == "a\ufffdb\ufffdc"
    assert request.referrer == "http://x/\ufffd"


@pytest.mark.parametrize("host", ["2001:db8::1", "::ffff:198.51.100.7", "crawler-7.example.com", "unix:", "a:80"])
def test_hosts_are_taken_as_they_are(host):
    assert parsed(host=host).host == host


@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8::1", "crawler-7.example.com"])
def test_whoever_asks_stands_behind_the_virtual_host_where_the_log_has_one(host):
    assert parse_line(b"www.example.com:443 " + line(host=host)) == parsed(host=host)
    assert parse_line(b"203-0-113-9.example:80 " + line(host=host, user="frank")) == parsed(host=host)


@pytest.mark.parametrize("user", ["frank", "John Smith", "a [b] c"])
def test_user_names_may_hold_spaces_and_brackets(user):
    assert parsed(user=user).target == "/images/a.png"


def test_carriage_returns_and_further_fields_at_the_end_do_no_harm():
    assert parse_line(line().rstrip() + b"\r\n") == parsed()
    assert parse_line(line().rstrip() + b' "203.0.113.9" 0.042\n') == parsed()


@pytest.mark.parametrize("request_line", ["-", "", r"\x16\x03\x01\x02", "GET", "OPTIONS *", r"\x80w\x01\x03"])
def test_requests_that_are_none_are_lines_all_the_same(request_line):
    request = parsed(request=request_line, status="400")
    assert not request.is_image


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x00\xa5\x01\n",
        b"\x00" * 100 + b"\n",
        b"not a log line\n",
        line()[:-3],
        line().replace(b'"', b"'"),
        b'198.51.100.7 - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 12\n',
        line(status="OK"),
    ],
)
def test_what_is_not_in_the_combined_format_is_malformed(junk):
    assert parse_line(junk) is MALFORMED


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_no_bytes_make_the_parser_fail(junk):
    assert parse_line(junk) in {MALFORMED, BLANK} or isinstance(parse_line(junk), Request)


@given(st.integers(0, 120), st.binary(max_size=6))
@settings(max_examples=300)
def test_no_damage_to_a_line_makes_the_parser_fail(at, damage):
    damaged = line()[:at] + damage + line()[at + 3 :]
    result = parse_line(damaged)
    assert result in {MALFORMED, BLANK} or isinstance(result, Request)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b.png?x=1&y=/c.gif", "/a/b.png"),
        ("/a.jpg#top", "/a.jpg"),
        ("/a.gif;jsessionid=7", "/a.gif"),
        ("http://example.com/a.png", "/a.png"),
        ("http://example.com", "/"),
        ("*", "*"),
    ],
)
def test_the_path_is_the_target_without_query_and_origin(target, path):
    assert parsed(request=f"GET {target} HTTP/1.1").path == path


def test_a_target_may_hold_spaces_and_lack_a_version():
    assert parsed(request="GET /my cat.png HTTP/1.0").path == "/my cat.png"
    assert parsed(request="GET /cat.png").is_image


@pytest.mark.parametrize(
    ("request_line", "is_image"),
    [
        ("GET /a.PNG HTTP/1.1", True),
        ("GET /a.jpeg?v=2 HTTP/1.1", True),
        ("GET /a.svg HTTP/2.0", True),
        ("HEAD /a.png HTTP/1.1", False),
        ("POST /a.png HTTP/1.1", False),
        ("GET /a.png.html HTTP/1.1", False),
        ("GET /show?image=a.png HTTP/1.1", False),
        ("GET /favicon.ico HTTP/1.1", False),
        ("GET / HTTP/1.1", False),
    ],
)
def test_images_are_what_pages_show(request_line, is_image):
    assert parsed(request=request_line).is_image is is_image


def test_an_image_is_delivered_whole_in_part_or_out_of_the_cache():
    delivered = [status for status in range(200, 600) if parsed(status=str(status)).is_delivered]
    assert delivered == [200, 206, 304]


@pytest.mark.parametrize(
    ("referrer", "parts"),
    [
        ("http://example.com/page?q=1", ("example.com", "/page")),
        ("https://EXAMPLE.com:8080/", ("example.com", "/")),
        ("android-app://com.example", ("", "")),
        ("http://[broken/", ("", "")),
        ("garbage", ("", "")),
        (None, ("", "")),
    ],
)
def test_a_referrer_has_a_host_and_a_path_or_neither(referrer, parts):
    assert referrer_parts(referrer) == parts


def test_plain_and_gzipped_logs_are_read_alike_and_are_the_same_log(tmp_path):
    plain, zipped = tmp_path / "access.log", tmp_path / "access.log.gz"
    content = line() + b"\n" + b"junk\r\n" + line(host="2001:db8::1").rstrip()
    plain.write_bytes(content)
    zipped.write_bytes(gzip.compress(content))
    lines = list(read_access_log(plain))
    assert lines == list(read_access_log(zipped))
    assert lines == [parsed(), BLANK, MALFORMED, parsed(host="2001:db8::1")]
    assert list(read_digested_log(plain)) == list(read_digested_log(zipped))


def test_a_line_without_end_is_one_malformed_line_and_costs_no_memory(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"x" * (LINE_BYTES_MAX * 3 + 5) + b"\n" + line())
    assert list(read_access_log(path)) == [MALFORMED, parsed()]


def test_gzip_that_ends_in_the_middle_is_an_error_of_reading(tmp_path):
    path = tmp_path / "access.log.gz"
    whole = gzip.compress(b"".join(line(host=f"198.51.100.{n}") for n in range(250)))
    for broken in (whole[:-20], whole[:-8] + b"\0" * 8, whole[:40] + b"\xff" * 40 + whole[80:], whole + b"junk"):
        path.write_bytes(broken)
        with pytest.raises(LogUnreadable, match=r"access\.log\.gz: the gzip ends or breaks"):
            list(read_access_log(path))


def test_what_a_log_begins_with_has_the_same_digests_however_it_goes_on(tmp_path):
    path = tmp_path / "access.log"
    begin = [line(), b"\n", b"x" * (LINE_BYTES_MAX + 9) + b"\n", line(host="2001:db8::1")]
    path.write_bytes(b"".join(begin).rstrip())
    digests = [digest for _, digest in read_digested_log(path)]
    path.write_bytes(b"".join(begin).replace(b"\n", b"\r\n") + line() * 2)
    grown = [digest for _, digest in read_digested_log(path)]
    assert grown[:4] == digests
    assert len(set(grown)) == 6


def test_a_pipe_is_read_to_its_last_line():
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(line() * 3))
    os.close(writing)
    assert list(read_access_log(Path(f"/dev/fd/{reading}"))) == [parsed()] * 3
    os.close(reading)


def test_a_log_that_is_not_there_is_an_error_of_reading(tmp_path):
    with pytest.raises(LogUnreadable, match=r"no\.log: cannot be read: No such file"):
        list(read_access_log(tmp_path / "no.log"))


def test_an_empty_log_has_no_lines(tmp_path):
    path = tmp_path / "access.log"
    path.touch()
    assert list(read_access_log(path)) == []


@pytest.mark.skipif(not SAMPLE.exists(), reason="the shared sample is not beside this checkout")
def test_a_real_log_is_read_to_its_last_line():
    kinds = Counter(type(parsed_line).__name__ for parsed_line in read_access_log(SAMPLE))
    assert kinds == {"Request": 9_999, "Malformed": 1}
    images = [request for request in read_access_log(SAMPLE) if isinstance(request, Request) and request.is_image]
    assert len(images) == 2_798
    assert sum(request.is_delivered for request in images) == 2_753
