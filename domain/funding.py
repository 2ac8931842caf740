"""What stood behind the money of one decision. The events of an impression carry it, so this module knows none."""

from msgspec import Struct

from domain.standing import Standing
from domain.vocabulary import Rung


class Funding(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What a decision was made with, so that replaying it needs neither registry nor leases.

    `registry_version` is the version of the campaign (0: the registry knew none). `lease` labels the period of a gate's
    lease in which the money is reported. `lease_left_micros` is what the lease had before this render (None: no lease
    was asked): it paid if that was at least the price.
    """

    registry_version: int = 0
    lease: str = ""
    lease_left_micros: int | None = None
    rung: Rung = Rung.FULL


def committed_micros(standing: Standing | None) -> int:
    """Return what *standing* takes from a budget: billable, awaiting a view, or uncertain."""
    return 0 if standing is None else standing.billable_micros + standing.reserved_micros
