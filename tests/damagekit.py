"""Ledgers whose commits nobody can read, as a disk or a newer program would leave them."""

from dataclasses import replace as replace_

from msgspec.structs import replace

from ledger.codec import SCHEMA_VERSION, decode_impression, encode

DAMAGE = {
    "damaged bytes": lambda _: b"\x28\xb5\x2f\xfd damaged",
    "a newer schema": lambda data: data.replace(b"[%d" % SCHEMA_VERSION, b"[%d" % (SCHEMA_VERSION + 1), 1),
    "a torn append": lambda data: encode(decode_impression(data)[:2]),
    "a render alone": lambda data: encode(decode_impression(data)[:1]),
    "events that cannot follow": lambda data: encode(decode_impression(data)[1:]),
}


def damage(store, impression, how="damaged bytes"):
    """Damage the first commit of *impression* in *store*; return it as it was, for `mend`."""
    good = store._streams[impression][0]
    mend(store, replace(good, data=DAMAGE[how](good.data)))
    return good


def mend(store, commit):
    """Have *commit* stand at its position."""
    stream = store._streams[commit.stream]
    stream[:] = [commit if one.position == commit.position else one for one in stream]
    store._log[:] = [commit if one.position == commit.position else one for one in store._log]


def damage_note(log, name, at=0):
    """Damage the metadata of event *at* of stream *name* in *log*, a double of EventStoreDB's."""
    stream = log.stream(name)
    old = stream.records[at]
    stream.records[at] = new = replace_(old, event=replace_(old.event, metadata=b'{"count":damaged'))
    log.records[:] = [new if record is old else record for record in log.records]
