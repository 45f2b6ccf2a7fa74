"""Every table that an event changes is in the audit chain; real runner."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS, HandlerMode
from services.ledger.work import NewWork, WorkItem
from services.schema.models import metadata
from tasks.handlers import TRANSACTIONAL
from tests.conversations.test_interactions import call
from tests.ledger_rows import accept, new_event
from tests.payments.test_transactions import charge
from tests.shopify import logistics_payloads as events
from tests.shopify.sample_payloads import add_shop, ingest, level, line, order, product, refund
from tests.shopify.test_logistics import customer, fulfillment, location, payment, stock_item
from tests.shopify.test_shop_profile import shop_update as storefront

SAMPLES: dict[str, tuple[str, str, Callable[[], WorkItem]]] = {
    "order_ingest": ("shopify", "orders/create", lambda: order(lines=[line(quantity=2)])),
    "refund_ingest": ("shopify", "refunds/create", refund),
    "product_ingest": ("shopify", "products/update", lambda: product("CUP", 9)),
    "inventory_level_ingest": (
        "shopify", "inventory_levels/update", lambda: level(4, 9),
    ),
    "order_transaction_ingest": (
        "shopify", "order_transactions/create", payment,
    ),
    "fulfillment_ingest": ("shopify", "fulfillments/create", fulfillment),
    "inventory_item_ingest": ("shopify", "inventory_items/update", stock_item),
    "location_ingest": ("shopify", "locations/create", location),
    "fulfillment_order_ingest": (
        "shopify", "fulfillment_orders/placed_on_hold", events.fulfillment_order,
    ),
    "fulfillment_event_ingest": (
        "shopify", "fulfillment_events/create", events.scan,
    ),
    "return_ingest": ("shopify", "returns/approve", events.order_return),
    "reverse_fulfillment_order_ingest": (
        "shopify", "reverse_fulfillment_orders/dispose",
        events.disposition,
    ),
    "order_notice_ingest": ("shopify", "orders/risk_assessment_changed", events.risk),
    "tender_transaction_ingest": (
        "shopify", "tender_transactions/create", events.tender,
    ),
    "shopify_dispute_ingest": ("shopify", "disputes/update", events.dispute),
    "variant_stock_ingest": ("shopify", "variants/in_stock", events.variant),
    "inventory_transfer_ingest": (
        "shopify", "inventory_transfers/ready_to_ship", events.transfer,
    ),
    "inventory_shipment_ingest": (
        "shopify", "inventory_shipments/create", events.shipment,
    ),
    "customer_ingest": ("shopify", "customers/create", customer),
    "storefront_ingest": ("shopify", "shop/update", storefront),
    "transaction_ingest": ("stripe", "charge.succeeded", charge),
    "interaction_ingest": ("openphone", "call.completed", call),
}  # fmt: skip
"""One event for each transactional topic."""

WITHOUT_ROWS = {
    "event_review": "it plans work and changes nothing that the work would not audit itself",
    "mail_event": "tests/mail/test_mail_events.py reads its audit entries: its mails are sent first",
    "letter_send": "it has no event; tests/closing/test_owner_letter.py reads its audit entries",
    "consent_withdraw": "it has no event; tests/outreach/test_unsubscribe.py reads its audit entries",
    "outreach_compose": "it has no event; each of its mails is audited when it is sent",
    **dict.fromkeys(
        ("interaction_enrich", "interaction_note"),
        "steps of a run; tests/conversations/test_notion_journey.py reads its audit entries",
    ),
    "mail_ingest": "as interaction_ingest; tests/conversations/test_mails.py reads its audit entries",
    "contact_ingest": "it changes merchants; tests/conversations/test_contacts.py reads its audit entries",
    "stage_sync": "it has no event of its own; tests/shopfloor/test_stage_sync.py reads its audit entries",
    "bulk_action": "it has no event; tests/bulk reads the audit entries of its changes",
}

EXEMPT = {
    "work_queue": "work itself: its row says what became of it, and people's requeues are audited",
    "work_stats": "figures of workers",
    "rate_limits": "what a provider last said of its rate",
    "audit_events": "the chain",
    "order_lines": "told within their order's mutation, and in a refund's for what was refunded",
    "order_refund_lines": "told within their refund's mutation",
    "stock_movements": "told by the step of the level that they moved; the event names its order",
    "inbound_events": "what providers sent, kept as it came",
}
"""Tables that need no mutation in the audit, and why."""


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with an order of two mugs, in stock."""
    add_shop(engine)
    for topic, event in (
        ("product_ingest", product()),
        ("inventory_level_ingest", level(12, -1)),
        ("order_ingest", order(-1, lines=[line()])),
    ):
        ingest(engine, TRANSACTIONAL[topic], event)
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from work_queue")
    return engine


def contents(engine: Engine) -> dict[str, Any]:
    """Return the rows of every table as text."""
    with transaction(engine) as tx:
        return {
            table.name: tx.execute(
                text(f"select coalesce(string_agg(t::text, E'\\n' order by t::text), '') from {table.name} t")  # noqa: S608
            ).scalar_one()
            for table in metadata.sorted_tables
        }


def test_every_own_topic_has_a_sample_here_or_a_reason() -> None:
    own = {name for name, topic in TOPICS.items() if topic.mode is HandlerMode.TRANSACTIONAL}

    assert own == set(SAMPLES) | set(WITHOUT_ROWS)


@pytest.mark.parametrize("topic", SAMPLES)
def test_event_leaves_one_audit_event_that_names_each_table_it_changed(shop: Engine, topic: str) -> None:
    provider, event_topic, make = SAMPLES[topic]
    event = new_event(1, provider=provider, topic=event_topic, body=make().body, key="k", request_id="req-9")
    (accepted,) = accept(shop, event)
    (ref,) = accepted.work
    assert ref.topic == topic
    before = contents(shop)

    report = TransactionalRunner(shop, "tester", Random(1)).run_batch(TOPICS[topic], TRANSACTIONAL[topic])

    assert report.done == 1
    after = contents(shop)
    changed = {name for name in before if before[name] != after[name]}
    with transaction(shop) as tx:
        (audited,) = tx.execute(text("select * from audit_events where work_id = :id"), {"id": ref.id}).all()
        named = set(
            tx.execute(
                text("select table_name from audit_mutations where event_id = :id"), {"id": audited.id}
            ).scalars()
        )
    provider_said = {"openphone": "quo"}.get(provider, provider)
    assert (audited.staff_label, audited.action, audited.request_id) == (
        f"{provider_said} webhook", event_topic, "req-9",
    )  # fmt: skip
    assert changed - set(EXEMPT) == named
    assert named


@pytest.mark.parametrize("topic", SAMPLES)
def test_event_received_twice_is_audited_once(shop: Engine, topic: str) -> None:
    provider, event_topic, make = SAMPLES[topic]
    body = make().body
    accept(
        shop,
        *(
            new_event(n, provider=provider, topic=event_topic, body=body, key="k", delivery_key=f"d{n}")
            for n in (1, 2)
        ),
    )
    with transaction(shop) as tx:
        known = tx.execute(text("select count(*) from audit_events")).scalar_one()

    report = TransactionalRunner(shop, "tester", Random(1)).run_batch(TOPICS[topic], TRANSACTIONAL[topic])

    assert report.done == 2
    with transaction(shop) as tx:
        assert tx.execute(text("select count(*) from audit_events")).scalar_one() == known + 1


def test_review_changes_no_table(shop: Engine) -> None:
    accepted = accept(shop, new_event(1, topic="orders/create", body=order(30).body))
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from work_queue")
        new = NewWork(shop_id=1, topic="event_review", key="k", event_id=accepted[0].event_id)
        record_work(tx, [new], utc_now())
    before = contents(shop)

    TransactionalRunner(shop, "tester", Random(1)).run_batch(
        TOPICS["event_review"], TRANSACTIONAL["event_review"]
    )

    after = contents(shop)
    assert {name for name in before if before[name] != after[name]} <= {"work_queue", "work_stats"}
    assert "order_ingest" in after["work_queue"]
