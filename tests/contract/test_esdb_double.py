"""
The double behaves as the client's own published tests say that the server does; asked by the public client.

Each test holds the essence of one or several of those cases for appending, reading, subscribing, deleting and errors.
"""

from contextlib import closing
from uuid import uuid4

import pytest
from esdb_double import Cluster, Fault, Node, script

pytest.importorskip("esdbclient", reason="its successor calls the public client and its errors otherwise")

from esdbclient import CaughtUp, Checkpoint, EventStoreDBClient, NewEvent, StreamState
from esdbclient.exceptions import (
    GrpcDeadlineExceeded,
    NodeIsNotLeader,
    NotFound,
    ServiceUnavailable,
    StreamIsDeleted,
    WrongCurrentVersion,
)

pytestmark = pytest.mark.slow
NOTHING, ANY, EXISTS = StreamState.NO_STREAM, StreamState.ANY, StreamState.EXISTS


@pytest.fixture(scope="module")
def node():
    with Node() as one:
        yield one


@pytest.fixture
def client(node):
    with closing(EventStoreDBClient(node.url)) as one:
        yield one
    # Of a client that tries twice, a busy machine may see one try: what is left must not meet the next test.
    node.append_faults = node.read_faults = script([])


def an_event(type_="OrderCreated"):
    return NewEvent(type=type_, data=b'{"a":1}', metadata=b'{"m":2}')


def some_events(count=3):
    return [an_event(f"Order{n}") for n in range(count)]


def ids(events):
    return [event.id for event in events]


def test_a_recorded_event_has_the_attributes_of_the_new_one(client):
    event, stream = an_event(), str(uuid4())
    position = client.append_to_stream(stream, current_version=NOTHING, events=event)
    [found] = client.get_stream(stream)
    assert (found.type, found.data, found.metadata, found.content_type) == (
        event.type,
        event.data,
        event.metadata,
        event.content_type,
    )
    assert (found.id, found.stream_name, found.stream_position) == (event.id, stream, 0)
    assert found.commit_position == position == client.get_commit_position()
    assert found.recorded_at is not None


def test_versions_are_checked_for_one_event_and_for_several(client):
    stream = str(uuid4())
    with pytest.raises(WrongCurrentVersion, match="does not exist"):
        client.append_to_stream(stream, current_version=1, events=an_event())
    with pytest.raises(WrongCurrentVersion, match="does not exist"):
        client.append_to_stream(stream, current_version=1, events=some_events())
    client.append_to_stream(stream, current_version=NOTHING, events=some_events())
    for wrong in (NOTHING, 0, 1, 10):
        for events in (an_event(), some_events()):
            with pytest.raises(WrongCurrentVersion, match="last event is 2"):
                client.append_to_stream(stream, current_version=wrong, events=events)
    client.append_to_stream(stream, current_version=2, events=an_event())
    assert client.get_current_version(stream) == 3


def test_any_version_and_an_existing_stream_may_be_expected(client):
    stream = str(uuid4())
    for events in (an_event(), some_events(2)):
        with pytest.raises(WrongCurrentVersion):
            client.append_to_stream(stream, current_version=EXISTS, events=events)
    first = client.append_to_stream(stream, current_version=ANY, events=an_event())
    second = client.append_to_stream(stream, current_version=ANY, events=some_events(2))
    third = client.append_to_stream(stream, current_version=EXISTS, events=an_event())
    assert first < second < third == client.get_commit_position()
    assert [event.stream_position for event in client.get_stream(stream)] == [0, 1, 2, 3]


def test_each_event_of_an_append_has_a_position_and_the_last_ones_is_answered(client):
    before, stream = client.get_commit_position(), str(uuid4())
    position = client.append_to_stream(stream, current_version=NOTHING, events=some_events())
    positions = [event.commit_position for event in client.get_stream(stream)]
    assert before < positions[0] < positions[1] < positions[2] == position


def test_the_same_ids_at_the_same_version_succeed_at_the_old_position_and_write_nothing(client):
    stream, (one, two, three, four) = str(uuid4()), some_events(4)
    at_one = client.append_to_stream(stream, current_version=NOTHING, events=one)
    at_two = client.append_to_stream(stream, current_version=0, events=two)
    at_three = client.append_to_stream(stream, current_version=1, events=three)
    for expected, events, position in (
        (NOTHING, one, at_one),
        (0, two, at_two),
        (1, three, at_three),
        (NOTHING, [one, two], at_two),
        (0, [two, three], at_three),
        (ANY, [one, two], at_two),
        (EXISTS, three, at_three),
    ):
        assert client.append_to_stream(stream, current_version=expected, events=events) == position
    for expected in (0, ANY):
        with pytest.raises(WrongCurrentVersion):
            client.append_to_stream(stream, current_version=expected, events=[two, three, four])
    assert ids(client.get_stream(stream)) == ids([one, two, three])


def test_only_ids_are_compared_and_only_where_they_are_expected(client):
    stream, event = str(uuid4()), an_event()
    position = client.append_to_stream(stream, current_version=NOTHING, events=event)
    other = NewEvent(type="Other", data=b"other", id=event.id)
    assert client.append_to_stream(stream, current_version=NOTHING, events=other) == position
    assert client.get_stream(stream)[0].data == event.data
    client.append_to_stream(stream, current_version=0, events=other)
    assert [found.data for found in client.get_stream(stream)] == [event.data, b"other"]


def test_a_stream_is_read_in_both_directions_from_anywhere_within_a_limit(client):
    stream, events = str(uuid4()), some_events(5)
    client.append_to_stream(stream, current_version=NOTHING, events=events)
    want = ids(events)
    for arguments, expected in (
        ({}, want),
        ({"backwards": True}, want[::-1]),
        ({"stream_position": 1}, want[1:]),
        ({"stream_position": 1, "backwards": True}, want[1::-1]),
        ({"stream_position": 0, "backwards": True}, want[:1]),
        ({"limit": 2}, want[:2]),
        ({"limit": 2, "backwards": True}, want[:2:-1]),
        ({"stream_position": 2, "limit": 1}, want[2:3]),
        ({"stream_position": 9}, []),
    ):
        assert ids(client.get_stream(stream, **arguments)) == expected
    with pytest.raises(NotFound):
        client.get_stream(str(uuid4()))
    assert client.get_current_version(str(uuid4())) is NOTHING


def test_everything_is_read_forwards_with_what_is_at_the_position_and_backwards_without(client):
    one, two = some_events(), some_events()
    first = client.append_to_stream(str(uuid4()), current_version=NOTHING, events=one)
    second = client.append_to_stream(str(uuid4()), current_version=NOTHING, events=two)
    want = ids([*one, *two])
    assert ids(client.read_all())[-6:] == want
    assert ids(client.read_all(backwards=True))[:6] == want[::-1]
    assert ids(client.read_all(commit_position=first)) == want[2:]
    assert ids(client.read_all(commit_position=second)) == want[5:]
    assert ids(client.read_all(commit_position=first, backwards=True))[:2] == want[1::-1]
    assert ids(client.read_all(commit_position=second, backwards=True, limit=3)) == want[4:1:-1]
    assert ids(client.read_all(commit_position=first, limit=3)) == want[2:5]
    with pytest.raises(Exception, match="invalid position"):
        list(client.read_all(commit_position=first + 1))


def test_filters_take_and_leave_types_and_streams_by_anchored_patterns(client):
    prefix, types = str(uuid4()), ["OrderCreated", "OrderUpdated", "InvoiceCreated", "SomethingElse"]
    position = client.append_to_stream(prefix + "-0", current_version=NOTHING, events=an_event("First"))
    for n, type_ in enumerate(types, 1):
        client.append_to_stream(f"{prefix}-{n}", current_version=NOTHING, events=an_event(type_))

    def found(**arguments):
        return [event.type for event in client.read_all(commit_position=position, **arguments)]

    assert found(filter_include="Order") == found(filter_include="Created") == []
    assert found(filter_include="Order.*") == types[:2]
    assert found(filter_include=["OrderUpdated", "SomethingElse"]) == [types[1], types[3]]
    assert found(filter_include=".*Created") == [types[0], types[2]]
    assert found(filter_exclude=[r"\$.+", "Order.*", "First"]) == types[2:]
    assert found(filter_exclude=[r"\$.+", "Order", "First"]) == types
    assert found(filter_include=f"{prefix}-[12]", filter_by_stream_name=True) == types[:2]
    assert found(filter_exclude=[f"{prefix}-[0-3]"], filter_by_stream_name=True) == types[3:]
    assert next(iter(client.read_all(filter_exclude=[]))).type.startswith("$")


def test_a_read_can_be_stopped_and_has_a_deadline(client, node):
    client.append_to_stream(str(uuid4()), current_version=NOTHING, events=some_events())
    response = client.read_all()
    response.stop()
    assert list(response) == []
    node.read_faults = lambda _: Fault.LOST_BEFORE
    with pytest.raises(GrpcDeadlineExceeded):
        list(client.read_all(timeout=0.05))
    node.read_faults = script([])


def test_an_append_has_a_deadline_and_a_late_one_may_have_happened(client, node):
    lost, written = str(uuid4()), str(uuid4())
    node.append_faults = script([Fault.LOST_BEFORE] * 2)
    with pytest.raises(GrpcDeadlineExceeded):
        client.append_to_stream(lost, current_version=NOTHING, events=some_events(), timeout=0.05)
    with pytest.raises(NotFound):
        client.get_stream(lost)
    node.append_faults = script([Fault.LOST_AFTER] * 2)
    with pytest.raises(GrpcDeadlineExceeded):
        client.append_to_stream(written, current_version=NOTHING, events=some_events(), timeout=0.05)
    assert len(client.get_stream(written)) == 3


def test_a_broken_connection_is_unavailable_and_a_second_try_finds_the_first_ones_write(client, node):
    stream, events = str(uuid4()), some_events()
    node.append_faults = script([Fault.UNAVAILABLE] * 4)
    with pytest.raises(ServiceUnavailable):
        client.append_to_stream(stream, current_version=NOTHING, events=events)
    node.append_faults = script([Fault.BROKEN_AFTER])
    assert client.append_to_stream(stream, current_version=NOTHING, events=events) == client.get_commit_position()
    assert ids(client.get_stream(stream)) == ids(events)


def test_a_deleted_stream_is_not_found_and_goes_on_where_it_was(client):
    stream, (one, two, three, four) = str(uuid4()), some_events(4)
    with pytest.raises(NotFound):
        client.delete_stream(stream, current_version=ANY)
    client.append_to_stream(stream, current_version=NOTHING, events=[one, two])
    with pytest.raises(WrongCurrentVersion):
        client.delete_stream(stream, current_version=0)
    for _ in range(2):
        client.delete_stream(stream, current_version=1)
    with pytest.raises(StreamIsDeleted):
        client.delete_stream(stream, current_version=EXISTS)
    with pytest.raises(WrongCurrentVersion):
        client.delete_stream(stream, current_version=0)
    with pytest.raises(NotFound):
        client.get_stream(stream)
    assert client.get_current_version(stream) is NOTHING
    with pytest.raises(WrongCurrentVersion):
        client.append_to_stream(stream, current_version=0, events=[three, four])
    client.append_to_stream(stream, current_version=NOTHING, events=three)
    assert client.get_current_version(stream) == 2
    client.append_to_stream(stream, current_version=2, events=four)
    assert ids(client.get_stream(stream)) == ids([three, four])
    client.delete_stream(stream, current_version=EXISTS)
    with pytest.raises(NotFound):
        client.get_stream(stream)


def test_a_tombstone_is_for_ever(client):
    stream = str(uuid4())
    with pytest.raises(NotFound):
        client.tombstone_stream(stream, current_version=EXISTS)
    client.append_to_stream(stream, current_version=NOTHING, events=some_events(2))
    with pytest.raises(WrongCurrentVersion):
        client.tombstone_stream(stream, current_version=0)
    client.tombstone_stream(stream, current_version=1)
    for version in (1, 2, ANY, NOTHING):
        with pytest.raises(StreamIsDeleted):
            client.tombstone_stream(stream, current_version=version)
    for ask in (client.get_stream, client.get_current_version):
        with pytest.raises(StreamIsDeleted):
            ask(stream)
    for events in (some_events(), some_events(1)):
        with pytest.raises(StreamIsDeleted):
            client.append_to_stream(stream, current_version=1, events=events)
    never = str(uuid4())
    client.tombstone_stream(never, current_version=ANY)
    with pytest.raises(StreamIsDeleted):
        client.append_to_stream(never, current_version=NOTHING, events=some_events())


def test_metadata_of_a_stream_are_kept_and_limit_what_is_read(client):
    stream = str(uuid4())
    assert client.get_stream_metadata(stream) == ({}, NOTHING)
    events = some_events(5)
    client.append_to_stream(stream, current_version=NOTHING, events=events)
    client.set_stream_metadata(stream, metadata={"$maxCount": 2}, current_version=NOTHING)
    assert client.get_stream_metadata(stream) == ({"$maxCount": 2}, 0)
    assert ids(client.get_stream(stream)) == ids(events[3:])


def test_a_subscription_gives_what_was_then_says_so_then_what_comes(client):
    stream, old, new = str(uuid4()), some_events(), some_events()
    client.append_to_stream(stream, current_version=NOTHING, events=old)
    with client.subscribe_to_stream(stream, include_caught_up=True) as subscription:
        assert ids(next(subscription) for _ in range(3)) == ids(old)
        assert isinstance(next(subscription), CaughtUp)
        client.append_to_stream(stream, current_version=2, events=new)
        assert ids(next(subscription) for _ in range(3)) == ids(new)
    with client.subscribe_to_stream(stream, stream_position=2) as subscription:
        assert ids(next(subscription) for _ in range(3)) == ids(new)
    with client.subscribe_to_all(commit_position=client.get_stream(stream)[2].commit_position) as subscription:
        assert ids(next(subscription) for _ in range(3)) == ids(new)


def test_a_subscription_from_the_end_gives_what_comes_only(client):
    with (
        client.subscribe_to_all(from_end=True, include_caught_up=True) as everything,
        client.subscribe_to_stream("from-end", from_end=True, include_caught_up=True) as stream,
    ):
        assert isinstance(next(everything), CaughtUp)
        assert isinstance(next(stream), CaughtUp)
        event = an_event()
        client.append_to_stream("from-end", current_version=ANY, events=event)
        assert next(everything).id == next(stream).id == event.id


def test_checkpoints_come_where_everything_is_left_out(client):
    client.append_to_stream(str(uuid4()), current_version=NOTHING, events=some_events())
    with client.subscribe_to_all(
        filter_exclude=".*", include_checkpoints=True, window_size=1, checkpoint_interval_multiplier=1
    ) as subscription:
        first = next(subscription)
        assert isinstance(first, Checkpoint)
        assert first.commit_position in {event.commit_position for event in client.read_all(filter_exclude=[])}


def test_who_resumes_from_the_checkpoint_at_the_tail_misses_an_event(client, node):
    client.append_to_stream(str(uuid4()), current_version=NOTHING, events=some_events())
    with client.subscribe_to_all(include_checkpoints=True, window_size=10_000, timeout=10) as subscription:
        checkpoint = next(one for one in subscription if isinstance(one, Checkpoint))
        assert checkpoint.commit_position > client.get_commit_position(filter_exclude=[])
        missed, seen = an_event(), an_event()
        position = client.append_to_stream(str(uuid4()), current_version=NOTHING, events=missed)
        assert position == checkpoint.commit_position
        client.append_to_stream(str(uuid4()), current_version=NOTHING, events=seen)
        with client.subscribe_to_all(commit_position=checkpoint.commit_position) as resumed:
            assert next(resumed).id == seen.id
        assert next(subscription).id == missed.id
    node.tail_checkpoint = False
    with client.subscribe_to_all(include_checkpoints=True, include_caught_up=True, window_size=10_000) as subscription:
        until = next(one for one in subscription if isinstance(one, Checkpoint | CaughtUp))
        assert isinstance(until, CaughtUp)
    node.tail_checkpoint = True


def test_a_cluster_is_gossiped_about_and_its_leader_found_and_found_again():
    with Cluster() as cluster:
        with closing(EventStoreDBClient(cluster.url)) as client:
            first = str(uuid4())
            client.append_to_stream(first, current_version=NOTHING, events=some_events())
            cluster.elect(2)
            client.append_to_stream(first, current_version=2, events=some_events())
            assert client.connection_target.endswith(str(cluster.nodes[2].port))
            assert len(client.get_stream(first)) == 6
        with closing(EventStoreDBClient(cluster.url + "&NodePreference=follower")) as client:
            assert not client.connection_target.endswith(str(cluster.nodes[2].port))
            assert len(client.get_stream(first)) == 6
            with pytest.raises(NodeIsNotLeader):
                client.append_to_stream(first, current_version=5, events=an_event())


def test_more_than_the_server_takes_is_refused_whole(client):
    stream = str(uuid4())
    events = [NewEvent(type="Large", data=b"x" * 600_000) for _ in range(2)]
    with pytest.raises(Exception, match=r"1048576"):
        client.append_to_stream(stream, current_version=NOTHING, events=events)
    with pytest.raises(NotFound):
        client.get_stream(stream)
