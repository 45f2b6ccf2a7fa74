"""Results of calls: the outcome of each item of a call, and the record for all its items."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import Any

from sqlalchemy import Connection

from services.ledger.settle import Settlement, plan_settlement, to_internal_error
from services.ledger.topics import Topic
from services.ledger.work import Call, Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.providers.call_outcomes import CallOutcomes, collect_calls


@dataclass(frozen=True, slots=True)
class CallResult:
    """The items of a call with their outcomes; the other fields are from its ``BatchResponse``."""

    pairs: Sequence[tuple[WorkItem, Outcome]]
    record: Callable[[Connection, Sequence[Any], Collection[int]], FollowUp] | None = None
    response_data: Any = None
    calls: CallOutcomes = field(default_factory=CallOutcomes)
    """Providers that answered, and providers that refused the credential."""

    @property
    def has_own_record(self) -> bool:
        """Whether one of the outcomes has a ``record`` of its own."""
        return any(isinstance(outcome, Done) and outcome.record for _, outcome in self.pairs)


def items_of(call: Call) -> Sequence[WorkItem]:
    return [call.item] if isinstance(call, PreparedCall) else call.items


def make_call(call: Call, topic: Topic) -> CallResult:
    """Make ``call`` and return its result; an exception is the outcome of all its items."""
    with collect_calls() as calls:
        return replace(_make_call(call, topic), calls=calls)


def _make_call(call: Call, topic: Topic) -> CallResult:
    items = items_of(call)
    try:
        if isinstance(call, PreparedCall):
            return CallResult([(call.item, call.act())])
        response = call.act()
        pairs = list(zip(items, response.outcomes, strict=True))
        result = CallResult(pairs, response.record, response.response_data)
        if result.has_own_record:
            raise ValueError("an outcome of a batch call has its own record: use the record of BatchResponse")
        return result
    except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
        first = items[0]
        error = to_internal_error(fault, topic.name, shop_id=first.shop_id, request_id=first.request_id)
        return CallResult([(item, error) for item in items])


def partition_results(results: Sequence[CallResult]) -> list[list[CallResult]]:
    """Return groups of results that can be settled in one transaction, because they share one ``record``.

    A ``record`` takes all its locks at once; two of them in one transaction would take locks out of order. A
    result with its own record is therefore a group by itself.
    """
    groups: dict[object, list[CallResult]] = {}
    for result in results:
        groups.setdefault(id(result) if result.has_own_record else result.record, []).append(result)
    return list(groups.values())


def plan_settlements(topic: Topic, result: CallResult, now: datetime, rng: Random) -> list[Settlement]:
    """Return the settlements of a call's items; items with the same error code are retried together."""
    planned = [plan_settlement(topic, item, outcome, now, rng) for item, outcome in result.pairs]
    if len(planned) == 1:
        return planned
    due: dict[str | None, datetime] = {}
    for one in planned:
        if one.next_retry_at is not None:
            due[one.error_code] = max(one.next_retry_at, due.get(one.error_code, now))
    return [one._replace(next_retry_at=due[one.error_code]) if one.next_retry_at else one for one in planned]


def record_results(tx: Connection, results: Sequence[CallResult], settled_ids: Collection[int]) -> FollowUp:
    """Call the ``record`` of a group of ``partition_results``, for calls with an item in ``settled_ids``."""
    settled = [result for result in results if any(item.id in settled_ids for item, _ in result.pairs)]
    if settled and (record := settled[0].record):
        return record(tx, [result.response_data for result in settled], settled_ids)
    for result in settled:
        for _, outcome in result.pairs:
            if isinstance(outcome, Done) and outcome.record:
                return outcome.record(tx)
    return FollowUp()
