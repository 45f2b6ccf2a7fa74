"""Check that the body of a Shopify event is that of its topic. Pure.

Shopify signs the body of a webhook and none of its headers, so a genuine body of one topic can arrive with
the header of another. A handler therefore reads a body only where its keys are those of the topic.
Source: the sample payloads of 2026-07 at https://shopify.dev/docs/api/webhooks
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from services.core.fields import Unreadable, read_object
from services.ledger.work import WorkItem


class WrongBody(Unreadable):
    """The keys of a body are not those of its topic: the work item becomes dead, and nothing changes."""

    code = "shopify.wrong_body"


@dataclass(frozen=True, slots=True)
class TopicBody:
    """The shape of a topic's body.

    ``gid_type`` is the type in the body's global id (``gid://shopify/Order/1``), where it has one. The body
    has every key of ``required``, null allowed. ``only``, where given, are all keys that it may have: so the
    short body of a deletion differs from every body that describes the same object. Where ``beyond`` is
    given it has another key than those.
    """

    gid_type: str
    required: frozenset[str]
    only: frozenset[str] = frozenset()
    beyond: frozenset[str] = frozenset()


def _body(gid_type: str, required: str, beyond: str = "") -> TopicBody:
    return TopicBody(gid_type, frozenset(required.split()), beyond=frozenset(beyond.split()))


def _exact(gid_type: str, required: str, documented: str = "") -> TopicBody:
    names = frozenset(required.split())
    return TopicBody(gid_type, names, names | frozenset(documented.split()))


BODIES: tuple[tuple[str, TopicBody], ...] = (
    # topic (a pattern; the first match decides), the shape of its body
    ("orders/delete", _exact("Order", "id")),
    ("orders/edited", _body("", "order_edit")),
    ("orders/risk_assessment_changed", _body("", "risk_level")),
    ("orders/shopify_protect_eligibility_changed", _body("", "order_id eligibility status")),
    ("orders/*", _body("Order", "id line_items total_price")),
    ("refunds/create", _body("Refund", "id order_id refund_line_items")),
    ("order_transactions/create", _body("OrderTransaction", "id order_id kind amount")),
    ("fulfillments/*", _body("Fulfillment", "id order_id status line_items")),
    ("fulfillment_events/*", _body("FulfillmentEvent", "id fulfillment_id happened_at")),
    ("returns/process", _body("Return", "")),
    ("returns/*", _body("Return", "admin_graphql_api_id")),
    ("reverse_deliveries/*", _body("ReverseDelivery", "id return")),
    ("reverse_fulfillment_orders/*", _body("ReverseFulfillmentOrder", "id dispositions")),
    ("tender_transactions/create", _body("", "id order_id payment_method remote_reference")),
    ("disputes/*", _body("", "id order_id initiated_at reason status")),
    ("products/delete", _exact("Product", "id")),
    ("products/*", _body("Product", "id title variants")),
    ("variants/*", _body("ProductVariant", "id product_id inventory_quantity")),
    (
        "inventory_items/delete",
        _exact(
            "InventoryItem",
            "id",
            "admin_graphql_api_id country_code_of_origin province_code_of_origin harmonized_system_code"
            " country_harmonized_system_codes",
        ),
    ),
    ("inventory_items/*", _body("InventoryItem", "id sku tracked")),
    ("inventory_levels/disconnect", _exact("InventoryLevel", "inventory_item_id location_id")),
    ("inventory_levels/*", _body("InventoryLevel", "inventory_item_id location_id available")),
    ("inventory_transfers/*", _body("InventoryTransfer", "id happened_at origin destination")),
    ("inventory_shipments/delete", _exact("InventoryShipment", "id happened_at")),
    ("inventory_shipments/*", _body("InventoryShipment", "happened_at", beyond="id happened_at")),
    ("locations/delete", _exact("Location", "id")),
    ("locations/*", _body("Location", "id name active")),
    ("customers/data_request", _exact("", "shop_id shop_domain customer orders_requested data_request")),
    ("customers/redact", _exact("", "shop_id shop_domain customer orders_to_redact")),
    ("shop/redact", _exact("", "shop_id shop_domain")),
    (
        "customers/delete",
        _exact(
            "Customer",
            "id",
            "admin_graphql_api_id tax_exemptions tax_exempt addresses phone email_marketing_consent"
            " sms_marketing_consent",
        ),
    ),
    ("customers/*", _body("Customer", "id email first_name last_name updated_at")),
    ("shop/update", _body("", "id iana_timezone currency plan_name")),
    ("app/uninstalled", _body("", "id iana_timezone currency plan_name")),
)

_GID = "gid://shopify/"


def read_event(item: WorkItem) -> dict[str, Any]:
    """Return the JSON object in ``item``'s event; raise ``WrongBody`` where it is not of the topic."""
    source = read_object(item.body)
    check_body(item.event_topic, source)
    return source


def check_body(topic: str, source: Mapping[str, Any]) -> None:
    """Raise ``WrongBody`` unless ``source`` is the body of ``topic``; a topic not in ``BODIES`` passes."""
    body = find_body(topic)
    if body is None:
        return
    if missing := sorted(body.required - source.keys()):
        raise WrongBody("the body", _names(source), f"that of {topic}, which has {', '.join(missing)}")
    if body.only and not source.keys() <= body.only:
        raise WrongBody("the body", _names(source), f"that of {topic}: {', '.join(sorted(body.only))} only")
    if body.beyond and source.keys() <= body.beyond:
        raise WrongBody("the body", _names(source), f"that of {topic}, which has more keys")
    check_gid_type(topic, body.gid_type, source.get("admin_graphql_api_id"))
    check_gid_type(topic, body.gid_type, source.get("id"))


def check_gid_type(topic: str, gid_type: str, found: object) -> None:
    """Raise ``WrongBody`` where ``found`` is the global id of another type than ``gid_type``."""
    prefix = f"{_GID}{gid_type}/"
    if gid_type and isinstance(found, str) and found.startswith(_GID) and not found.startswith(prefix):
        raise WrongBody("the global id", found, f"that of {topic}: {prefix}...")


@lru_cache(maxsize=512)
def find_body(topic: str) -> TopicBody | None:
    """Return the shape of the body of ``topic``; None where ``BODIES`` has none."""
    return next((body for pattern, body in BODIES if fnmatchcase(topic, pattern)), None)


def _names(source: Mapping[str, Any]) -> str:
    """Return the keys of a body without their values, which may be personal."""
    return ", ".join(sorted(source)[:12]) or "empty"
