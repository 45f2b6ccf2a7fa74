"""Reads the body of a Shopify event: checks that it belongs to its topic, and reads common fields. Pure.

Shopify signs the body of a webhook but not its headers, so a genuine body of one topic can arrive with the
header of another. A handler therefore reads a body only if its keys are those of the topic.
Source: the sample payloads of 2026-07 at https://shopify.dev/docs/api/webhooks
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple, Self, TypeGuard, TypeVar

from services.core.fields import (
    LARGEST_ID,
    Unreadable,
    as_id,
    find_id,
    find_instant,
    find_object,
    find_text,
    read_object,
)
from services.core.money import MoneyInvalid, format_minor, round_to_minor, to_minor
from services.ledger.work import WorkItem

T = TypeVar("T")
_GID = "gid://shopify/"


class WrongBody(Unreadable):
    """The keys of a body are not those of its topic: the work item becomes dead, and nothing changes."""

    code = "shopify.wrong_body"


class TopicBody(NamedTuple):
    """The required keys of a topic's body.

    ``gid_type`` is the type in its global id (``gid://shopify/Order/1``). The body has every key of
    ``required``, null allowed. If ``only`` is given, it has no other key: so the short body of a deletion
    differs from all bodies that describe the object. It has at least one key outside ``more_than``, if given.
    """

    gid_type: str
    required: frozenset[str]
    only: frozenset[str] = frozenset()
    more_than: frozenset[str] = frozenset()


def _body(gid_type: str, required: str, more_than: str = "") -> TopicBody:
    return TopicBody(gid_type, frozenset(required.split()), more_than=frozenset(more_than.split()))


def _exact(gid_type: str, required: str, documented: str = "") -> TopicBody:
    return _body(gid_type, required)._replace(only=frozenset(f"{required} {documented}".split()))


_ITEM_DELETED = """
admin_graphql_api_id country_code_of_origin province_code_of_origin harmonized_system_code
country_harmonized_system_codes"""
_CUSTOMER_DELETED = """
admin_graphql_api_id tax_exemptions tax_exempt addresses phone email_marketing_consent
sms_marketing_consent"""
_SHOP = _body("", "id iana_timezone currency plan_name")

BODIES: tuple[tuple[str, TopicBody], ...] = (
    # topic (a pattern; the first match counts), its body
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
    ("inventory_items/delete", _exact("InventoryItem", "id", _ITEM_DELETED)),
    ("inventory_items/*", _body("InventoryItem", "id sku tracked")),
    ("inventory_levels/disconnect", _exact("InventoryLevel", "inventory_item_id location_id")),
    ("inventory_levels/*", _body("InventoryLevel", "inventory_item_id location_id available")),
    ("inventory_transfers/*", _body("InventoryTransfer", "id happened_at origin destination")),
    ("inventory_shipments/delete", _exact("InventoryShipment", "id happened_at")),
    ("inventory_shipments/*", _body("InventoryShipment", "happened_at", more_than="id happened_at")),
    ("locations/delete", _exact("Location", "id")),
    ("locations/*", _body("Location", "id name active")),
    ("customers/data_request", _exact("", "shop_id shop_domain customer orders_requested data_request")),
    ("customers/redact", _exact("", "shop_id shop_domain customer orders_to_redact")),
    ("shop/redact", _exact("", "shop_id shop_domain")),
    ("customers/delete", _exact("Customer", "id", _CUSTOMER_DELETED)),
    ("customers/*", _body("Customer", "id email first_name last_name updated_at")),
    ("shop/update", _SHOP),
    ("app/uninstalled", _SHOP),
)


def read_event(item: WorkItem) -> dict[str, Any]:
    """Return the JSON object in ``item``'s event; raise ``WrongBody`` if it does not belong to the topic."""
    source = read_object(item.body)
    check_body(item.event_topic, source)
    return source


def check_body(topic: str, source: Mapping[str, Any]) -> None:
    """Raise ``WrongBody`` unless ``source`` is the body of ``topic``; a topic not in ``BODIES`` passes."""
    body = find_body(topic)
    if body is None:
        return
    if missing := sorted(body.required - source.keys()):
        raise WrongBody("the body", _keys(source), f"that of {topic}, which has {', '.join(missing)}")
    if body.only and not source.keys() <= body.only:
        raise WrongBody("the body", _keys(source), f"that of {topic}: {', '.join(sorted(body.only))} only")
    if body.more_than and source.keys() <= body.more_than:
        raise WrongBody("the body", _keys(source), f"that of {topic}, which has more keys")
    check_gid_type(topic, body.gid_type, source.get("admin_graphql_api_id"))
    check_gid_type(topic, body.gid_type, source.get("id"))


def check_gid_type(topic: str, gid_type: str, found: object) -> None:
    """Raise ``WrongBody`` if ``found`` is a global id of another type than ``gid_type``."""
    prefix = f"{_GID}{gid_type}/"
    if gid_type and isinstance(found, str) and found.startswith(_GID) and not found.startswith(prefix):
        raise WrongBody("the global id", found, f"that of {topic}: {prefix}...")


@lru_cache(maxsize=512)
def find_body(topic: str) -> TopicBody | None:
    """Return the entry of ``topic`` in ``BODIES``; None without one."""
    return next((body for pattern, body in BODIES if fnmatchcase(topic, pattern)), None)


def _keys(source: Mapping[str, Any]) -> str:
    """Return the keys of a body without their values, which may be personal."""
    return ", ".join(sorted(source)[:12]) or "empty"


class MoneyReader:
    """Reads the amounts of one payload, in minor units of ``currency``, and collects ``doubts``.

    A doubt names a field that is not as Shopify documents it, and the value that is recorded instead. In a
    loop over ``each``, doubts also name the list and the index; in a ``with`` block, ``Unreadable`` does too.
    """

    __slots__ = ("_path", "currency", "doubts")

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.doubts: list[str] = []
        self._path: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, fault: BaseException | None, _trace: object) -> None:
        if isinstance(fault, Unreadable) and self._path:
            raise fault.within(".".join(self._places())) from None

    def _places(self) -> Iterator[str]:
        return (f"{name}[{index}]" for name, index in self._path.items())

    def each(self, name: str, entries: Sequence[T]) -> Iterator[T]:
        """Yield ``entries``, the list ``name``. The loop must run to its end or raise."""
        for self._path[name], entry in enumerate(entries):
            yield entry
        self._path.pop(name, None)

    def doubt(self, text: str) -> None:
        """Add a doubt; ``text`` begins with the name of the field."""
        self.doubts.append(".".join([*self._places(), text]))

    def amount(self, value: object, name: str, currency: str = "") -> int:
        """Return ``value``, a decimal string, in ``currency`` or the reader's currency.

        A JSON number is read as its shortest text, and extra decimals are rounded half away from zero: both
        are doubts. Any other value is ``Unreadable``.
        """
        currency = currency or self.currency
        try:
            return to_minor(value, currency)  # type: ignore[arg-type] # it refuses other types
        except MoneyInvalid as fault:
            text = plain_number(value) if is_number(value) else value
            try:
                cents = round_to_minor(text, currency)  # type: ignore[arg-type] # likewise
            except MoneyInvalid:
                raise Unreadable(name, value, f"an amount of money ({fault})") from None
        self.doubt(f"{name} is {text!r}: {format_minor(cents, currency)} is recorded")
        return cents

    def amount_or_none(self, value: object, name: str) -> int | None:
        if value == "0.00":  # most discounts and taxes: parsing is skipped
            return 0
        return None if value is None else self.amount(value, name)

    def shop_amount(self, bag: object, name: str) -> int | None:
        """Return the shop's amount in the money bag ``bag``; None without a bag."""
        if not isinstance(bag, dict) or not isinstance(money := bag.get("shop_money"), dict):
            return None
        return self.amount_or_none(money.get("amount"), f"{name}.shop_money.amount")

    def field(self, source: Mapping[str, Any], name: str) -> int:
        """Return the shop's amount in ``<name>_set``, else ``name``; 0 without either, or without a currency.

        The lines of a refund have money as a number, 89.99: here its shortest text is not a doubt.
        """
        if not self.currency:
            return 0
        in_bag = self.shop_amount(source.get(f"{name}_set"), f"{name}_set")
        if in_bag is not None or (value := source.get(name)) is None:
            return in_bag or 0
        return self.amount(plain_number(value) if is_number(value) else value, name)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def find_shop_currency(source: Mapping[str, Any], name: str) -> str:
    """Return the shop's own currency in a money bag; empty without one."""
    return find_text(find_object(find_object(source, name), "shop_money"), "currency_code")


def gid_number(gid: str | None) -> int | None:
    """Return the id at the end of a global id (``gid://shopify/Order/123``); None without one."""
    number = (gid or "").rpartition("/")[2]
    is_id = len(number) < 20 and number.isascii() and number.isdecimal() and int(number) <= LARGEST_ID
    return int(number) if is_id else None


_PROVINCES = {
    "alberta": "AB", "british columbia": "BC", "colombie-britannique": "BC", "manitoba": "MB",
    "new brunswick": "NB", "nouveau-brunswick": "NB", "newfoundland and labrador": "NL",
    "newfoundland": "NL", "terre-neuve-et-labrador": "NL", "northwest territories": "NT",
    "territoires du nord-ouest": "NT", "nova scotia": "NS", "nouvelle-ecosse": "NS", "nunavut": "NU",
    "ontario": "ON", "prince edward island": "PE", "ile-du-prince-edouard": "PE", "quebec": "QC",
    "saskatchewan": "SK", "yukon": "YT", "yukon territory": "YT",
}  # fmt: skip
"""Canada's provinces by name without accents, for an address without the code."""


def find_province(address: Mapping[str, Any]) -> str:
    """Return the ISO 3166-2 code of an address (``CA-BC``); only the country if no province is known."""
    country = find_text(address, "country_code")
    if not country and _normalize(find_text(address, "country")) == "canada":
        country = "CA"
    province = find_text(address, "province_code")
    if not province and country == "CA":
        name = _normalize(find_text(address, "province"))
        province = _PROVINCES.get(name) or (name.upper() if name.upper() in _PROVINCES.values() else "")
    return f"{country}-{province}" if country and province else country


def _normalize(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.strip().casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def plain_number(value: float | str) -> str:
    """Return a number's shortest text without an exponent: 0.05 is "0.05", 1e-05 is "0.00001"."""
    return format(Decimal(repr(value) if isinstance(value, float) else str(value)), "f")


def order_gid(order_id: int) -> str:
    """Return the global id of an order, as in Shopify's GraphQL and in the table ``orders``."""
    return f"{_GID}Order/{order_id}"


def find_order_gid(source: Mapping[str, Any]) -> str:
    """Return the global id of the order in the field ``order_id``; empty if it is absent or null."""
    return order_gid(order_id) if (order_id := find_id(source, "order_id")) else ""


def updated_at_or_event_time(source: Mapping[str, Any], item: WorkItem, now: datetime) -> datetime:
    return find_instant(source, "updated_at") or item.event_time(now)


def read_gid(source: Mapping[str, Any], name: str) -> int:
    """Return the id in the field, an id or a global id (``gid://shopify/Return/12``)."""
    value = source.get(name)
    if isinstance(value, str) and (number := gid_number(value)) is not None:
        value = number
    return as_id(value, name)


def find_gid(source: Mapping[str, Any], name: str) -> int | None:
    """Return the field like ``read_gid``; None if it is absent or null. Raises ``Unreadable``."""
    return None if source.get(name) is None else read_gid(source, name)
