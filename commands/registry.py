"""
The gate's copy of the campaigns that it needs: loaded from their streams when first asked for, kept up by position.

A campaign costs 261 bytes (measured in benchmarks/campaigns.py). What nobody asked for lately is forgotten and loaded
again, so that memory is bounded whatever a cell's share of campaigns is.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from msgspec.structs import replace

from commands.campaigns import events_of, id_of, stream_of
from commands.generations import Generations
from commands.ledger_tails import LedgerTails
from domain.campaign import Campaign, Opened, evolve_campaign, fold_campaign
from domain.campaign_events import CampaignEvent
from ledger.codec import decode
from ledger.store import READ_MAX, Commit, EventStore, LedgerUnavailable

STALE_AFTER_S = 60.0
"""What an older copy says against an impression is not decided on."""
UNKNOWN_MAX = 65_536
_PAGE = 1_000
_LOADED_TOGETHER_MAX = 500


class Registry:
    """
    Campaigns in memory, of one event loop. `clock` is monotonic, in seconds.

    `look` answers from memory alone; `load` must have been awaited for what is not at hand; `follow` is to be awaited
    about twice a second. While *is_barred* it behaves as if the ledger could not be asked.
    """

    def __init__(
        self,
        store: EventStore,
        tails: LedgerTails,
        *,
        campaigns_max: int,
        clock: Callable[[], float],
        is_barred: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._tails = tails
        self._clock = clock
        self._is_barred = is_barred
        self._known: Generations[str, Campaign] = Generations(campaigns_max)
        self.look: Callable[[str], Campaign | None] = self._known.get
        """Returns a campaign as this copy has it, None if it is not at hand."""
        self._unknown: Generations[str, bool] = Generations(UNKNOWN_MAX)
        self._position: int | None = None
        self._fresh_at: float | None = None
        self._changed_while_loading: list[set[str]] = []
        self._words: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def age_s(self) -> float:
        """How old the copy is at most; infinite until it was followed for the first time."""
        return float("inf") if self._fresh_at is None else self._clock() - self._fresh_at

    @property
    def is_stale(self) -> bool:
        return self.age_s > STALE_AFTER_S or self._is_barred()

    def missing(self, campaigns: Iterable[str]) -> list[str]:
        """Return those of *campaigns* of which it is not known whether there is one."""
        return [one for one in campaigns if self._known.get(one) is None and self._unknown.get(one) is None]

    async def load(self, campaigns: Sequence[str]) -> None:
        """
        Read the streams of *campaigns*; afterwards `look` knows them, or that there is none.

        Raises:
            LedgerUnavailable: the store did not answer; those not read yet stay missing.
        """
        if self._is_barred():
            raise LedgerUnavailable("a drill: as if the registry could not be reached")
        if self._position is None:
            await self.follow()
        for at in range(0, len(campaigns), _LOADED_TOGETHER_MAX):
            await self._load(campaigns[at : at + _LOADED_TOGETHER_MAX])

    async def follow(self) -> int:
        """
        Apply what has changed since, and return how many changes that were.

        Raises:
            LedgerUnavailable: the store did not answer; the copy is as old as it is.
        """
        began, applied = self._clock(), 0
        if self._position is None:
            self._position = await self._store.head()
        while True:
            looked = await self._tails.campaigns(self._position, _PAGE)
            for commit in looked.commits:
                self._apply(commit)
                self._position = commit.position
            self._position = looked.through
            applied += len(looked.commits)
            if len(looked.commits) < _PAGE:
                self._fresh_at = began
                return applied

    async def _load(self, campaigns: Sequence[str]) -> None:
        """What changes while the streams are read is left to the next look, for nobody knows which came first."""
        changed: set[str] = set()
        self._changed_while_loading.append(changed)
        try:
            found = await self._store.read_streams([stream_of(one) for one in campaigns], READ_MAX)
        finally:
            self._changed_while_loading.remove(changed)
        for one in campaigns:
            if one in changed:
                continue
            commits = found.get(stream_of(one))
            if commits is None:
                self._unknown.put(one, True)
                continue
            state = fold_campaign(one, events_of(commits))
            assert isinstance(state, Opened)
            self._known.put(one, self._slim(state.campaign))

    def _apply(self, commit: Commit) -> None:
        id_ = id_of(commit.stream)
        assert id_ is not None
        for changed in self._changed_while_loading:
            changed.add(id_)
        self._unknown.pop(id_)
        campaign = self._known.get(id_)
        if campaign is None or commit.version < campaign.version:
            return
        if commit.version > campaign.version:
            self._known.pop(id_)
            return
        for event in decode(commit.data):
            campaign = evolve_campaign(campaign, cast("CampaignEvent", event))
        self._known.put(id_, campaign)

    def _slim(self, campaign: Campaign) -> Campaign:
        """Words that many campaigns share stand in memory once; the gate does not need the rest."""
        return replace(
            campaign,
            advertiser="",
            account="",
            currency=self._words.setdefault(campaign.currency, campaign.currency),
            time_zone=self._words.setdefault(campaign.time_zone, campaign.time_zone),
            viewability_pack=self._words.setdefault(campaign.viewability_pack, campaign.viewability_pack),
            opened_at=0,
            changed_at=0,
        )
