"""What a campaign spent and may still spend, put together of what is decided, in flight, and leased by gates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from projections.in_flight import MinuteInFlight


class CurrencyPace(Struct, frozen=True, kw_only=True):
    """
    What a campaign spent in one currency, in micros: delivery throttles on spent + reserved.

    reserved = in flight (served, neither rendered nor too late to render) + uncertain (waits for a decision) + awaiting
    view. What it will have spent of all that is served by now is between `spend_low_micros` and `spend_high_micros`.
    `overshoot_bound_micros` = in flight + uncertain + leased: what may still be added without another serve, or by
    gates that hold `leased_micros` of the budget and have not said what became of it.
    """

    currency: str
    gross: int
    net: int
    undecided: int
    spent_micros: int
    reserved_micros: int
    in_flight_ads: int
    in_flight_micros: int
    uncertain_micros: int
    awaiting_view_micros: int
    spend_low_micros: int
    spend_high_micros: int
    leased_micros: int
    overshoot_bound_micros: int


def paces_of(
    rows: Sequence[tuple[Any, ...]], under_way: Sequence[MinuteInFlight], leased: Mapping[str, int]
) -> list[CurrencyPace]:
    """Put together what is known per currency; one may have serves and no render yet, or a lease and neither."""
    ads, micros = Counter[str](), Counter[str]()
    for minute in under_way:
        ads[minute.currency] += minute.in_flight_ads
        micros[minute.currency] += minute.in_flight_micros
    known = {row[0]: row[1:] for row in rows}
    return [
        _pace(currency, known.get(currency, (0,) * 6), (ads[currency], micros[currency]), leased.get(currency, 0))
        for currency in sorted({*known, *(name for name, number in ads.items() if number), *leased})
    ]


def _pace(currency: str, sums: tuple[int, ...], under_way: tuple[int, int], leased_micros: int) -> CurrencyPace:
    gross, net, undecided, spent, waiting, uncertain = sums
    ads, in_flight_micros = under_way
    return CurrencyPace(
        currency=currency,
        gross=gross,
        net=net,
        undecided=undecided,
        spent_micros=spent,
        reserved_micros=in_flight_micros + waiting,
        in_flight_ads=ads,
        in_flight_micros=in_flight_micros,
        uncertain_micros=uncertain,
        awaiting_view_micros=waiting - uncertain,
        spend_low_micros=spent,
        spend_high_micros=spent + waiting + in_flight_micros,
        leased_micros=leased_micros,
        overshoot_bound_micros=in_flight_micros + uncertain + leased_micros,
    )
