"""The journal: what it acknowledges is on disk; what is torn is cut, damage is told, too much is refused."""

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoolkit import FailingDisk

from ledger.spool import (
    DISK_RESERVE,
    Spool,
    SpoolBroken,
    SpoolDiskFull,
    SpoolFull,
    SpoolRefused,
    cut_tail,
    read_segment,
    segments_of,
)
from ledger.spool_frames import FRAME_MAX, FrameTooLarge, frame, scan
from ledger.spool_owners import DAMAGED, adopt, damaged, folders, own_new

PAYLOADS = [b"first " * 9, b"second " * 11, b"third " * 7]


def a_spool(folder, **kept):
    return Spool(folder, **{"max_bytes": 1 << 20, **kept})


def write_all(spool, payloads):
    async def main():
        for payload in payloads:
            await spool.write(payload)

    asyncio.run(main())


def read_all(folder):
    return [payload for path in segments_of(folder) for payload in read_segment(path).payloads()]


def test_what_is_written_is_read_in_order_across_segments(tmp_path):
    spool = a_spool(tmp_path, segment_max=60)
    write_all(spool, PAYLOADS)
    assert spool.segments == len(segments_of(tmp_path)) > 1
    assert read_all(tmp_path) == PAYLOADS
    assert spool.size == sum(path.stat().st_size for path in segments_of(tmp_path))


def test_one_batch_costs_one_fsync(tmp_path):
    disk = FailingDisk()
    write_all(a_spool(tmp_path, disk=disk), PAYLOADS)
    assert disk.syncs == len(PAYLOADS)


def test_a_segment_torn_at_any_byte_keeps_the_batches_before_it(tmp_path):
    spool = a_spool(tmp_path)
    write_all(spool, PAYLOADS)
    [path] = segments_of(tmp_path)
    whole = path.read_bytes()
    ends = [found.end for found in scan(whole).frames]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        segment = read_segment(path)
        kept = sum(end <= size for end in ends)
        assert list(segment.payloads()) == PAYLOADS[:kept]
        assert not segment.scan.is_damaged
        cut_tail(segment)
        assert read_segment(path).scan.torn_bytes == 0
        assert list(read_segment(path).payloads()) == PAYLOADS[:kept]


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"ILS1" * 40, os.urandom(0) + bytes(range(256))])
def test_garbage_after_the_last_batch_is_a_torn_tail(garbage):
    data = b"".join(frame(at, payload) for at, payload in enumerate(PAYLOADS))
    found = scan(data + garbage)
    assert (len(found.frames), found.torn_bytes, found.is_damaged) == (3, len(garbage), False)


def test_every_changed_byte_before_the_last_batch_is_told_and_costs_one_batch():
    frames = [frame(at, payload) for at, payload in enumerate(PAYLOADS)]
    data = b"".join(frames)
    for at in range(len(data) - len(frames[-1])):
        changed = bytearray(data)
        changed[at] ^= 0x41
        found = scan(bytes(changed))
        assert found.is_damaged
        assert [one.number for one in found.frames] == ([1, 2] if at < len(frames[0]) else [0, 2])


def test_a_batch_that_was_cut_out_is_told():
    data = frame(1, PAYLOADS[0]) + frame(3, PAYLOADS[2])
    found = scan(data)
    assert (found.gaps, found.is_damaged, found.damage) == (1, True, [])


@given(
    st.lists(st.binary(max_size=60), max_size=6),
    st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=9)), max_size=4),
)
def test_no_damage_makes_up_a_batch_or_changes_one(payloads, wounds):
    data = bytearray(b"".join(frame(at, payload) for at, payload in enumerate(payloads)))
    for at, wound in wounds:
        data[at : at + len(wound)] = wound
    for found in scan(bytes(data)).frames:
        assert bytes(data[found.start : found.end]) == frame(found.number, payloads[found.number])


@pytest.mark.parametrize("torn", [0, 1, 19, 25])
@pytest.mark.parametrize("fails", [{"write"}, {"write", "cut"}])
def test_a_write_that_fails_is_refused_and_leaves_nothing(tmp_path, torn, fails):
    disk = FailingDisk()
    spool = a_spool(tmp_path, disk=disk)
    write_all(spool, PAYLOADS[:1])
    disk.fails, disk.torn = fails, torn
    with pytest.raises(SpoolBroken):
        write_all(spool, PAYLOADS[1:2])
    disk.fails = set()
    write_all(spool, PAYLOADS[2:])
    assert read_all(tmp_path) == [PAYLOADS[0], PAYLOADS[2]]


def test_what_the_disk_did_not_confirm_is_refused_and_taken_back(tmp_path):
    disk = FailingDisk()
    spool = a_spool(tmp_path, disk=disk)
    write_all(spool, PAYLOADS[:1])
    disk.fails = {"sync"}
    with pytest.raises(SpoolBroken):
        write_all(spool, PAYLOADS[1:2])
    assert read_all(tmp_path) == PAYLOADS[:1]


def test_a_full_spool_refuses_and_takes_again_when_some_of_it_is_done(tmp_path):
    spool = a_spool(tmp_path, max_bytes=100)
    write_all(spool, PAYLOADS[:1])
    with pytest.raises(SpoolFull, match="may hold 100"):
        write_all(spool, [os.urandom(100)])
    assert read_all(tmp_path) == PAYLOADS[:1]
    for path in asyncio.run(spool.seal()):
        spool.done(path)
    assert spool.size == 0
    write_all(spool, PAYLOADS[1:2])
    assert read_all(tmp_path) == PAYLOADS[1:2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_refuses_and_says_so(tmp_path, number):
    disk = FailingDisk()
    disk.fails, disk.number, disk.torn = {"write"}, number, 7
    with pytest.raises(SpoolDiskFull):
        write_all(a_spool(tmp_path, disk=disk), PAYLOADS[:1])
    assert read_all(tmp_path) == []


def test_the_last_of_a_disk_is_left_to_others(tmp_path):
    disk = FailingDisk()
    spool = a_spool(tmp_path, disk=disk)
    disk.free = DISK_RESERVE
    assert not spool.has_room
    with pytest.raises(SpoolDiskFull):
        write_all(spool, PAYLOADS[:1])
    disk.free = DISK_RESERVE + 1_000
    assert spool.has_room
    write_all(spool, PAYLOADS[:1])


def test_a_folder_that_is_gone_refuses(tmp_path):
    folder = tmp_path / "gone"
    spool = a_spool(folder)
    assert not spool.has_room
    with pytest.raises(SpoolRefused):
        write_all(spool, PAYLOADS[:1])
    assert segments_of(folder) == []


def test_a_frame_has_bounds():
    with pytest.raises(FrameTooLarge):
        frame(1, bytes(FRAME_MAX + 1))


def test_what_no_frame_takes_is_refused_with_all_of_its_batch(tmp_path):
    spool = a_spool(tmp_path)
    with pytest.raises(SpoolRefused, match="more than"):
        asyncio.run(spool.write(PAYLOADS[0], bytes(FRAME_MAX + 1)))
    assert (spool.size, read_all(tmp_path)) == (0, [])
    write_all(spool, PAYLOADS[1:])
    assert read_all(tmp_path) == PAYLOADS[1:]


def test_a_batch_of_several_frames_is_in_one_segment_each_on_disk_before_the_next(tmp_path):
    disk = FailingDisk()
    spool = a_spool(tmp_path, segment_max=60, disk=disk)
    asyncio.run(spool.write(*PAYLOADS))
    [path] = segments_of(tmp_path)
    assert [found.number for found in read_segment(path).scan.frames] == [1, 2, 3]
    assert disk.syncs == 3
    write_all(spool, PAYLOADS[:1])
    assert read_segment(segments_of(tmp_path)[-1]).first == 4


@pytest.mark.parametrize("fails", ["write", "sync"])
def test_a_batch_of_which_a_later_frame_fails_is_refused_and_leaves_nothing(tmp_path, fails):
    disk = FailingDisk()
    spool = a_spool(tmp_path, disk=disk)
    write_all(spool, PAYLOADS[:1])
    sync = disk.sync

    def sync_once(file):
        sync(file)
        disk.fails, disk.sync = {fails}, sync

    disk.sync, disk.torn = sync_once, 9
    with pytest.raises(SpoolBroken):
        asyncio.run(spool.write(*PAYLOADS))
    disk.fails = set()
    write_all(spool, PAYLOADS[1:])
    assert read_all(tmp_path) == PAYLOADS


def test_nothing_is_acknowledged_in_a_file_whose_name_may_be_lost(tmp_path):
    disk = FailingDisk()
    spool = a_spool(tmp_path, disk=disk)
    disk.fails = {"sync_folder"}
    with pytest.raises(SpoolBroken):
        asyncio.run(spool.write(PAYLOADS[0]))
    assert (spool.size, spool.segments, segments_of(tmp_path)) == (0, 0, [])
    disk.fails = set()
    write_all(spool, PAYLOADS)
    assert (disk.synced_folders, read_all(tmp_path)) == (2, PAYLOADS)


class HeldDisk(FailingDisk):
    """Syncs no file before it is `let_go`; `asked` once one is to be synced."""

    def __init__(self):
        super().__init__()
        self.asked, self.let_go = Event(), Event()

    def sync(self, file):
        self.asked.set()
        self.let_go.wait()
        super().sync(file)


@pytest.mark.parametrize("next_", ["write", "close"])
def test_a_batch_whose_sender_is_gone_harms_none_after_it(tmp_path, next_):
    async def main():
        disk = HeldDisk()
        spool = a_spool(tmp_path, disk=disk)
        gone = asyncio.create_task(spool.write(PAYLOADS[0]))
        await asyncio.to_thread(disk.asked.wait)
        gone.cancel()
        await asyncio.wait([gone])
        after = asyncio.create_task(spool.write(*PAYLOADS[1:]) if next_ == "write" else spool.close())
        await asyncio.sleep(0)
        disk.let_go.set()
        await after

    asyncio.run(main())
    assert read_all(tmp_path) == (PAYLOADS if next_ == "write" else PAYLOADS[:1])


def test_a_closed_spool_leaves_what_is_not_done(tmp_path):
    spool = a_spool(tmp_path)
    write_all(spool, PAYLOADS)
    asyncio.run(spool.close())
    assert read_all(tmp_path) == PAYLOADS


def test_the_spool_of_a_living_process_is_not_adopted(tmp_path):
    mine = own_new(tmp_path)
    assert adopt(tmp_path) == []
    mine.release()
    assert folders(tmp_path) == []


def test_the_spool_of_a_dead_process_is_adopted_once(tmp_path):
    dead = own_new(tmp_path)
    write_all(a_spool(dead.folder), PAYLOADS)
    os.close(dead._lock)
    [orphan] = adopt(tmp_path)
    assert orphan.owner == dead.owner
    assert read_all(orphan.folder) == PAYLOADS
    assert adopt(tmp_path) == []
    orphan.release()
    assert folders(tmp_path) == [orphan.folder]
    [again] = adopt(tmp_path)
    for path in again.segments():
        path.unlink()
    again.release()
    assert folders(tmp_path) == []


def test_folders_that_are_no_spools_are_left_as_they_are(tmp_path):
    for name in ("lost+found", "keys", "postgres/base"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "keys" / "root.json").write_text("{}")
    assert adopt(tmp_path) == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "base", "guard", "keys", "lost+found", "postgres", "root.json",
    ]  # fmt: skip


def test_what_else_lies_in_a_spool_s_folder_is_not_deleted_with_it(tmp_path):
    mine = own_new(tmp_path)
    (mine.folder / "notes").write_text("of an operator")
    mine.release()
    assert [path.name for path in mine.folder.iterdir()] == ["notes"]
    assert adopt(tmp_path) == []


def test_a_folder_that_cannot_be_locked_holds_up_no_other_spool(tmp_path):
    dead = own_new(tmp_path)
    write_all(a_spool(dead.folder), PAYLOADS)
    os.close(dead._lock)
    (tmp_path / "strange" / "owner").mkdir(parents=True)
    (tmp_path / "strange" / "00000001.segment").touch()
    [orphan] = adopt(tmp_path)
    assert orphan.owner == dead.owner
    with pytest.raises(OSError, match="owner"):
        adopt(tmp_path)


def test_spools_may_be_given_up_while_others_look_for_dead_ones(tmp_path):
    with ThreadPoolExecutor() as threads:
        given_up = [threads.submit(lambda: [own_new(tmp_path).release() for _ in range(50)]) for _ in range(2)]
        while not all(one.done() for one in given_up):
            assert adopt(tmp_path) == []
        assert [one.exception() for one in given_up] == [None, None]
    assert folders(tmp_path) == []


def test_there_is_nothing_to_adopt_before_the_first_gate_ran(tmp_path):
    assert adopt(tmp_path / "none") == []
    assert folders(tmp_path / "none") == []


def test_a_segment_that_is_set_aside_is_counted_and_adopted_by_nobody(tmp_path):
    mine = own_new(tmp_path)
    spool = a_spool(mine.folder)
    write_all(spool, PAYLOADS)
    [path] = asyncio.run(spool.seal())
    moved = spool.set_aside(path, tmp_path / DAMAGED)
    assert moved.read_bytes()
    assert damaged(tmp_path) == [moved]
    assert (spool.size, folders(tmp_path)) == (0, [mine.folder])
