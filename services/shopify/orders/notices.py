"""What is noted of an order: its risk, Shopify Protect, and what in its bodies is in doubt.

A table of its own: a notice may come before its order, and an order's own events do not tell of it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.fields import LARGEST_ID, Unreadable, find_instant, find_text, read_text
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EntityState, EntityUpdate
from services.shopify.partial_updates import FieldVersions, merge_field_versions, upsert_field_updates
from services.shopify.payload_fields import find_gid, find_id, find_object, read_gid
from services.shopify.upsert import EntitySpec, upsert_updates

_LEVELS = ("pending", "none", "low", "medium", "high")
_PROTECT = ("not_eligible", "eligible", "inactive", "active", "not_protected", "protected")


class OrderNotice(FieldVersions):
    """What was noted of an order. Each provider of risk assessments is a part of its own."""

    __slots__ = ()
    further = MappingProxyType({word: place for place, word in enumerate((*_LEVELS, *_PROTECT), start=1)})

    @property
    def risk_level(self) -> str:
        """The highest of what each provider said last: ``high``, ``medium``, ``low``, ``none``..."""
        said = [str(part.value) for part in self.each("risk:").values()]
        return max(said, key=lambda level: (self.further.get(level, 0), level), default="")

    @property
    def protect_status(self) -> str:
        """Shopify Protect's status of the order: ``pending``, ``active``, ``protected``..."""
        return self.text("protect_status")

    @property
    def protect_eligibility(self) -> str:
        """Whether Shopify Protect covers it: ``pending``, ``eligible``, ``not_eligible``."""
        return self.text("protect_eligibility")

    @property
    def doubts(self) -> str:
        """A line for each field that was not as it should be: its name, its value, what is recorded."""
        return "\n".join(sorted(str(part.value) for part in self.each("doubt:").values()))


class Doubts(NamedTuple):
    """What is in doubt in the body of ``item``, which is about the order ``order_gid``, as of ``at``."""

    item: WorkItem
    order_gid: str
    at: datetime
    lines: Sequence[str]

    @property
    def parts(self) -> dict[str, str | int | None]:
        """The lines by the field that each begins with."""
        return {f"doubt:{line.partition(' is ')[0]}": line for line in self.lines}

    @property
    def key(self) -> tuple[int, int]:
        """Which order this is about: the shop, and the number in the order's global id."""
        return self.item.shop_id, int(self.order_gid.rpartition("/")[2])

    @property
    def lock(self) -> tuple[int, str]:
        """What the transaction has to lock, with the other objects that it needs."""
        return self.item.shop_id, _KIND.lock(self.key[1])


def is_numbered(order_gid: str) -> bool:
    """Return whether a global id ends in an id of Shopify's: only such an order has a row for notices."""
    number = order_gid.rpartition("/")[2]
    return number.isascii() and number.isdecimal() and 0 < int(number) <= LARGEST_ID


def record_doubts(tx: Connection, found: Sequence[Doubts]) -> dict[int, list[Mutation]]:
    """Each order's notices have what is in doubt of it; return what the audit says of it, by work item.

    The caller holds the locks. A later doubt of the same field takes the place of the earlier one.
    """
    if not found:
        return {}
    told = [
        EntityUpdate(doubts.key, EntityState(OrderNotice.tell(doubts.at, doubts.parts))) for doubts in found
    ]
    return upsert_updates(tx, [doubts.item for doubts in found], told, _KIND, merge_field_versions).said


def ingest_order_notices(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every order's notices are the newest that were told, whether or not the order is known yet."""
    return upsert_field_updates(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> list[EntityUpdate[OrderNotice]]:
    source = read_event(item)
    number, told = _READERS[item.event_topic](source, item.event_time(now))
    return [EntityUpdate((item.shop_id, number), EntityState(told))]


def _read_risk(source: Mapping[str, Any], at: datetime) -> tuple[int, OrderNotice]:
    number = find_id(source, "order_id") or find_gid(source, "admin_graphql_api_order_id")
    if number is None:
        raise Unreadable("order_id", None, "the id of the order that was assessed")
    provider = find_gid(source, "provider_id") or 0
    values = {f"risk:{provider}": read_text(source, "risk_level").lower()}
    return number, OrderNotice.tell(find_instant(source, "created_at") or at, values)


def _read_protect(source: Mapping[str, Any], at: datetime) -> tuple[int, OrderNotice]:
    values = {
        "protect_status": read_text(source, "status").lower(),
        "protect_eligibility": find_text(find_object(source, "eligibility"), "status").lower(),
    }
    return read_gid(source, "order_id"), OrderNotice.tell(at, values)


_READERS: Mapping[str, Callable[[Mapping[str, Any], datetime], tuple[int, OrderNotice]]] = MappingProxyType(
    {
        "orders/risk_assessment_changed": _read_risk,
        "orders/shopify_protect_eligibility_changed": _read_protect,
    }
)

_FIND = """
select t.shop_id, v.id, null::timestamptz, t.updated_at, t.told
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join order_notices t on t.shop_id = v.shop_id and t.order_gid = 'gid://shopify/Order/' || v.id
"""

_WRITE = """
insert into order_notices (shop_id, order_gid, event_id, updated_at, told, risk_level, protect_status,
                           protect_eligibility, doubts)
select v.shop_id, 'gid://shopify/Order/' || v.id, v.event_id, v.updated_at, v.told, v.risk_level,
       v.protect_status, v.protect_eligibility, v.doubts
  from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[], %(updated_at)s::timestamptz[],
              %(told)s::jsonb[], %(risk_level)s::text[], %(protect_status)s::text[],
              %(protect_eligibility)s::text[], %(doubts)s::text[])
       as v(shop_id, id, event_id, updated_at, told, risk_level, protect_status, protect_eligibility, doubts)
on conflict (shop_id, order_gid) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, told = excluded.told,
   risk_level = excluded.risk_level, protect_status = excluded.protect_status,
   protect_eligibility = excluded.protect_eligibility, doubts = excluded.doubts
"""

_KIND = EntitySpec(
    table="order_notices",
    noun="notices of order",
    code="shopify.unreadable_order_notice",
    find=_FIND,
    make=OrderNotice.make,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "told": "text", "risk_level": "text", "protect_status": "text",
        "protect_eligibility": "text", "doubts": "text",
    },
    blank=OrderNotice({}),
    shown=("risk_level", "protect_status", "protect_eligibility", "doubts"),
    lock=lambda number: f"order-notice:{number}",
)  # fmt: skip
