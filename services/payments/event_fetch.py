"""Topic ``event_fetch``: what a thin event of Stripe's only points at is fetched and enters the books."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol
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
from services.payments.balance import fetch_balance_entries
from services.payments.fetch_plan import PAYOUT
from services.payments.payload import KINDS
from services.payments.stripe_key import get_stripe_key
from services.payments.synthetic_event import plan_state_event
from services.providers.stripe_api import NOT_FOUND, get_object


class GetObject(Protocol):
    """Returns the object at a path of Stripe's; see ``stripe_api.get_object``."""

    def __call__(self, key: str, base_url: str, url: str, *, context: str = "") -> dict[str, Any]:
        """Raise a ``WorkError`` where Stripe does not answer."""
        ...


class PullPayout(Protocol):
    """Brings the balance entries of a payout; see ``balance.fetch_balance_entries``."""

    def __call__(self, shop_id: int, key: str, base_url: str, *, payout_id: str, request_id: str) -> int:
        """Raise a ``WorkError`` where Stripe does not answer."""
        ...


class _Thin(NamedTuple):
    """A thin event: what it says by itself."""

    id: str
    created: datetime
    context: str


class EventFetch:
    """Asks Stripe for what an event left out. ``clock`` dates what the answer says."""

    def __init__(
        self,
        get_from_stripe: GetObject = get_object,
        pull_payout: PullPayout = fetch_balance_entries,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._get, self._pull, self._clock = get_from_stripe, pull_payout, clock

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return, per item, the call that fetches the event's object, or the entries of its payout."""
        del now
        keys = {shop_id: _find_key(tx, shop_id) for shop_id in {item.shop_id for item in items}}
        return [self._prepare_one(item, keys[item.shop_id]) for item in items]

    def _prepare_one(self, item: WorkItem, key: str | WorkError) -> PreparedCall | Outcome:
        if isinstance(key, WorkError):
            return key
        payout_id = item.payload.get(PAYOUT)
        if isinstance(payout_id, str):
            return PreparedCall(item=item, act=partial(self._fetch_entries, item, key, payout_id))
        try:
            thin = _read_thin(item.body)
        except Unreadable as fault:
            return Refused("stripe.unreadable_event", str(fault))
        return PreparedCall(item=item, act=partial(self._fetch, item, key, thin))

    def _fetch_entries(self, item: WorkItem, key: str, payout_id: str) -> Outcome:
        base_url = get_settings().stripe_api_base
        try:
            self._pull(item.shop_id, key, base_url, payout_id=payout_id, request_id=item.request_id)
        except WorkError as fault:
            return Done("gone") if fault.code == NOT_FOUND else fault
        return Done("fetched")

    def _fetch(self, item: WorkItem, key: str, thin: _Thin) -> Outcome:
        """Fetch the event, then its object; one of ours enters as the event that a snapshot would be.

        ``gone`` where Stripe has either no more: events are kept for 30 days. ``ignored`` where the event is
        about nothing that the books hold. A try that is repeated finds what it entered before.
        """
        base_url = get_settings().stripe_api_base
        asked_at = self._clock()
        try:
            event = self._get(
                key, base_url, f"/v2/core/events/{quote(thin.id, safe='')}", context=thin.context
            )
            url = find_text(_related(event), "url")
            if not url:
                return Done("ignored")
            source = self._get(key, base_url, url, context=thin.context)
        except WorkError as fault:
            return Done("gone") if fault.code == NOT_FOUND else fault
        if source.get("object") not in KINDS:
            return Done("ignored")
        learned = plan_state_event(
            item.shop_id,
            source,
            # A replay has a row of its own, and is there to ask again.
            delivery_key=f"fetch:{thin.id}:{item.event_id}",
            asked_at=asked_at,
            now=self._clock(),
            request_id=item.request_id,
            not_before=thin.created,
        )
        with transaction() as tx:
            refs = [ref for accepted in record_events(tx, [learned]) for ref in accepted.work]
        send_messages(refs)
        return Done("fetched")


def _find_key(tx: Connection, shop_id: int) -> str | WorkError:
    try:
        return get_stripe_key(tx, shop_id)
    except WorkError as fault:
        return fault


def _read_thin(body: bytes) -> _Thin:
    event = read_object(body)
    return _Thin(read_text(event, "id"), read_instant(event, "created"), find_text(event, "context"))


def _related(event: Mapping[str, Any]) -> Mapping[str, Any]:
    value = event.get("related_object")
    return value if isinstance(value, dict) else {}
