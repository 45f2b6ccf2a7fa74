"""A call that has ended: what it made of each of its items, and what all of them learned from it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import Any

from sqlalchemy import Connection

from services.ledger.batch_result import to_internal_error
from services.ledger.settle import Settlement, plan_settlement
from services.ledger.topics import Topic
from services.ledger.work import BatchResponse, Call, Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.providers.calls import CallOutcomes, collect_calls


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call came to: its items with their outcomes, and what to write down for all of them."""

    pairs: Sequence[tuple[WorkItem, Outcome]]
    record: Callable[[Connection, Sequence[Any], Collection[int]], FollowUp] | None = None
    taught: Any = None
    calls: CallOutcomes = field(default_factory=CallOutcomes)
    """Which providers answered, and which refused our credential."""

    @property
    def records_alone(self) -> bool:
        """Whether an outcome writes by itself what was learned."""
        return any(isinstance(outcome, Done) and outcome.record for _, outcome in self.pairs)


def items_of(call: Call) -> Sequence[WorkItem]:
    return [call.item] if isinstance(call, PreparedCall) else call.items


def act_once(call: Call, topic: Topic) -> CallResult:
    """Return what ``call`` came to, and which providers took or refused our credential."""
    with collect_calls() as calls:
        return replace(_act(call, topic), calls=calls)


def _act(call: Call, topic: Topic) -> CallResult:
    items = items_of(call)
    try:
        if isinstance(call, PreparedCall):
            return CallResult([(call.item, call.act())])
        answers: BatchResponse = call.act()
        ended = CallResult(list(zip(items, answers.outcomes, strict=True)), answers.record, answers.taught)
        if ended.records_alone:
            raise ValueError("an outcome of a call for several items has a record: Answers has one for all")
        return ended
    except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
        first = items[0]
        bug = to_internal_error(fault, topic.name, shop_id=first.shop_id, request_id=first.request_id)
        return CallResult([(item, bug) for item in items])


def partition_results(ended: Sequence[CallResult]) -> list[list[CallResult]]:
    """Return what may be settled in one transaction: calls that one function records together.

    It takes its locks at once. Two that record one after the other would lock out of order: an outcome that
    records by itself is settled alone.
    """
    parts: dict[object, list[CallResult]] = {}
    for call in ended:
        parts.setdefault(id(call) if call.records_alone else call.record, []).append(call)
    return list(parts.values())


def plan_settlements(topic: Topic, call: CallResult, now: datetime, rng: Random) -> list[Settlement]:
    """Return what becomes of a call's items. What was asked together comes back together, to be asked so."""
    planned = [plan_settlement(topic, item, outcome, now, rng) for item, outcome in call.pairs]
    if len(planned) == 1:
        return planned
    due: dict[str | None, datetime] = {}
    for one in planned:
        if one.next_retry_at is not None:
            due[one.error_code] = max(one.next_retry_at, due.get(one.error_code, now))
    return [one._replace(next_retry_at=due[one.error_code]) if one.next_retry_at else one for one in planned]


def record_results(tx: Connection, part: Sequence[CallResult], held: Collection[int]) -> FollowUp:
    """What ``part`` (see ``partition_results``) learned is written for the items that are ``held``."""
    kept = [call for call in part if any(item.id in held for item, _ in call.pairs)]
    if kept and (record := kept[0].record):
        return record(tx, [call.taught for call in kept], held)
    outcomes = [outcome for call in kept for _, outcome in call.pairs]
    for outcome in outcomes:
        if isinstance(outcome, Done) and outcome.record:
            return outcome.record(tx)
    return FollowUp()
