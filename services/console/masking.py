"""Masks payloads: only values under a known name are shown, and only if they have its form. Pure."""

import re
from typing import Any

HIDDEN = "•••"

_ID_NAMES = """
id gid admin_graphql_api_id admin_graphql_api_order_id order_id orders_requested orders_to_redact
customer_id product_id variant_id inventory_item_id location_id assigned_location_id line_item_id
fulfillment_id fulfillment_order_id refund_id return_id transfer_id draft_order_id checkout_id
charge_id parent_id provider_id app_id shop_id user_id device_id event_id work_id call_id agent_id
charge payment_intent latest_charge balance_transaction failure_balance_transaction destination
payment_method order product variant customer invoice subscription dispute payout
"""
_TIME_NAMES = """
created_at updated_at processed_at closed_at cancelled_at completed_at placed_at received_at
occurred_at happened_at initiated_at published_at fulfilled_at estimated_delivery_at deleted_at
sent_at paid_at arrives_at created updated arrival_date available_on due_by evidence_due_by
evidence_sent_on finalized_on createdAt updatedAt answeredAt completedAt start_timestamp
end_timestamp since until day period
"""
_WORD_NAMES = """
status financial_status fulfillment_status shipment_status reconciliation_status topic type object
kind sku livemode test api_version apiVersion source_type restock_type restock direction paid
captured refunded disputed confirmed taxes_included taxable requires_shipping gift_card
capture_method quantity current_quantity fulfillable_quantity inventory_quantity available position
grams count tries attempt amount amount_capturable amount_captured amount_received amount_refunded
fee net cost cost_cents cents price discounted_price subtotal subtotal_price total_price total_tax
total_discount total_discounts total_line_items_price total_outstanding current_subtotal_price
current_total_price duration duration_ms pending_webhooks retry_count
"""
_CURRENCY_NAMES = "currency presentment_currency currency_code"

_ID = re.compile(
    r"gid://shopify/[A-Za-z]{1,40}/[0-9]{1,20}"
    r"|(?:ac|acct|agent|ba|call|card|ch|cs|cus|dp|du|evt|fee|ii|il|in|li|pi|pm|po|price|prod|py|pyr|re|req|seti"
    r"|si|src|sub|tr|txn|wh|we)_[A-Za-z0-9]{6,64}",
    re.ASCII,
)
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?)?"
)
_WORD = re.compile(r"[A-Za-z0-9_:/.+-]{1,64}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")

_FORMS = {
    **dict.fromkeys(_ID_NAMES.split(), _ID),
    **dict.fromkeys(_TIME_NAMES.split(), _TIME),
    **dict.fromkeys(_WORD_NAMES.split(), _WORD),
    **dict.fromkeys(_CURRENCY_NAMES.split(), _CURRENCY),
}
"""Whole name, from the payloads of our providers -> the form that a text under it has to be shown."""


def mask(value: Any, key: str = "") -> Any:
    """Return ``value`` with everything hidden that is not under a known name and of that name's form.

    Numbers need a known name too. Null and the empty text stay. A key that is not an identifier, such as a
    mail address or a number, is hidden; each hidden key has its number, so that none replaces another.
    """
    if isinstance(value, dict):
        names = {name: str(name) if _KEY.fullmatch(str(name)) else "" for name in value}
        return {
            names[name] or f"{HIDDEN} {place}": mask(one, names[name])
            for place, (name, one) in enumerate(value.items(), 1)
        }
    if isinstance(value, list):
        return [mask(one, key) for one in value]
    if value is None or value == "":
        return value
    form = _FORMS.get(key)
    if form is None or (isinstance(value, str) and not form.fullmatch(value)):
        return HIDDEN
    return value


def is_masked(value: Any) -> bool:
    """Return whether ``mask`` hides anything of ``value``."""
    return bool(mask(value) != value)
