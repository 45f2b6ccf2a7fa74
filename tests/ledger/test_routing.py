"""The work that each event plans."""

import pytest

from services.ledger.topics import plan_topic
from services.providers.openphone import EVENT_TYPES


@pytest.mark.parametrize(
    ("provider", "topic", "work"),
    [
        ("shopify", "orders/create", "order_ingest"),
        ("shopify", "orders/updated", "order_ingest"),
        ("shopify", "orders/paid", "order_ingest"),
        ("shopify", "orders/cancelled", "order_ingest"),
        ("shopify", "orders/fulfilled", "order_ingest"),
        ("shopify", "orders/partially_fulfilled", "order_ingest"),
        ("shopify", "refunds/create", "refund_ingest"),
        ("shopify", "products/create", "product_ingest"),
        ("shopify", "products/update", "product_ingest"),
        ("shopify", "inventory_levels/connect", "inventory_level_ingest"),
        ("shopify", "inventory_levels/update", "inventory_level_ingest"),
        ("stripe", "charge.succeeded", "transaction_ingest"),
        ("stripe", "charge.refunded", "transaction_ingest"),
        ("stripe", "charge.refund.updated", "transaction_ingest"),
        ("stripe", "refund.created", "transaction_ingest"),
        ("stripe", "payment_intent.succeeded", "transaction_ingest"),
        ("stripe", "charge.dispute.created", "transaction_ingest"),
        ("stripe", "customer.created", None),
        ("openphone", "message.received", "interaction_ingest"),
        ("openphone", "call.summary.completed", "interaction_ingest"),
        ("openphone", "contact.updated", "contact_ingest"),
        ("openphone", "task.assigned", None),
        ("standard:till", "orders/create", None),
        ("standard:mail", "untyped", "mail_ingest"),
        ("resend", "email.received", "mail_ingest"),
        ("resend", "email.opened", None),
    ],
)
def test_an_event_plans_its_work_or_none(provider: str, topic: str, work: str | None) -> None:
    planned = plan_topic(provider, topic)
    assert (planned.name if planned else None) == work


def test_every_event_type_of_quo_has_work() -> None:
    assert len(EVENT_TYPES) == 14
    planned = [plan_topic("openphone", topic) for topic in EVENT_TYPES]
    assert {topic and topic.name for topic in planned} == {"interaction_ingest", "contact_ingest"}
