"""Topic ``bulk_action``: changes the next rows of a bulk action, and plans the chunk after them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, select

from services.accounts.people import find_access
from services.accounts.roles import Role
from services.audit.append import Author
from services.bulk.kinds import (
    GONE,
    JOBS,
    KINDS,
    LOCKED,
    LOCKED_FOR,
    RowFacts,
    find_cause_to_skip,
    group_skipped,
)
from services.bulk.runs_of_jobs import describe_places
from services.bulk.store import lock_chunk, make_chunk, record_chunk, stop_bulk_action
from services.core.errors import Refused
from services.jobs.runs import StartOutcome, list_run_states, trigger_job
from services.jobs.store import get_job
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.replay import replay_events
from services.ledger.requeue import discard, requeue, unlock
from services.ledger.tables import inbound_events, work_queue
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem
from services.shops.shops import find_slugs

CHUNK_ROWS = MappingProxyType({"work": 500, "events": 100, JOBS: 20})
"""Rows of one transaction, by list: the body of an event may have 5 MiB."""
REMOVED = "{} has no role any more, or was removed"

Ids = tuple[int, ...]
Statuses = Sequence[str]
Act = Callable[[Connection, Ids, Statuses, Author], Collection[int]]


def run_bulk_actions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Handler of ``bulk_action``: changes up to ``CHUNK_ROWS`` rows of each item's action.

    A chunk that was handled before changes nothing. The action stops if its person has no role any more.
    """
    outcomes: list[Outcome] = []
    new_work: list[NewWork] = []
    for item in items:
        outcome, following = _run(tx, item, now)
        outcomes.append(outcome)
        new_work += following
    return HandlerResult(outcomes, new_work)


def _run(tx: Connection, item: WorkItem, now: datetime) -> tuple[Outcome, list[NewWork]]:
    number = int(item.key) if item.key.isdecimal() else 0
    action = lock_chunk(tx, number, max(CHUNK_ROWS.values()))
    if action is None:
        return Refused("bulk.no_action", f"there is no bulk action {item.key}: discard this work"), []
    if action.status != "running" or item.payload.get("from") != action.done_count:
        return Done("stale"), []
    access = find_access(tx, action.user_id)
    if access is None:
        why = REMOVED.format(action.started_by)
        stop_bulk_action(tx, number, why, by=item.topic, now=now, request_id=item.request_id)
        return Done("stopped"), []
    author: Author = {
        "by": action.started_by,
        "now": now,
        "reason": f"bulk action {number}: {action.reason}",
        "request_id": item.request_id,
    }
    ids = action.row_ids[: CHUNK_ROWS[action.list]]
    changed, skipped = _change(tx, action, ids, access.shops_with(Role.OPERATOR), author)
    done = record_chunk(tx, action, len(ids), len(changed), skipped, now)
    if done == action.total_count:
        return Done(), []
    return Done(), [make_chunk(number, done, item.request_id)]


def _change(
    tx: Connection, action: Any, ids: Sequence[int], shops: frozenset[int] | None, author: Author
) -> tuple[Collection[int], Mapping[str, Sequence[int]]]:
    """Change the rows ``ids``; return the changed ids, and each other id by the cause."""
    kind, now = KINDS[action.action], author["now"]
    statuses = kind.choose_statuses(action.query.get(kind.field, "").split(","))

    def find_causes(wanted: Collection[int]) -> dict[int, str]:
        rows = {row.id: row for row in _read_facts(tx, action, wanted, now)}
        return {
            one: find_cause_to_skip(kind, rows[one], statuses, shops, now) if one in rows else GONE
            for one in wanted
        }

    causes = find_causes(ids)
    taken = tuple(one for one, cause in causes.items() if not cause)
    # An empty filter would match every row.
    act = _ACTS[kind.name] if kind.name in _ACTS else partial(_run_job, action.query)
    changed = frozenset(act(tx, taken, statuses, author)) if taken else frozenset()
    # Another transaction changed or locked the others meanwhile.
    missed = {one: cause or LOCKED for one, cause in find_causes(set(taken) - changed).items()}
    return changed, group_skipped((cause, one) for one, cause in (causes | missed).items())


def _read_facts(tx: Connection, action: Any, ids: Collection[int], now: datetime) -> list[RowFacts]:
    if action.list == JOBS:
        job = get_job(tx, action.query["job"])
        found = list_run_states(tx, job, action.query["period"], now)
        return [row for row in describe_places(job, found) if row.id in ids]
    if action.list == "events":
        event = inbound_events.c
        wanted = select(event.id, event.shop_id, event.topic, event.origin).where(event.id.in_(ids))
    else:
        work = work_queue.c
        wanted = select(work.id, work.shop_id, work.topic, work.status, work.locked_at).where(
            work.id.in_(ids)
        )
    return [RowFacts(**row._asdict()) for row in tx.execute(wanted)]


def _requeue(tx: Connection, ids: Ids, statuses: Statuses, author: Author) -> Collection[int]:
    return {ref.id for ref in requeue(tx, WorkFilter(ids=ids, statuses=tuple(statuses)), **author)}


def _discard(tx: Connection, ids: Ids, statuses: Statuses, author: Author) -> Collection[int]:
    return {ref.id for ref in discard(tx, WorkFilter(ids=ids, statuses=tuple(statuses)), **author)}


def _unlock(tx: Connection, ids: Ids, statuses: Statuses, author: Author) -> Collection[int]:
    wanted = WorkFilter(ids=ids, statuses=tuple(statuses))
    return {ref.id for ref in unlock(tx, wanted, older_than=LOCKED_FOR, **author)}


def _replay(tx: Connection, ids: Ids, _statuses: Statuses, author: Author) -> Collection[int]:
    return replay_events(tx, EventFilter(ids=ids), **author).original_ids


def _run_job(
    query: Mapping[str, str], tx: Connection, ids: Ids, statuses: Statuses, author: Author
) -> Collection[int]:
    """Start the job at the shops ``ids``, in their order, as "run now" at one shop does."""
    job, slugs = get_job(tx, query["job"]), find_slugs(tx)
    options: dict[str, Any] = {"origin": "console", "force": "done" in statuses}
    period = query["period"] or None
    started = [trigger_job(tx, job, slugs[one], period, **options, **author) for one in sorted(ids)]
    places = [(place.found, place.shop) for (place,) in started]
    return [shop.id for found, shop in places if shop and found is StartOutcome.STARTED]


_ACTS: Mapping[str, Act] = MappingProxyType(
    {"requeue": _requeue, "discard": _discard, "unlock": _unlock, "replay": _replay}
)
