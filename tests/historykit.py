"""Histories of a whole gate: batches of events of a few people, so that much of it meets."""

import random

from gatekit import NOW, Minter

from domain.ids import mint

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000


class History:
    """Batches of events of a few people who meet in few slots: repeats, double fires, prefetches, bots, views."""

    def __init__(self, seed, now=NOW):
        self.dice = random.Random(seed)
        self.clients = Minter(seed, now)
        self.tokens = []
        self.now = now

    def batches(self, count):
        for _ in range(count):
            events = [event for _ in range(self.dice.randrange(1, 24)) for event in self._events()]
            self.dice.shuffle(events)
            yield events

    def _events(self):
        dice = self.dice
        if self.tokens and dice.random() < 0.15:
            return [self._render(dice.choice(self.tokens))]
        at = self.now - dice.randrange(1, 400) * SECOND
        token = self.clients.token(
            impression=mint(at, 7, dice.getrandbits(62)),
            placement=f"placement-{dice.randrange(3)}",
            creative=f"creative-{dice.randrange(3)}",
        )
        self.tokens.append(token)
        deed = dice.random()
        if deed < 0.1:
            return [self._render(token, prefetched=True, on_screen_at=None), self._render(token)]
        if deed < 0.2:
            event = self._render(token)
            return [event, event, self._render(token)]
        if deed < 0.25:
            return [self._render(token, on_screen_at=None), self._render(token)]
        if deed < 0.3:
            return [self._render(token), self.clients.view(token)]
        return [self._render(token)]

    def _render(self, token, **changes):
        dice, at = self.dice, int(token.impression.int >> 80) + 700
        who = dice.randrange(8)
        said = {
            "client_at": at,
            "on_screen_at": at,
            "user": f"user-{who}" if who else None,
            "stack_depth": dice.choice([1, 1, 9]),
        }
        said |= {
            "device": f"device-{who // 2}" if who != 1 else None,
            "agent": dice.choice(["Mozilla/5.0"] * 9 + ["a bot"]),
        }
        if dice.random() < 0.5:
            said |= {"visible_ratio": dice.random(), "visible_ms": dice.randrange(9_000)}
        return self.clients.render(token, **said | changes)
