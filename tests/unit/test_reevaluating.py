"""What is looked at again, when, what comes of it, and what does not: kept in memory, with a model of a few trees."""

import asyncio

import pytest
from builders import PRICE, a_correction, a_view
from lookkit import NOW, TIMES, Kit, a_first, a_later_model, a_lesson, an_impression, append

from domain.events import ImpressionLabelled
from domain.reasons import Reason, Verdict
from domain.reevaluation import Why
from domain.vocabulary import Authority, Label, LabelSource
from ledger.codec import decode_impression
from ledger.store import read_everything

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def run(test):
    asyncio.run(test())


async def everything(ledger):
    return [commit async for commit in read_everything(ledger)]


async def found(kit, number):
    return await kit.found.find(an_impression(number))


def test_what_is_uncertain_is_looked_at_after_minutes_and_again_before_its_deadline():
    async def test():
        kit = Kit()
        await kit.open(a_first(1, also=[Reason.RISK_GREY]))
        await kit.after(TIMES.uncertain_ms - 1)
        assert await found(kit, 1) is None
        await kit.after(1)
        assert (await found(kit, 1)).why is Why.UNCERTAIN
        await kit.after(3 * DAY - TIMES.deadline_ms - TIMES.uncertain_ms - 1)
        assert (await found(kit, 1)).why is Why.UNCERTAIN
        await kit.after(1)
        assert (await found(kit, 1)).why is Why.DEADLINE
        assert kit.noted.rows == {}

    run(test)


def test_what_was_shed_and_the_random_sample_are_looked_at_when_enough_could_have_come():
    async def test():
        kit = Kit()
        await kit.open(a_first(1, shed=True), a_first(2, propensity=0.003), a_first(3))
        await kit.after(TIMES.shed_ms)
        assert (await found(kit, 1)).why is Why.SHED
        assert await found(kit, 2) is None
        await kit.after(TIMES.sample_ms - TIMES.shed_ms)
        assert (await found(kit, 2)).why is Why.SAMPLE
        assert await found(kit, 3) is None

    run(test)


def test_the_sample_holds_what_was_dropped_too():
    async def test():
        kit = Kit()
        await kit.open(a_first(1, also=[Reason.AGENT_DECLARED_BOT], propensity=0.003))
        await kit.after(TIMES.sample_ms)
        assert (await found(kit, 1)).from_reason is Reason.AGENT_DECLARED_BOT

    run(test)


def test_a_label_has_the_persons_other_impressions_looked_at_but_nobody_elses():
    async def test():
        kit = Kit()
        await kit.open(a_first(1), a_first(2), a_first(3, person="another"))
        await append(kit.ledger, 1, a_lesson())
        await kit.follow()
        assert await kit.whys() == [(2, "label")]
        await kit.after(MINUTE)
        assert (await found(kit, 2)).why is Why.LABEL
        assert await found(kit, 3) is None

    run(test)


def test_what_a_person_did_later_clears_the_uncertain_or_would_drop_it():
    async def test():
        kit = Kit()
        busy = [a_first(number, person="busy") for number in (2, 3, 4, 5)]
        await kit.open(a_first(1, also=[Reason.RISK_GREY]), a_first(6, person="busy", also=[Reason.RISK_GREY]), *busy)
        await append(kit.ledger, 6, a_lesson())
        await kit.after(HOUR)
        clear, risky = await found(kit, 1), await found(kit, 6)
        assert (clear.from_verdict, clear.to_verdict, clear.micros) == (Verdict.UNCERTAIN, Verdict.VALID, PRICE)
        assert (risky.to_verdict, risky.to_reason, risky.micros) == (Verdict.DROPPED, Reason.RISK_HIGH, 0)
        assert risky.pair == ("label", "s3")
        assert risky.masked_risk > 0.8

    run(test)


def test_what_counts_would_be_dropped_for_its_price():
    async def test():
        kit = Kit(model=a_later_model(4.0))
        await kit.open(a_first(1))
        await append(kit.ledger, 1, a_lesson())
        await kit.noted.note([an_impression(1)], Why.LABEL, NOW, NOW)
        await kit.after(MINUTE)
        row = await found(kit, 1)
        assert (row.from_verdict, row.to_verdict, row.micros, row.currency) == ("valid", "dropped", -PRICE, "EUR")
        assert (row.changes, row.allowed, row.campaign) == (True, True, "campaign-1")

    run(test)


def test_what_a_person_of_more_authority_said_would_stay():
    async def test():
        kit = Kit(model=a_later_model(4.0))
        await kit.open(a_first(1, also=[Reason.RISK_GREY]))
        await append(kit.ledger, 1, a_correction(None, Authority.REVIEW))
        await append(kit.ledger, 1, a_lesson())
        await kit.after(HOUR)
        row = await found(kit, 1)
        assert (row.from_verdict, row.to_verdict) == (Verdict.VALID, Verdict.DROPPED)
        assert (row.changes, row.allowed, row.micros) == (True, False, 0)

    run(test)


def test_looking_again_changes_nothing_in_the_ledger_and_is_no_label():
    async def test():
        kit = Kit(model=a_later_model(4.0))
        await kit.open(*(a_first(number, also=[Reason.RISK_GREY]) for number in range(1, 6)))
        await append(kit.ledger, 1, a_lesson())
        before = await everything(kit.ledger)
        await kit.after(HOUR)
        assert len(kit.found.rows) == 5
        assert any(row.changes for row in kit.found.rows.values())
        assert await everything(kit.ledger) == before
        events = [event for commit in before for event in decode_impression(commit.data)]
        assert [event.source for event in events if isinstance(event, ImpressionLabelled)] == [LabelSource.THIRD_PARTY]

    run(test)


def test_what_was_found_is_not_known_when_it_is_looked_at_again():
    async def test():
        kit = Kit(model=a_later_model(4.0))
        await kit.open(*(a_first(number, also=[Reason.RISK_GREY]) for number in (1, 2)))
        await kit.after(HOUR)
        first = await found(kit, 1)
        await kit.noted.note([an_impression(1)], Why.FINALISE, kit.now, kit.now)
        await kit.after(HOUR)
        second = await found(kit, 1)
        assert second.known_at > first.known_at
        assert (second.risk, second.to_verdict, second.micros) == (first.risk, first.to_verdict, first.micros)

    run(test)


def test_without_a_model_work_stays_due_and_says_so_and_is_done_when_there_is_one():
    async def test():
        kit = Kit(model=None)
        await kit.open(a_first(1, also=[Reason.RISK_GREY]))
        await kit.after(HOUR)
        assert (await kit.look(1)).without_model == 1
        assert await found(kit, 1) is None
        [backlog] = await kit.noted.backlog(kit.now)
        assert (backlog.due, backlog.failing, backlog.oldest_at) == (1, 0, NOW + TIMES.uncertain_ms)
        kit.models.model = a_later_model()
        await kit.after(HOUR)
        assert (await found(kit, 1)).why is Why.UNCERTAIN

    run(test)


def test_what_the_follower_has_not_seen_yet_waits_for_it():
    async def test():
        kit = Kit()
        await kit.open(a_first(1))
        await kit.follow()
        await append(kit.ledger, 1, a_lesson())
        await kit.noted.note([an_impression(1)], Why.LABEL, NOW, NOW)
        assert (await kit.look(1)).early == 1
        assert await found(kit, 1) is None
        await kit.after(10_000)
        assert (await found(kit, 1)).version == 4

    run(test)


def test_a_label_that_comes_while_it_is_looked_at_has_it_looked_at_once_more():
    async def test():
        kit = Kit()
        await kit.open(a_first(1))
        await kit.follow()
        await kit.noted.note([an_impression(1)], Why.LABEL, NOW, NOW)
        put = kit.found.put

        async def put_late(rows):
            await put(rows)
            await append(kit.ledger, 1, a_lesson())
            await kit.noted.note([an_impression(1)], Why.LABEL, NOW, NOW)
            kit.found.put = put

        kit.found.put = put_late
        await kit.work()
        assert (await found(kit, 1)).version == 3
        await kit.after(10_000)
        assert (await found(kit, 1)).version == 4
        assert kit.noted.rows == {}

    run(test)


def test_who_knew_less_and_is_late_does_not_overwrite_who_knew_more():
    async def test():
        kit = Kit()
        await kit.open(a_first(1))
        await kit.after(MINUTE)
        await kit.noted.note([an_impression(1)], Why.LABEL, NOW, NOW)
        await kit.look(1)
        early = await found(kit, 1)
        await append(kit.ledger, 1, a_lesson())
        await kit.noted.note([an_impression(1)], Why.LABEL, NOW, NOW)
        await kit.after(MINUTE)
        late = await found(kit, 1)
        await kit.found.put([early])
        assert await found(kit, 1) == late != early

    run(test)


def test_a_torn_stream_fails_alone_and_is_looked_at_once_it_is_mended():
    async def test():
        kit = Kit()
        await kit.open(a_first(1, also=[Reason.RISK_GREY]), a_first(2, also=[Reason.RISK_GREY]))
        [torn, good] = kit.ledger._log
        kit.ledger._log[0] = broken = type(torn)(
            **{n: getattr(torn, n) for n in torn.__struct_fields__} | {"data": b"["}
        )
        kit.ledger._streams[torn.stream][0] = broken
        await kit.after(HOUR)
        assert (await found(kit, 2)).version == good.count
        assert await found(kit, 1) is None
        [backlog] = await kit.noted.backlog(kit.now)
        assert (backlog.why, backlog.failing) == (Why.UNREAD, 1)
        kit.ledger._streams[torn.stream][0] = torn
        await kit.after(DAY)
        assert (await found(kit, 1)).why is Why.UNREAD

    run(test)


def test_an_impression_that_is_not_there_is_done_with():
    async def test():
        kit = Kit()
        await kit.open()
        await kit.noted.note([an_impression(9)], Why.LABEL, NOW, NOW)
        assert (await kit.look(9)).absent == 1
        assert kit.noted.rows == {}

    run(test)


@pytest.mark.parametrize("again", [False, True])
def test_the_same_message_twice_at_once_or_later_leaves_one_row(again):
    async def test():
        kit = Kit()
        await kit.open(*(a_first(number, also=[Reason.RISK_GREY]) for number in range(1, 9)))
        await kit.after(0)
        kit.now += HOUR
        await kit.follow()
        first = await kit.look(*range(1, 9)) if again else None
        looked = await asyncio.gather(*(kit.look(*range(1, 9)) for _ in range(3)))
        assert len(kit.found.rows) == 8
        assert first is None or [one.done for one in looked] == [0, 0, 0]
        assert {why for _, why in kit.noted.rows} <= {Why.DEADLINE}

    run(test)


def test_a_later_view_is_known_when_it_is_looked_at_again():
    async def test():
        kit = Kit()
        await kit.open(a_first(1, also=[Reason.RISK_GREY]))
        await append(kit.ledger, 1, a_view(received_at=NOW + 5_000))
        await kit.after(HOUR)
        assert (await found(kit, 1)).version == 4

    run(test)


def test_labels_of_instrumentation_say_nothing_of_the_person():
    async def test():
        kit = Kit()
        await kit.open(a_first(1), a_first(2))
        await append(kit.ledger, 1, a_lesson(LabelSource.SDK_BUG, Label.INSTRUMENTATION))
        await kit.follow()
        assert await kit.whys() == []

    run(test)
