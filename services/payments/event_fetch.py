"""Topic ``event_fetch``: fetches a thin event's object, or a payout's balance entries, from Stripe."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from urllib.parse import quote

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused, WorkError
from services.core.fields import Unreadable, find_text, read_instant, read_object, read_text
from services.core.settings import get_settings
from services.ledger.accept import record_events
from services.ledger.dispatch import send_messages
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem
from services.payments.backfill import make_state_event, plan_events
from services.payments.balance import fetch_balance_entries
from services.payments.handler import PAYOUT
from services.payments.payload import KINDS
from services.payments.stripe_key import get_stripe_key
from services.providers.stripe_api import NOT_FOUND, fetch_object


class EventFetchHandler:
    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return, per item, the call that fetches the event's object, or the entries of its payout."""
        del now
        keys = {shop_id: _find_key(tx, shop_id) for shop_id in {item.shop_id for item in items}}
        return [_prepare_one(item, keys[item.shop_id]) for item in items]


def _find_key(tx: Connection, shop_id: int) -> str | WorkError:
    try:
        return get_stripe_key(tx, shop_id)
    except WorkError as fault:
        return fault


def _prepare_one(item: WorkItem, key: str | WorkError) -> PreparedCall | Outcome:
    if isinstance(key, WorkError):
        return key
    payout_id = item.payload.get(PAYOUT)
    if isinstance(payout_id, str):
        return PreparedCall(item=item, act=partial(_fetch_payout, item, key, payout_id))
    try:
        event = read_object(item.body)
        event_id, created = read_text(event, "id"), read_instant(event, "created")
    except Unreadable as fault:
        return Refused("stripe.unreadable_event", str(fault))
    context = find_text(event, "context")
    return PreparedCall(item=item, act=partial(_fetch_object, item, key, event_id, created, context))


def _fetch_payout(item: WorkItem, key: str, payout_id: str) -> Outcome:
    base_url = get_settings().stripe_api_base
    try:
        fetch_balance_entries(item.shop_id, key, base_url, payout_id=payout_id, request_id=item.request_id)
    except WorkError as fault:
        return Done("gone") if fault.code == NOT_FOUND else fault
    return Done("fetched")


def _fetch_object(item: WorkItem, key: str, event_id: str, created: datetime, context: str) -> Outcome:
    """Fetch the thin event ``event_id``, then its object, and record the object's state as a new event.

    ``gone`` if Stripe no longer has one of them: events are kept for 30 days. ``ignored`` if the object is of
    another kind. A retry records nothing twice.
    """
    base_url = get_settings().stripe_api_base
    requested_at = utc_now()
    try:
        path = f"/v2/core/events/{quote(event_id, safe='')}"
        related = fetch_object(key, base_url, path, context=context).get("related_object")
        url = find_text(related, "url") if isinstance(related, Mapping) else ""
        if not url:
            return Done("ignored")
        source = fetch_object(key, base_url, url, context=context)
    except WorkError as fault:
        return Done("gone") if fault.code == NOT_FOUND else fault
    if source.get("object") not in KINDS:
        return Done("ignored")
    # The id contains that of the item's event, because a replay must fetch again.
    state = make_state_event(source, f"fetch:{event_id}:{item.event_id}", requested_at, not_before=created)
    events = plan_events(item.shop_id, [state], utc_now(), item.request_id)
    with transaction() as tx:
        refs = [ref for accepted in record_events(tx, events) for ref in accepted.work]
    send_messages(refs)
    return Done("fetched")
