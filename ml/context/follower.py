"""Takes in what the ledger says of persons and publishers, as it goes."""

from ledger.codec import UnreadableCommit, decode_impression
from ledger.following import Followed, Page
from ledger.store import READ_MAX, Commit, EventStore
from ml.context.facts import facts_of, is_labelled, last_decided, person_of
from ml.context.store import LaterStore

STREAMS_MAX = 100
"""Streams of labelled impressions in one read."""


class LaterFollower:
    """A `Follower`. Labels do not say of whom they are: the streams of *ledger* do."""

    def __init__(self, ledger: EventStore, store: LaterStore) -> None:
        self._ledger = ledger
        self._store = store

    async def followed(self) -> Followed:
        return await self._store.followed()

    async def take(self, page: Page) -> None:
        labelled = sorted({one.impression for one in page.seen if is_labelled(one)})
        people = {}
        for start in range(0, len(labelled), STREAMS_MAX):
            chunk = labelled[start : start + STREAMS_MAX]
            for impression, commits in (await self._ledger.read_streams(chunk, READ_MAX)).items():
                person = _person(commits)
                if person is not None:
                    assert not isinstance(impression, str)
                    people[impression] = person
        await self._store.take(page, facts_of(page, people))


def _person(commits: list[Commit]) -> int | None:
    """Return the person of the last render that was decided, of those that can be read."""
    person = None
    for commit in commits:
        try:
            decided = last_decided(decode_impression(commit.data))
        except UnreadableCommit:
            continue
        if decided is not None:
            person = person_of(decided.rendered)
    return person
