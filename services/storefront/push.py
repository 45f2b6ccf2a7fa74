"""Topic ``inventory_push``: Shopify is told what a level holds now."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID, uuid5

from sqlalchemy import Connection

from services.audit.chain import Entry
from services.core.arrays import int_array, text_array
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.errors import Misconfigured, Refused, WorkError
from services.core.settings import get_settings
from services.ledger.limits import record_throttle
from services.ledger.work import Done, Outcome, Prepared, Recorded, WorkItem
from services.providers.shopify_answers import ThrottleStatus
from services.shops.secrets import get_secret
from services.storefront.levels import Level
from services.storefront.push_plan import PUSH_TOPIC, Cause, find_differing, plan_pushes
from services.storefront.said_stock import say_push

if TYPE_CHECKING:
    import httpx

    from services.providers import shopify_admin

NAMESPACE = UUID("7b6c2a0e-5d0f-4f53-9a55-0d1c5f4f6a11")
"""Idempotency keys are UUIDs made of a work item's id under this name, so every try has the same one."""

HOPS = 10
"""How often in a row a push may find that the shop's stock moved, before a person looks."""

HOP_WAIT = timedelta(seconds=15)
"""Time for the webhook that tells of the move to arrive first."""

_MOVED = frozenset({"shopify.stock_moved", "shopify.idempotency_previous_attempt_failed"})
_GONE = frozenset({"shopify.invalid_inventory_item", "shopify.item_not_stocked_at_location"})


class Shelf(Protocol):
    """A shop's stock at Shopify; ``throttle`` is what it last said about its rate."""

    throttle: ThrottleStatus | None

    def set_available(
        self,
        quantity: int,
        change_from_quantity: int | None,
        inventory_item_id: int,
        location_id: int,
        reference: str,
        idempotency_key: str,
    ) -> "shopify_admin.SetResult":
        """Set the quantity once per key, if it still is ``change_from_quantity``."""
        ...

    def get_available(self, inventory_item_id: int, location_id: int) -> "shopify_admin.Level":
        """Return the level as the shop has it."""
        ...


OpenShelf = Callable[[str, str], Shelf]
"""Opens the shop of (domain, token)."""


class Intent(NamedTuple):
    """What one push asks for. ``known`` is what Shopify was known to hold when the try began."""

    level: Level
    quantity: int
    change_from: int | None
    known: int | None


_FIND_LEVELS = """
select v.shop_id, v.key, l.inventory_item_id, l.location_id, l.sku, l.available, l.shopify_available
  from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
  join inventory_levels l on l.shop_id = v.shop_id
       and l.inventory_item_id = split_part(v.key, ':', 1)::bigint
       and l.location_id = split_part(v.key, ':', 2)::bigint
"""

_FIND_DOMAINS = "select shop_id, shopify_domain from shop_config where shop_id = any(%(shop_id)s::int[])"

# A webhook that came during the call knows better than the call's own answer: then nothing is written.
_LEARN = """
update inventory_levels set shopify_available = %(available)s
 where shop_id = %(shop_id)s and inventory_item_id = %(item)s and location_id = %(location)s
   and shopify_available is not distinct from %(known)s::int
"""


def open_shopify(domain: str, token: str) -> Shelf:
    """Return the Admin API of ``domain``, or the sandbox's where the settings say so."""
    # Loaded where it is used: every worker knows this module, and one of them calls Shopify.
    from services.providers.shopify_admin import ShopifyAdmin, admin_base_url

    return ShopifyAdmin(_http(), admin_base_url(domain, get_settings().shopify_api_base), token)


@cache
def _http() -> "httpx.Client":
    """One pool of connections a process, made at first use: after the fork."""
    import httpx

    return httpx.Client()


class InventoryPush:
    """Pushes levels. ``open_shelf`` reaches a shop's stock; ``clock`` dates what an answer says."""

    def __init__(self, open_shelf: OpenShelf = open_shopify, clock: Callable[[], datetime] = utc_now) -> None:
        self._open_shelf, self._clock = open_shelf, clock

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[Prepared | Outcome]:
        """Return, per item, the call that makes Shopify hold the level's present figure.

        What is asked is stored with the item before the call. A later try asks for the same, since it
        goes out under the same idempotency key; a figure that changed meanwhile is a later push's.
        """
        del now
        levels = _find_levels(tx, items)
        shops = sorted({item.shop_id for item in items})
        domains = {r[0]: r[1] for r in tx.exec_driver_sql(_FIND_DOMAINS, {"shop_id": int_array(shops)})}
        tokens = {shop_id: _find_token(tx, shop_id) for shop_id in shops}
        return [
            self._prepare_one(
                item,
                levels.get((item.shop_id, item.key)),
                domains.get(item.shop_id) or "",
                tokens[item.shop_id],
            )
            for item in items
        ]

    def _prepare_one(
        self,
        item: WorkItem,
        found: tuple[Level, int, int | None] | None,
        domain: str,
        token: str | Misconfigured,
    ) -> Prepared | Outcome:
        if found is None:
            return Done("no_level")
        level, available, known = found
        # A push that may have happened is asked again, whatever the figures say by now: only the answer
        # tells what Shopify holds.
        if available == known and "quantity" not in item.payload:
            return Done("in_sync")
        if not domain:
            return Misconfigured(
                "shopify.no_domain",
                "the shop has no shopify_domain: `fleet shops set SHOP --shopify-domain NAME.myshopify.com`, "
                "then requeue",
            )
        if isinstance(token, Misconfigured):
            return token
        payload = dict(item.payload)
        payload.setdefault("quantity", available)
        payload.setdefault("change_from_quantity", known)
        intent = Intent(level, payload["quantity"], payload["change_from_quantity"], known)
        shelf = self._open_shelf(domain, token)
        return Prepared(item=item, act=partial(self._push, item, intent, shelf), payload=payload)

    def _push(self, item: WorkItem, intent: Intent, shelf: Shelf) -> Outcome:
        """Set the quantity; where the shop's own figure moved first, look, and leave it to a later push."""
        level = intent.level
        try:
            shelf.set_available(
                quantity=intent.quantity,
                change_from_quantity=intent.change_from,
                inventory_item_id=level.inventory_item_id,
                location_id=level.location_id,
                reference=f"gid://shopfleet/Work/{item.id}",
                idempotency_key=str(uuid5(NAMESPACE, f"inventory_push:{item.id}")),
            )
        except WorkError as fault:
            return self._look(item, intent, shelf) if fault.code in _MOVED else fault
        return Done("pushed", self._learning(item, intent, intent.quantity, shelf.throttle, "pushed"))

    def _look(self, item: WorkItem, intent: Intent, shelf: Shelf) -> Outcome:
        level = intent.level
        try:
            there = shelf.get_available(level.inventory_item_id, level.location_id).available
        except WorkError as fault:
            return Done("not_stocked") if fault.code in _GONE else fault
        if there == intent.quantity:
            return Done("in_sync", self._learning(item, intent, there, shelf.throttle, "in_sync"))
        hops = int(item.payload.get("hops", 0)) + 1
        if hops > HOPS:
            return Refused(
                "shopify.stock_contended",
                f"the shop's stock moved {hops} times in a row before a push of {intent.quantity}: "
                "look which other system sets this level, then requeue",
            )
        return Done("superseded", self._learning(item, intent, there, shelf.throttle, "superseded", hops))

    def _learning(
        self,
        item: WorkItem,
        intent: Intent,
        there: int,
        throttle: ThrottleStatus | None,
        verdict: str,
        hops: int = 0,
    ) -> Callable[[Connection], Recorded]:
        """Return what to write down: Shopify holds ``there``. A push follows if ours is another figure."""
        answered_at = self._clock()

        def record(tx: Connection) -> Recorded:
            level = intent.level
            learned = tx.exec_driver_sql(
                _LEARN,
                {
                    "available": there,
                    "shop_id": level.shop_id,
                    "item": level.inventory_item_id,
                    "location": level.location_id,
                    "known": intent.known,
                },
            ).rowcount
            if throttle is not None:
                record_throttle(
                    tx,
                    level.shop_id,
                    "shopify",
                    maximum=throttle.maximum_available,
                    available=throttle.currently_available,
                    restore_per_second=throttle.restore_rate,
                    now=answered_at,
                )
            causes = {(level.shop_id, level.sku): Cause(item.event_id, item.request_id)}
            payload: dict[str, Any] = {"hops": hops} if hops else {}
            not_before = answered_at + HOP_WAIT if hops else None
            moved_on = find_differing(tx, [level])
            pushes = plan_pushes(tx, moved_on, causes, payload=payload, not_before=not_before)
            said = say_push(level, verdict, there, intent.change_from, intent.known if learned else there)
            entry = Entry(item.shop_id, PUSH_TOPIC, PUSH_TOPIC, item.request_id, said, item.id)
            return Recorded(pushes, [entry] if said else ())

        return record


def _find_token(tx: Connection, shop_id: int) -> str | Misconfigured:
    """Return the shop's access token, or what must be mended before there can be a push."""
    try:
        token = get_secret(tx, shop_id, "shopify-token")
    except SealBroken as fault:
        return Misconfigured("shopify.token_unreadable", f"the shop's shopify-token does not open: {fault}")
    return token or Misconfigured(
        "shopify.no_token", "the shop has no shopify-token: record its Admin API token, then requeue this"
    )


def _find_levels(
    tx: Connection, items: Sequence[WorkItem]
) -> dict[tuple[int, str], tuple[Level, int, int | None]]:
    rows = tx.exec_driver_sql(
        _FIND_LEVELS,
        {"shop_id": int_array(item.shop_id for item in items), "key": text_array([i.key for i in items])},
    )
    return {(r[0], r[1]): (Level(r[0], r[2], r[3], r[4]), r[5], r[6]) for r in rows}
