"""Why a day's breaks are there, as far as our ledger and Stripe's events tell. A suggestion, with evidence.

First our own ledger is asked: is there work on the object that is not done? Then Stripe's events since the
day are listed once and held against ours in sets, never one call a break. Source: Stripe API reference,
Events: kept for 30 days.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection

from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.pg_arrays import int_array, text_array
from services.payments import cause_sql as sql
from services.payments.balance import ListObjects
from services.payments.day import Day
from services.providers.delivery import find_dict, id_text
from services.providers.stripe_api import list_objects

EVENTS_KEPT = timedelta(days=30)
EVENTS_AT_MOST = 20_000
"""Events of one run that are looked at: 200 pages."""
SET_SIZE = 500
BODIES_AT_MOST = 1_000

EVENT_TYPES = (
    "charge.captured", "charge.expired", "charge.failed", "charge.pending", "charge.refunded",
    "charge.succeeded", "charge.updated", "charge.refund.updated", "charge.dispute.created",
    "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated", "refund.created", "refund.updated", "refund.failed", "payout.created",
    "payout.updated", "payout.paid", "payout.failed",
)  # fmt: skip
"""Twenty: Stripe takes no more names in one question."""


class SuggestCauses(Protocol):
    """Suggests the causes of what a comparison found."""

    def __call__(self, key: str, base_url: str, day: Day, token: str, now: datetime) -> None:
        """Raise ``RetryLater`` where Stripe does not answer."""
        ...


def suggest_causes(
    key: str,
    base_url: str,
    day: Day,
    token: str,
    now: datetime,
    *,
    list_theirs: ListObjects = list_objects,
) -> None:
    """Every break found under ``token`` has a suggested cause. Own transactions, none open over a call.

    A key that may not list events leaves ``unknown`` and says so in the evidence: the breaks stand without.
    """
    scope = {**day._asdict(), "token": token, "now": now, "oldest": now - EVENTS_KEPT}
    with transaction() as tx:
        for statement in (sql.OWN_KINDS, sql.OUR_WORK):
            tx.exec_driver_sql(statement, scope)
        _note_others(tx, scope, is_live="_live_" in key)
        wanted = tx.exec_driver_sql(sql.COUNT_OPEN, scope).scalar()
    listing = _look_through_events(list_theirs, key, base_url, day, scope) if wanted else "not needed"
    with transaction() as tx:
        tx.exec_driver_sql(sql.REST, {**scope, "listing": listing})


def _note_others(tx: Connection, scope: Mapping[str, Any], *, is_live: bool) -> None:
    """What is missing there and came from test mode, or from another account, is ``not_ours``."""
    others: list[tuple[str, str]] = []
    for provider_id, body in tx.exec_driver_sql(sql.FIND_BODIES, {**scope, "limit": BODIES_AT_MOST}):
        try:
            event = orjson.loads(bytes(body))
        except orjson.JSONDecodeError:
            continue
        if not isinstance(event, dict):
            continue
        if account := event.get("account"):
            others.append((provider_id, f"account {str(account)[:64]}"))
        elif isinstance(event.get("livemode"), bool) and event["livemode"] is not is_live:
            others.append((provider_id, "live mode" if event["livemode"] else "test mode"))
    if others:
        ids, froms = zip(*others, strict=True)
        tx.exec_driver_sql(sql.NOT_OURS, {**scope, "ids": text_array(ids), "froms": text_array(froms)})


def _look_through_events(
    list_theirs: ListObjects, key: str, base_url: str, day: Day, scope: Mapping[str, Any]
) -> str:
    """Each break that a lost event explains says which; return how far the listing went, in words."""
    # An object's first events are of its own day; later ones tell of updates. Stripe lists newest first.
    now: datetime = scope["now"]
    turn = min(max(day.ends + timedelta(days=1), now - EVENTS_KEPT), now)
    windows = [(max(day.begins, now - EVENTS_KEPT), turn), (turn, now + timedelta(seconds=1))]
    left = EVENTS_AT_MOST
    try:
        for since, until in windows:
            if since >= until:
                continue
            events = list_theirs(
                key, base_url, "events", created_gte=since, created_lt=until, types=list(EVENT_TYPES)
            )
            for block in _blocks(events, left):
                left -= len(block)
                with transaction() as tx:
                    tx.exec_driver_sql(sql.LOST_EVENTS, {**scope, **_arrays(block)})
            if left <= 0:
                return f"cut off after {EVENTS_AT_MOST} events"
    except (Misconfigured, Refused) as fault:
        return f"refused: {fault.code}"
    return f"{EVENTS_AT_MOST - left} events looked at"


def _blocks(events: Iterable[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    walk = islice((event for event in events if isinstance(event, dict)), most)
    while block := list(islice(walk, SET_SIZE)):
        yield block


def _arrays(events: list[dict[str, Any]]) -> dict[str, str]:
    """Return which object each event is about; one that does not say so is about none."""
    told = [find_dict(find_dict(event, "data"), "object") for event in events]
    return {
        "event_id": text_array([id_text(event.get("id")) for event in events]),
        "event_type": text_array([id_text(event.get("type")) for event in events]),
        "object_id": text_array([id_text(source.get("id")) for source in told]),
        "created": int_array(
            at if type(at := event.get("created")) is int and 0 <= at < 2**35 else 0 for event in events
        ),
    }
