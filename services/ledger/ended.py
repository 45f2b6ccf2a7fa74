"""A call that has ended: what it made of each of its items, and what all of them learned from it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random

from sqlalchemy import Connection

from services.ledger.report import as_bug
from services.ledger.settle import Settlement, plan_settlement
from services.ledger.topics import Topic
from services.ledger.work import Answers, Call, Done, Outcome, Prepared, Recorded, WorkItem
from services.providers.calls import Calls, collect_calls


@dataclass(frozen=True, slots=True)
class Ended:
    """What one call came to: its items with their outcomes, and what to write down for all of them."""

    pairs: Sequence[tuple[WorkItem, Outcome]]
    record: Callable[[Connection, Collection[int]], Recorded] | None = None
    calls: Calls = field(default_factory=Calls)
    """Which providers answered, and which refused our credential."""

    @property
    def place(self) -> tuple[int, str]:
        """Where it comes in the order in which own effects lock what several items may have learned about."""
        first = self.pairs[0][0]
        return first.shop_id, first.key


def items_of(call: Call) -> Sequence[WorkItem]:
    return [call.item] if isinstance(call, Prepared) else call.items


def act_once(call: Call, topic: Topic) -> Ended:
    """Return what ``call`` came to, and which providers took or refused our credential."""
    with collect_calls() as calls:
        return replace(_act(call, topic), calls=calls)


def _act(call: Call, topic: Topic) -> Ended:
    items = items_of(call)
    try:
        if isinstance(call, Prepared):
            return Ended([(call.item, call.act())])
        answers: Answers = call.act()
        return Ended(list(zip(items, answers.outcomes, strict=True)), answers.record)
    except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
        first = items[0]
        bug = as_bug(fault, topic.name, shop_id=first.shop_id, request_id=first.request_id)
        return Ended([(item, bug) for item in items])


def part_ended(ended: Sequence[Ended]) -> list[list[Ended]]:
    """Return what may be settled in one transaction: at most one call for several items of each shop.

    Such a call locks what it learned about in order; two of one shop, one after the other, would not.
    """
    parts: list[list[Ended]] = []
    place: dict[int, int] = {}
    for call in ended:
        number = 0
        if len(call.pairs) > 1:
            shop_id = call.pairs[0][0].shop_id
            number = place.get(shop_id, 0)
            place[shop_id] = number + 1
        while len(parts) <= number:
            parts.append([])
        parts[number].append(call)
    return parts


def plan_ended(topic: Topic, call: Ended, now: datetime, rng: Random) -> list[Settlement]:
    """Return what becomes of a call's items. What was asked together comes back together, to be asked so."""
    planned = [plan_settlement(topic, item, outcome, now, rng) for item, outcome in call.pairs]
    if len(planned) == 1:
        return planned
    due: dict[str | None, datetime] = {}
    for one in planned:
        if one.next_retry_at is not None:
            due[one.error_code] = max(one.next_retry_at, due.get(one.error_code, now))
    return [one._replace(next_retry_at=due[one.error_code]) if one.next_retry_at else one for one in planned]


def record_ended(tx: Connection, call: Ended, held: Collection[int]) -> list[Recorded]:
    mine = {item.id for item, _ in call.pairs if item.id in held}
    if not mine:
        return []
    told = [call.record(tx, mine)] if call.record else []
    by_key = sorted(call.pairs, key=lambda pair: pair[0].key)
    return told + [
        outcome.record(tx)
        for item, outcome in by_key
        if isinstance(outcome, Done) and outcome.record and item.id in mine
    ]
