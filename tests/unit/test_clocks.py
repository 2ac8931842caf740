"""Clocks of devices: what their own events show corrects those that say nothing."""

import asyncio
from datetime import date

from gatekit import NOW, KitGate, Minter

from commands.clocks import NEGLIGIBLE_MS, SAMPLES, DeviceClocks
from domain.reasons import Reason

HOUR = 3_600_000


def test_nothing_is_known_of_a_device_that_was_never_off():
    clocks = DeviceClocks(10)
    clocks.learn("right", NOW - NEGLIGIBLE_MS + 1, NOW)
    clocks.learn("", NOW - HOUR, NOW)
    assert clocks.offset_ms("right") is None
    assert clocks.offset_ms("") is None


def test_the_event_that_came_fastest_tells_the_clock_best():
    clocks = DeviceClocks(10)
    for way_ms in (900, 40, 7_000):
        clocks.learn("behind", NOW - HOUR - way_ms, NOW)
    assert clocks.offset_ms("behind") == HOUR + 40


def test_a_clock_that_was_set_right_is_believed_after_a_few_events():
    clocks = DeviceClocks(10)
    clocks.learn("ahead", NOW + HOUR, NOW)
    for way_ms in range(SAMPLES):
        clocks.learn("ahead", NOW - way_ms, NOW)
    assert clocks.offset_ms("ahead") == 0


def test_learning_an_event_again_changes_nothing():
    clocks = DeviceClocks(10)
    for _ in range(SAMPLES + 1):
        clocks.learn("behind", NOW - HOUR, NOW)
    clocks.learn("behind", NOW - HOUR - 9, NOW)
    assert clocks.offset_ms("behind") == HOUR


def test_a_render_without_a_sending_time_is_corrected_by_its_devices_others():
    async def test():
        gate, clients = KitGate(), Minter()
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        off = {"device": "off", "client_at": NOW - 2_000 - HOUR}
        [before] = await gate.send(clients.render(**off))
        assert before.reason is Reason.CLOCK_SKEWED
        [shown] = await gate.send(clients.render(sent_at=NOW - 40 - HOUR, **off))
        assert shown.reason is None
        token = clients.token()
        [after] = await gate.send(clients.render(token, **off))
        assert after.reason is None
        rendered, _, decided = await gate.events(token.impression)
        assert (rendered.client_at, rendered.event_at, rendered.skew_ms) == (NOW - 2_000 - HOUR, NOW - 1_960, 0)
        assert decided.cut.event_at == rendered.event_at

    asyncio.run(test())
