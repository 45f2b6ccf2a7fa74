"""Notices of an order: its risk, Shopify Protect, and doubtful fields of its payloads.

A separate table: a notice may come before its order, and an order's own events do not contain it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.fields import Unreadable, find_id, find_instant, find_object, find_text, read_text
from services.ledger.work import WorkItem
from services.shopify.entities import EntityHandler, EntityKey, EntityUpdate, rank_values, upsert_parsed
from services.shopify.logistics.tables import order_notices
from services.shopify.partial_updates import FieldVersions, PartialEntitySpec
from services.shopify.payload import find_gid, order_gid, read_event, read_gid


class OrderNotice(FieldVersions):
    """The notices of an order. Each doubt, and the risk level of each provider, is a separate field."""

    ranks = rank_values(
        "pending", "none", "low", "medium", "high",
        "not_eligible", "eligible", "inactive", "active", "not_protected", "protected",
    )  # fmt: skip

    def columns(self) -> dict[str, Any]:
        """Return the columns: the highest risk level of all providers, and a line for each doubt."""
        levels = [str(field.value) for field in self.with_prefix("risk:")]
        return {
            "risk_level": max(levels, key=lambda level: (self.ranks.get(level, 0), level), default=""),
            "protect_status": self.text("protect_status"),
            "protect_eligibility": self.text("protect_eligibility"),
            "doubts": "\n".join(sorted(str(field.value) for field in self.with_prefix("doubt:"))),
        }


class OrderDoubts(NamedTuple):
    """The doubtful fields in the payload of ``item``, of the order ``order_gid``, at the time ``at``.

    A line begins with the name of its field: ``total_price is '12.5': 12.50 CAD is recorded``.
    """

    item: WorkItem
    order_gid: str
    at: datetime
    lines: Sequence[str]

    @property
    def key(self) -> EntityKey:
        """The shop, and the number in the order's global id."""
        return self.item.shop_id, int(self.order_gid.rpartition("/")[2])

    @property
    def lock(self) -> tuple[int, str]:
        return _SPEC.lock_of(self.key)


def record_order_doubts(tx: Connection, found: Sequence[OrderDoubts]) -> Mapping[int, list[Mutation]]:
    """Write the doubts into the notices of their orders; return the mutations, by work item.

    The caller has locked the notices. A later doubt of the same field replaces the earlier one.
    """
    if not found:
        return {}
    parsed = []
    for doubts in found:
        fields = {f"doubt:{line.partition(' is ')[0]}": line for line in doubts.lines}
        parsed.append([EntityUpdate(doubts.key, OrderNotice.from_event(doubts.at, fields))])
    return upsert_parsed(tx, [doubts.item for doubts in found], parsed, _SPEC).mutations


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[OrderNotice]]:
    source, at = read_event(item), item.event_time(now)
    if item.event_topic == "orders/risk_assessment_changed":
        number = find_id(source, "order_id") or find_gid(source, "admin_graphql_api_order_id")
        if number is None:
            raise Unreadable("order_id", None, "the id of the order that was assessed")
        provider = find_gid(source, "provider_id") or 0
        values = {f"risk:{provider}": read_text(source, "risk_level").lower()}
        at = find_instant(source, "created_at") or at
    else:  # orders/shopify_protect_eligibility_changed
        values = {
            "protect_status": read_text(source, "status").lower(),
            "protect_eligibility": find_text(find_object(source, "eligibility"), "status").lower(),
        }
        number = read_gid(source, "order_id")
    return [EntityUpdate((item.shop_id, number), OrderNotice.from_event(at, values))]


_SPEC = PartialEntitySpec(
    name="order_notice",
    table=order_notices,
    make=OrderNotice.from_row,
    audited=("risk_level", "protect_status", "protect_eligibility", "doubts"),
    row_key=lambda key: (key[0], order_gid(key[1])),
)

ingest_order_notices = EntityHandler(_SPEC, _parse)
