"""The persons whom an event names: the inverse of ``body_redaction.concerns_subject``.

An archived event is sealed with the keys of these persons. A later redaction finds the same customer number,
mail address or telephone number, and destroys the key.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import text_array
from services.privacy.body_redaction import (
    ORDER_FIELDS,
    SHOPIFY_ID,
    compose,
    normalize_email,
    normalize_phone,
)
from services.privacy.subject import DataSubject
from services.privacy.text_data import parse_body

_EMAIL = re.compile(r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")
_PHONE = re.compile(r"\+?[\d\s().\-/]{7,24}")
_PHONE_IN_TEXT = re.compile(r"(?<!\w)\+?\(?\d(?:[\s().\-/]{0,3}\d){9,12}(?!\w)")
_PAYMENT = re.compile(r"(?:ch|pi|py|re|pyr|du|dp)_\w+")
_PHONE_FIELDS = frozenset(
    {
        "phone", "from", "to", "participants", "identifier", "external", "workspace", "senderidentifier",
        "recipientidentifiers", "customer_phone",
    }
)  # fmt: skip

_FIND_BY_ORDER = """
select distinct split_part(order_gid, '/', 5) as order_id, customer_id from orders
 where shop_id = %(shop_id)s and order_gid = any(%(gid)s::text[]) and customer_id is not null
"""

_FIND_BY_PAYMENT = """
select distinct t.payment_ref, o.customer_id
  from order_transactions t join orders o using (shop_id, order_gid)
 where t.shop_id = %(shop_id)s and t.payment_ref = any(%(ref)s::text[]) and o.customer_id is not null
"""

_FIND_REDACTED = """
select customer_id from customers
 where shop_id = %(shop_id)s and customer_id = any(%(id)s::bigint[]) and redacted_at is not null
"""


@dataclass(slots=True)
class NamedIds:
    """The ids in the body of an event."""

    customers: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    payments: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)
    phones: set[str] = field(default_factory=set)


def find_named(body: bytes, topic: str) -> NamedIds:
    """Return the ids in ``body``; of a body that is not JSON, the addresses and numbers in its text."""
    named = NamedIds()
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = parse_body(body)
    kind = topic.partition("/")[0]
    if isinstance(value, dict) and kind in ("customers", "orders"):
        _add_ids(named.customers if kind == "customers" else named.orders, value.get("id"))
    try:
        _collect(value, "", named)
    except RecursionError:
        value = body.decode("utf-8", "replace")
    if isinstance(value, str):
        _collect_text(f" {value}", "", named)
    return named


def _collect(value: Any, name: str, named: NamedIds) -> None:
    if isinstance(value, str):
        _collect_text(value, name, named)
    elif isinstance(value, list):
        for one in value:
            _collect(one, name, named)
    elif isinstance(value, dict):
        for key, one in value.items():
            lower = key.lower()
            if lower in ("customer", "customer_id"):
                _add_ids(named.customers, one)
            elif lower in ORDER_FIELDS:
                _add_ids(named.orders, one)
            _collect(one, lower, named)


def _collect_text(text: str, name: str, named: NamedIds) -> None:
    text = compose(text)
    if found := SHOPIFY_ID.match(text):
        (named.customers if found[1] == "Customer" else named.orders).add(found[2])
    elif "@" in text or " " in text:
        named.emails.update(filter(None, map(normalize_email, _EMAIL.findall(text))))
        named.phones.update(filter(None, map(normalize_phone, _PHONE_IN_TEXT.findall(text))))
    if _PAYMENT.fullmatch(text):
        named.payments.add(text)
    elif not found and (name in _PHONE_FIELDS or text[:1] == "+") and _PHONE.fullmatch(text):
        named.phones.update(filter(None, [normalize_phone(text)]))


def _add_ids(ids: set[str], value: Any) -> None:
    for one in value if isinstance(value, list) else [value]:
        number = one.get("id") if isinstance(one, dict) else one
        if str(number).isdecimal():
            ids.add(str(number))


def find_persons(
    tx: Connection, shop_id: int, events: Mapping[int, NamedIds]
) -> tuple[dict[int, set[str]], set[str]]:
    """Return the persons of each event as keys name them, and those customers who are redacted.

    The customer of an order or of a payment counts as named.
    """
    orders = {number for named in events.values() for number in named.orders}
    payments = {ref for named in events.values() for ref in named.payments}
    gids = text_array([f"gid://shopify/Order/{number}" for number in sorted(orders)])
    by_order = {
        row.order_id: str(row.customer_id)
        for row in tx.exec_driver_sql(_FIND_BY_ORDER, {"shop_id": shop_id, "gid": gids})
    }
    refs = text_array(sorted(payments))
    by_payment = {
        row.payment_ref: str(row.customer_id)
        for row in tx.exec_driver_sql(_FIND_BY_PAYMENT, {"shop_id": shop_id, "ref": refs})
    }
    persons: dict[int, set[str]] = {}
    customers: set[str] = set()
    for event_id, named in events.items():
        found = named.customers | _pick(by_order, named.orders) | _pick(by_payment, named.payments)
        customers |= found
        persons[event_id] = _name_persons(found, named.emails, named.phones)
    ids = [number for number in customers if int(number) < 2**63]
    values = {"shop_id": shop_id, "id": [int(number) for number in ids]}
    redacted = {f"customer:{number}" for number in tx.exec_driver_sql(_FIND_REDACTED, values).scalars()}
    return persons, redacted


def persons_of(subject: DataSubject) -> set[str]:
    """Return the person of a privacy request as keys name it."""
    customers = () if subject.customer_id is None else (str(subject.customer_id),)
    return _name_persons(customers, subject.emails, subject.phones)


def _name_persons(customers: Iterable[str], emails: Iterable[str], phones: Iterable[str]) -> set[str]:
    return {
        *(f"customer:{number}" for number in customers),
        *(f"email:{email}" for email in emails),
        *(f"phone:{phone}" for phone in phones),
    }


def _pick(found: Mapping[str, str], names: Iterable[str]) -> set[str]:
    return {found[name] for name in names if name in found}
