"""Remove a person from texts and JSON; ids, money, skus and times stay. Pure.

A redacted event can be replayed: it yields the same order, without the person.
"""

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from unicodedata import normalize

from services.privacy.subject import DataSubject

HIDDEN = "[redacted]"

_BLANKED = frozenset(
    {
        "email", "contact_email", "receipt_email", "customer_email", "phone", "first_name", "last_name",
        "company", "address1", "address2", "line1", "line2", "zip", "postal_code", "city", "latitude",
        "longitude", "note", "browser_ip", "ip", "ip_address", "client_ip", "user_agent", "client_details",
        "landing_site", "landing_site_ref", "referring_site", "order_status_url", "token", "cart_token",
        "checkout_token", "tracking_number", "tracking_numbers", "tracking_url", "tracking_urls",
        "payment_details", "payment_method_details", "receipt_url", "customer_purchase_ip",
        "customer_email_address", "customer_name", "customer_signature", "multipass_identifier",
        "default_address", "addresses", "shop_owner", "tags", "description", "reason_notes",
        "public_file_url",
    }
)  # fmt: skip
"""Fields with personal data at any place of Shopify's and Stripe's JSON."""

_CONVERSATION = frozenset(
    {
        "from", "to", "participants", "senderidentifier", "recipientidentifiers", "external", "workspace",
        "body", "text", "content", "dialogue", "summary", "nextsteps", "media", "url", "transcript",
        "identifier", "contactids", "subject",
    }
)  # fmt: skip
"""Fields of an event of Quo or of a mail with the participants or the content."""

_PEOPLE = frozenset(
    {
        "customer", "billing_address", "shipping_address", "address", "destination", "billing_details",
        "shipping", "shipping_details", "customer_details", "recipient", "individual", "owner",
    }
)  # fmt: skip
"""Objects whose ``name`` is a person's. Elsewhere it is the name of an order, a product or a tax."""

_METADATA = "metadata"
"""Data that a shop's programs sent to Stripe: only references to orders stay."""

_ATTRIBUTES = frozenset({"note_attributes", "properties"})
"""Lists of {name, value} from the shop's forms."""

STAFF_ATTRIBUTES = frozenset({"mechanic", "technician", "staff", "served by"})
"""Names of attributes about the shop's staff, which the order's statistics need."""

_FEWEST_DIGITS = 7
"""A number with fewer digits is not specific enough to identify a person."""


def compose(text: str) -> str:
    """Return ``text`` in Unicode's normal form C, in which all texts are compared."""
    return normalize("NFC", text)


def normalize_email(text: object) -> str:
    """Return a mail address in lower case and in normal form C, or "" if ``text`` is none."""
    found = compose(text.strip().lower()) if isinstance(text, str) else ""
    return found if "@" in found else ""


def normalize_phone(text: object) -> str:
    """Return a number's digits, or "" if there are too few.

    Drops the country code of North American numbers, so that 555-625-1199 and +1 555 625 1199 are equal.
    """
    digits = re.sub(r"\D", "", text) if isinstance(text, str) else ""
    if len(digits) == 11 and digits[0] == "1":
        digits = digits[1:]
    return digits if len(digits) >= _FEWEST_DIGITS else ""


def hide_text(text: str, subject: DataSubject) -> str:
    """Return ``text`` with the subject's addresses, numbers and names hidden, in any spelling.

    A text that names the subject is returned in normal form C, any other as it is.
    """
    pattern, composed = _contacts(subject.emails, subject.phones, subject.names), compose(text)
    return pattern.sub(HIDDEN, composed) if pattern is not None and pattern.search(composed) else text


def contains_subject(text: str, subject: DataSubject) -> bool:
    """Whether ``text`` contains an address, a number or a name of the subject."""
    pattern = _contacts(subject.emails, subject.phones, subject.names)
    return pattern is not None and pattern.search(compose(text)) is not None


def concerns_subject(value: Any, subject: DataSubject, topic: str = "") -> bool:
    """Whether the JSON ``value``, the body of an event of ``topic``, is about the subject.

    Compares ids of customers and orders in their fields, payment ids anywhere, and addresses and numbers. A
    name alone does not count: two people may have the same.
    """
    of_topic = {"customers": customer_ids(subject), "orders": subject.order_ids}
    ids = of_topic.get(topic.partition("/")[0], frozenset())
    if isinstance(value, dict) and str(value.get("id")) in ids:
        return True
    return _is_about(value, subject, _contacts(subject.emails, subject.phones, frozenset()))


def blank_personal_fields(
    value: Any, subject: DataSubject, *, topic: str = "", conversation: bool = False
) -> Any:
    """Return the JSON ``value``, the body of an event of ``topic``, in the same shape without the person.

    ``conversation``: it is a call or message; participants and content are removed.
    """
    return _blank(value, subject, conversation, "customer" if topic.startswith("customers/") else "")


SHOPIFY_ID = re.compile(r"gid://shopify/(Customer|Order)/(\d+)")
ORDER_FIELDS = frozenset(
    {"order", "order_id", "orders", "orders_requested", "orders_to_redact", "shopify_order_id"}
)
"""Fields with an order's number, an object with it, or a list of these."""
_SEPARATED = r"[\s().\-/]{0,3}"


@lru_cache(maxsize=256)
def _contacts(
    emails: frozenset[str], phones: frozenset[str], names: frozenset[str]
) -> re.Pattern[str] | None:
    parts = [rf"(?<![\w.+\-]){re.escape(compose(email))}(?![\w\-]|\.\w)" for email in sorted(emails)]
    parts += [
        rf"(?<!\d)(?:\+?\d{{1,3}}{_SEPARATED})?\(?{_SEPARATED.join(number)}(?!\d)"
        for number in sorted(phones)
    ]
    parts += [rf"(?<!\w){re.escape(name)}(?!\w)" for name in list_forms(names)]
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def list_forms(names: frozenset[str]) -> list[str]:
    """Return the names as text and as HTML, the longest first: a mail has both."""
    names = frozenset(map(compose, names))
    as_html = {html.escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") for name in names}
    return sorted({*names, *as_html}, key=lambda name: (-len(name), name))


def customer_ids(subject: DataSubject) -> frozenset[str]:
    """Return the customer's number, if there is one."""
    return frozenset() if subject.customer_id is None else frozenset({str(subject.customer_id)})


def _is_about(value: Any, subject: DataSubject, contacts: re.Pattern[str] | None) -> bool:
    if isinstance(value, str):
        found = SHOPIFY_ID.match(value)
        if found is not None:
            return found[2] in (customer_ids(subject) if found[1] == "Customer" else subject.order_ids)
        is_payment = value in subject.payment_refs
        return is_payment or (contacts is not None and contacts.search(compose(value)) is not None)
    if isinstance(value, list):
        return any(_is_about(one, subject, contacts) for one in value)
    return isinstance(value, dict) and any(
        not _wanted_ids(name, subject).isdisjoint(map(str, _ids_of(one))) or _is_about(one, subject, contacts)
        for name, one in value.items()
    )


def _wanted_ids(name: str, subject: DataSubject) -> frozenset[str]:
    if name in ("customer", "customer_id"):
        return customer_ids(subject)
    if name in ORDER_FIELDS:
        return subject.order_ids
    return frozenset()


def _ids_of(value: Any) -> Iterable[Any]:
    """Return the ids in ``value``: an id, an object with an id, or a list of these."""
    entries = value if isinstance(value, list) else [value]
    return [entry.get("id") if isinstance(entry, dict) else entry for entry in entries]


def _blank(value: Any, subject: DataSubject, conversation: bool, under: str) -> Any:
    if isinstance(value, str):
        return hide_text(value, subject)
    if isinstance(value, list):
        return [_blank(one, subject, conversation, under) for one in value]
    if not isinstance(value, dict):
        return value
    removed = _BLANKED
    if under in _PEOPLE or value.get("object") == "customer":
        removed |= {"name"}
    if under == _METADATA:
        removed |= {name.lower() for name in value if "order" not in name.lower()}
    if under in _ATTRIBUTES and str(value.get("name")).strip().casefold() not in STAFF_ATTRIBUTES:
        removed |= {"value"}
    redacted: dict[str, Any] = {}
    for name, one in value.items():
        lower = name.lower()
        if conversation and lower in _CONVERSATION:
            kept = _hide_all(one)
        else:
            kept = _empty(one) if lower in removed else _blank(one, subject, conversation, lower)
        redacted[hide_text(name, subject)] = kept
    return redacted


def _hide_all(value: Any) -> Any:
    """Return ``value`` in the same shape with every text hidden."""
    if isinstance(value, str):
        return HIDDEN if value else value
    if isinstance(value, list):
        return [_hide_all(one) for one in value]
    if isinstance(value, dict):
        return {name: _hide_all(one) for name, one in value.items()}
    return value


def _empty(value: Any) -> Any:
    return type(value)() if isinstance(value, list | dict) else None
