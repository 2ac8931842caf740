"""How commits become events of EventStoreDB and commits again, and what is remembered of streams."""

import re
from uuid import UUID, uuid4

import pytest
from esdbkit import NOON, an_append, impression
from hypothesis import given
from hypothesis import strategies as st

from ledger.codec import UnreadableCommit, decode, decode_impression, encode
from ledger.eventstoredb_layout import Gatherer, Names, Written, drafts, ends_commit, nonce
from ledger.eventstoredb_look import CAUSES_MAX, STREAMS_MAX, Place, Places
from ledger.store import Commit

NAMES = Names("eu_1")
STREAMS = st.one_of(
    st.builds(impression, st.integers(0, 1 << 60)),
    st.text(min_size=1, max_size=30).filter(lambda name: not re.match(r"impression-|\d+~", name)),
)
CAUSE = b'"cause":"00000000-0000-0000-0000-000000000007"'
NOTES = [
    b"damaged",
    b'{"count":1,%s}' % CAUSE,
    b'{"count":1}',
    b'{"count":2,%s}' % CAUSE,
    b'{"count":2,"index":1}',
    b'{"count":3,"index":1}',
    b'{"count":3,"index":2}',
    b'{"count":0}',
    b'{"count":1,"index":5}',
    b'{"count":3,"index":-1}',
    b"\xff",
]


def written(append, *, first=1, segment=0, recorded_at=NOON):
    """The events of *append*, at positions from *first* on."""
    name, id_ = NAMES.of(append.stream, segment), nonce()
    return [
        Written(name, append.expected + at, first + at, id_ | at, draft.note, draft.data)
        for at, draft in enumerate(drafts(append, recorded_at))
    ]


def commit_of(append, position):
    return Commit(
        position=position,
        stream=append.stream,
        version=append.expected,
        count=len(append.events),
        cause=append.cause,
        digest=append.digest,
        recorded_at=NOON,
        data=encode(append.events),
    )


@given(st.lists(st.tuples(STREAMS, st.integers(0, 500), st.integers(1, 6), st.text(max_size=40)), max_size=8))
def test_events_gathered_in_order_are_the_commits_that_were_written(made):
    appends = [an_append(stream, expected, digest=digest, events=n) for stream, expected, n, digest in made]
    gatherer, found, wanted, position = Gatherer(NAMES), [], [], 1
    for append in appends:
        events = written(append, first=position)
        position += len(events)
        wanted.append(commit_of(append, position - 1))
        found += [commit for event in events if (commit := gatherer.add(event)) is not None]
        assert [ends_commit(event) for event in events] == [False] * (len(events) - 1) + [True]
    assert found == wanted


def test_streams_may_lie_between_each_other():
    one, two, gatherer = an_append(events=2), an_append("rejects-eu-1", events=2), Gatherer(NAMES)
    (a, b), (c, d) = written(one), written(two, first=10)
    assert [gatherer.add(event) for event in (a, c, d, b)] == [None, None, commit_of(two, 11), commit_of(one, 2)]


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_commit_without_its_beginning_or_middle_is_not_made_up(left_out):
    events = written(an_append(events=3))
    del events[left_out]
    *nothing, commit = map(Gatherer(NAMES).add, events)
    assert nothing == [None]
    assert (commit.position, commit.version + commit.count) == (3, 3)
    with pytest.raises(UnreadableCommit, match="beginning"):
        decode_impression(commit.data)


@pytest.mark.parametrize("note", [b"", b"no JSON", b"{}", b'{"count":1}'])
def test_what_others_wrote_is_not_taken_for_ours(note):
    commit = Gatherer(NAMES).add(Written("eu_1.foreign", 0, 1, 0, note, b"{}"))
    assert (commit.stream, commit.position) == ("foreign", 1)
    with pytest.raises(UnreadableCommit, match=r"eu_1\.foreign at 1"):
        decode(commit.data)


@given(st.lists(st.sampled_from(NOTES)))
def test_whatever_stands_there_whoever_reads_backwards_finds_as_many_commits(notes):
    events = [Written("eu_1.mixed", at, at, 0, note, b"{}") for at, note in enumerate(notes)]
    gatherer = Gatherer(NAMES)
    assert [gatherer.add(event) is not None for event in events] == [ends_commit(event) for event in events]


@pytest.mark.parametrize("name", ["impression-", "impression-1", "2~impression-x"])
def test_what_others_called_like_an_impression_is_none(name):
    assert NAMES.stream(f"eu_1.{name}") == name.removeprefix("2~")


@given(STREAMS, st.integers(0, 8))
def test_a_name_leads_back_to_its_stream_from_any_segment(stream, segment):
    name = NAMES.of(stream, segment)
    assert NAMES.stream(name) == stream
    assert re.search(NAMES.pattern(), name)
    assert not re.search(Names("eu_2").pattern(), name)
    own = f"impression-{stream}" if isinstance(stream, UUID) else stream
    assert re.search(NAMES.pattern(own), name)


def test_a_pattern_of_names_takes_all_segments_and_no_other_names():
    pattern = re.compile(NAMES.pattern("campaign-"))
    assert [bool(pattern.search(NAMES.of(name, n))) for name in ("campaign-a", "campaigns-a") for n in (0, 3)] == [
        True,
        True,
        False,
        False,
    ]
    assert not any(re.search(NAMES.pattern(), own) for own in (NAMES.days, NAMES.displaced, "eu_1", "xeu_1.campaign"))


@pytest.mark.parametrize("namespace", ["", "Eu", "eu.1", "$eu", "x" * 41, "eu/1"])
def test_a_namespace_is_plain(namespace):
    with pytest.raises(ValueError, match="namespace"):
        Names(namespace)


def test_ids_of_two_appends_differ_before_their_index():
    assert len({nonce() >> 16 for _ in range(100)}) == 100
    assert nonce() & 0xFFFF == 0


def test_what_is_remembered_of_streams_is_bounded():
    places = Places()
    for n in range(STREAMS_MAX + 10):
        places.advance(f"serves-{n}", uuid4(), Place(1), expected=0)
    assert places.get("serves-0", uuid4()) is None
    assert places.get(f"serves-{STREAMS_MAX + 9}", uuid4())[0] == Place(1)
    causes = [UUID(int=n) for n in range(CAUSES_MAX + 10)]
    for n, cause in enumerate(causes):
        places.advance("rejects-eu", cause, Place(n + 1), expected=n)
    place, known = places.get("rejects-eu", uuid4())
    assert (place.next, len(known)) == (CAUSES_MAX + 10, CAUSES_MAX)
    assert places.get("rejects-eu", causes[-1]) is None
    assert places.get("rejects-eu", causes[0]) is not None


def test_nothing_is_remembered_of_a_stream_whose_beginning_was_not_seen():
    places = Places()
    places.advance("rejects-eu", uuid4(), Place(9), expected=8)
    assert places.get("rejects-eu", uuid4()) is None


def test_a_slow_read_does_not_take_back_what_a_quick_one_has_seen():
    causes = [UUID(int=n) for n in range(3)]
    places = Places()
    places.put("rejects-eu", Place(2), dict.fromkeys(causes[:2]))
    places.put("rejects-eu", Place(1), dict.fromkeys(causes[:1]))
    places.advance("rejects-eu", causes[2], Place(3), expected=2)
    assert places.get("rejects-eu", uuid4()) == (Place(3), dict.fromkeys(causes))
    assert places.get("rejects-eu", causes[1]) is None


def test_an_append_to_more_than_is_known_leaves_what_lies_between_to_be_read():
    places = Places()
    places.put("rejects-eu", Place(1), {UUID(int=0): None})
    places.advance("rejects-eu", UUID(int=2), Place(3), expected=2)
    assert places.get("rejects-eu", UUID(int=1)) == (Place(1), {UUID(int=0): None})
