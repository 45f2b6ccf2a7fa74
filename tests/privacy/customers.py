"""Data of two customers: John, who requests redaction, and Jane, who does not."""

from random import Random
from typing import Any

import orjson
from sqlalchemy import Engine, select

from services.conversations.handler import ingest_interactions
from services.core.db import transaction
from services.ledger.accept import NewEvent
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BatchResult
from services.ledger.topics import TOPICS
from services.ledger.work import TransactionalHandler
from services.payments.handler import ingest_transactions
from services.privacy.customer_redaction import PrivacyRedactHandler
from services.privacy.export import PrivacyExportHandler
from services.schema.models import metadata
from services.shopify.logistics.fulfillments import ingest_fulfillments
from services.shopify.orders.customers import ingest_customers
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from services.shopify.payload import find_body
from tests.conversations import test_interactions as quo
from tests.ledger_rows import accept, new_event
from tests.shopify import sample_payloads

OWNER = "owner@harbour.example"
JOHN, JANE = 191167, 191168
JOHNS_ORDER, JANES_ORDER = 299938, 299950
JOHNS = (
    "john@example.com", "John", "Smith", "625-1199", "6251199", "625 1199", "Elm", "Ottawa", "K2H7A8",
    "Happy", "203.0.113.9", "JD014600003", "•••• 4242", "gate code",
)  # fmt: skip
"""Personal data that must be removed, as written in bodies, rows and mails."""
JANES = ("jane@example.com", "Jane", "Doe", "625-7700", "Oak Avenue", "Victoria")

GREETINGS = {
    "John": ("Happy", "gate code", "203.0.113.9", "4242"),
    "Jane": ("Merry", "side door", "198.51.100.7", "1881"),
}

EFFECTS: dict[str, TransactionalHandler] = {
    "order_ingest": ingest_orders,
    "refund_ingest": ingest_refunds,
    "customer_ingest": ingest_customers,
    "order_transaction_ingest": ingest_order_transactions,
    "fulfillment_ingest": ingest_fulfillments,
    "transaction_ingest": ingest_transactions,
    "interaction_ingest": ingest_interactions,
}


def address(first: str, last: str, street: str, city: str, phone: str) -> dict[str, Any]:
    return {
        "first_name": first,
        "last_name": last,
        "name": f"{first} {last}",
        "address1": street,
        "city": city,
        "zip": "K2H7A8" if first == "John" else "V8W1P6",
        "phone": phone,
        "latitude": 45.41634,
        "longitude": -75.6868,
        "province_code": "ON",
        "country_code": "CA",
    }


def customer(number: int, first: str, last: str, email: str, phone: str) -> dict[str, Any]:
    return {
        "id": number,
        "email": email,
        "phone": phone,
        "first_name": first,
        "last_name": last,
        "updated_at": sample_payloads.at(0),
        "note": f"{first} has the {GREETINGS[first][1]}",
        "tags": f"friend of {first}",
        "admin_graphql_api_id": f"gid://shopify/Customer/{number}",
    }


JOHN_TOLD = customer(JOHN, "John", "Smith", "john@example.com", "555-625-1199")
JANE_TOLD = customer(JANE, "Jane", "Doe", "jane@example.com", "555-625-7700")
AT_ELM = address("John", "Smith", "123 Elm St.", "Ottawa", "+1 (555) 625 1199")
AT_OAK = address("Jane", "Doe", "9 Oak Avenue", "Victoria", "555-625-7700")


def order(number: int, webhooks: dict[str, Any], where: dict[str, Any], updated: float = 0) -> dict[str, Any]:
    greeting, _, ip, card = GREETINGS[webhooks["first_name"]]
    item = sample_payloads.line(line_id=number + 1) | {
        "properties": [
            {"name": "Engraving", "value": f"{greeting} birthday {webhooks['first_name']}"},
            {"name": "Mechanic", "value": "Rosa"},
        ]
    }
    extra = {
        "customer": webhooks,
        "email": webhooks["email"],
        "contact_email": webhooks["email"],
        "phone": webhooks["phone"],
        "billing_address": where,
        "shipping_address": where,
        "browser_ip": ip,
        "client_details": {"browser_ip": ip, "user_agent": "Mozilla"},
        "note": f"{greeting} to wait, {webhooks['first_name']}",
        "note_attributes": [
            {"name": "Gift note", "value": f"{greeting} birthday"},
            {"name": "staff", "value": "Ada"},
        ],
        "payment_details": {
            "credit_card_number": f"•••• •••• •••• {card}",
            "credit_card_name": where["name"],
        },
        "subtotal_price": "12.50",
        "total_tax": "0.00",
    }
    body: dict[str, Any] = orjson.loads(
        sample_payloads.order(updated, number=number, lines=[item], **extra).body
    )
    return body


def stripe_charge() -> dict[str, Any]:
    """Return a charge with John's address in capitals."""
    charge = {
        "id": "ch_0000000001", "object": "charge", "amount": 1250, "amount_refunded": 0, "currency": "cad",
        "status": "succeeded", "paid": True, "created": 1_795_200_000, "receipt_email": "John@Example.com",
        "description": "Order of John Smith", "metadata": {"order_id": str(JOHNS_ORDER)},
        "billing_details": {"email": "John@Example.com", "name": "John Smith", "phone": "+15556251199",
                            "address": {"line1": "123 Elm St.", "city": "Ottawa", "postal_code": "K2H7A8"}},
        "payment_method_details": {"card": {"brand": "visa", "last4": "4242"}, "type": "card"},
    }  # fmt: skip
    return {
        "id": "evt_1", "object": "event", "type": "charge.succeeded", "created": 1_795_200_000,
        "data": {"object": charge},
    }  # fmt: skip


def history() -> list[NewEvent]:
    """Return all events about the two customers, from three providers."""
    johns_id = {"order_id": JOHNS_ORDER}
    refund = orjson.loads(sample_payloads.refund(number=JOHNS_ORDER, note="Happy to refund John").body)
    parcel = {
        "id": 900, **johns_id, "status": "success", "created_at": sample_payloads.at(5),
        "updated_at": sample_payloads.at(5),
        "email": "john@example.com", "destination": AT_ELM, "line_items": [{"quantity": 1}],
        "tracking_number": "JD014600003", "tracking_urls": ["https://example.org/track?n=JD014600003"],
    }  # fmt: skip
    paid = {
        "id": 901,
        **johns_id,
        "kind": "sale",
        "status": "success",
        "amount": "12.50",
        "currency": "CAD",
        "created_at": sample_payloads.at(1),
        "processed_at": sample_payloads.at(1),
        "receipt": {
            "id": "ch_0000000001",
            "billing_details": {"name": "John Smith", "email": "john@example.com"},
        },
        "payment_details": {"credit_card_number": "•••• 4242"},
    }
    message = {"id": "AC9", "object": "message", "from": "+15556251199", "to": ["+15550000001"], "direction":
            "incoming", "text": "John here, the gate code is 7", "status": "received",
            "createdAt": quo.stamp(0)}  # fmt: skip
    webhooks: list[tuple[str, str, Any]] = [
        ("shopify", "customers/create", JOHN_TOLD),
        ("shopify", "customers/create", JANE_TOLD),
        ("shopify", "orders/create", order(JOHNS_ORDER, JOHN_TOLD, AT_ELM)),
        ("shopify", "orders/updated", order(JOHNS_ORDER, JOHN_TOLD, AT_ELM, 10)),
        ("shopify", "orders/create", order(JANES_ORDER, JANE_TOLD, AT_OAK)),
        ("shopify", "refunds/create", refund),
        ("shopify", "fulfillments/create", parcel),
        ("shopify", "order_transactions/create", paid),
        ("shopify", "nobody/planned", {"customer_id": JOHN, "email": "john@example.com"}),
        ("stripe", "charge.succeeded", stripe_charge()),
        (
            "stripe",
            "customer.created",
            {"data": {"object": {"object": "customer", "email": "JOHN@Example.COM"}}},
        ),
        ("openphone", "message.received", orjson.loads(quo.legacy("message.received", 1, message).body)),
    ]
    events = [
        new_event(n, provider=provider, topic=topic, body=orjson.dumps(body), key=f"k{n}")
        for n, (provider, topic, body) in enumerate(webhooks, start=1)
    ]
    torn = b'{"email": "john@example.com", "phone": "555-625-1199", "name": "John Smith'
    return [*events, new_event(99, topic="orders/create", body=torn, readable=False)]


def process_events(engine: Engine, *events: NewEvent) -> None:
    """Accept the events and process them with the real runner."""
    accept(engine, *events)
    runner = TransactionalRunner(engine, "tester", Random(1))
    for topic, effect in EFFECTS.items():
        while runner.run_batch(TOPICS[topic], effect).claimed:
            pass


def request_privacy(
    engine: Engine, topic: str, number: int, redact: PrivacyRedactHandler | None = None, **changes: Any
) -> BatchResult:
    """Receive a privacy request from Shopify and process it. ``of``: the shop that receives it."""
    of = changes.pop("of", 1)
    whole: dict[str, Any] = {
        "shop_id": 954889, "shop_domain": "harbour.myshopify.com",
        "customer": {"id": JOHN, "email": "john@example.com", "phone": "555-625-1199"},
        "orders_to_redact": [JOHNS_ORDER], "orders_requested": [JOHNS_ORDER], "data_request": {"id": 9999},
    }  # fmt: skip
    shape = find_body(topic)
    body = {name: value for name, value in whole.items() if shape and name in shape.only} | changes
    event = new_event(
        number, shop_id=of, topic=topic, body=orjson.dumps(body), key="", delivery_key=f"privacy-{number}"
    )
    accept(engine, event)
    return work(engine, redact)


def work(engine: Engine, redact: PrivacyRedactHandler | None = None) -> BatchResult:
    """Process the waiting work of both topics once; by default Shopify confirms the uninstall."""
    runner, report = ExternalRunner(engine, "tester", Random(1)), BatchResult()
    report.add(runner.run_batch(TOPICS["privacy_export"], PrivacyExportHandler()))
    report.add(
        runner.run_batch(TOPICS["privacy_redact"], redact or PrivacyRedactHandler(check=lambda _shop: True))
    )
    return report


def unconfirmed() -> PrivacyRedactHandler:
    """Return a redaction while Shopify accepts the shop's token: the app is installed."""
    return PrivacyRedactHandler(check=lambda _shop: False)


def dump_rows(engine: Engine, *leave_out: str) -> str:
    """Return all rows of all tables as text, bytes decoded."""
    with transaction(engine) as tx:
        return "\n".join(
            f"{table.name}: {[_text(value) for value in row]}"
            for table in metadata.sorted_tables
            if table.name not in leave_out
            for row in tx.execute(select(table))
        )


def find_words(text: str, parts: tuple[str, ...]) -> set[str]:
    """Return the ``parts`` that are in ``text``, in any case."""
    return {word for word in parts if word.casefold() in text.casefold()}


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)
