"""An edited event is as old as its original: no edit replaces a newer state of the provider."""

import json
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.ledger.event_edit import hash_body, record_edit
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.shopify.orders.handler import ingest_orders
from tests.ledger_rows import accept, new_event
from tests.shopify.sample_payloads import NOON, ORDER, add_shop, order, rows

OLD, NEW = order(0).body, order(30, financial_status="refunded").body
EDITED = OLD.decode().replace('"paid"', '"voided"')


def receive(engine: Engine, *bodies: bytes) -> None:
    events = [
        new_event(
            number, body=body, topic="orders/updated", key=str(ORDER),
            received_at=NOON + timedelta(hours=number), readable=body[-1:] == b"}",
        )
        for number, body in enumerate(bodies, 1)
    ]  # fmt: skip
    accept(engine, *events)
    work_off(engine)


def work_off(engine: Engine) -> None:
    runner = TransactionalRunner(engine, "tester", Random(1))
    while runner.run_batch(TOPICS["order_ingest"], ingest_orders).claimed:
        pass


def edit(engine: Engine, original: bytes) -> tuple[str, str]:
    """Record ``EDITED`` for the first event and do its work; return its result and the order's status."""
    with transaction(engine) as tx:
        author = {"by": "ada", "now": NOON + timedelta(days=1), "reason": "a test"}
        record_edit(tx, 1, EDITED, opened=hash_body(original), token="0" * 32, **author)  # type: ignore[arg-type]
    work_off(engine)
    return read_one(engine, "select result from work_queue where origin = 'edit'"), find_status(engine)


def find_status(engine: Engine) -> str:
    return read_one(engine, "select financial_status from orders")


def read_one(engine: Engine, query: str) -> str:
    ((value,),) = rows(engine, query)
    return str(value)


@pytest.mark.parametrize("is_readable", [True, False])
def test_an_edit_does_not_replace_a_newer_state(engine: Engine, *, is_readable: bool) -> None:
    add_shop(engine)
    original = OLD if is_readable else OLD[:-1]
    receive(engine, original, NEW)

    assert edit(engine, original) == ("stale", "refunded")


def test_a_newer_state_that_comes_after_the_edit_replaces_it(engine: Engine) -> None:
    add_shop(engine)
    receive(engine, OLD[:-1])
    assert edit(engine, OLD[:-1]) == ("done", "voided")

    accept(engine, new_event(9, body=NEW, topic="orders/updated", received_at=NOON + timedelta(hours=1)))
    work_off(engine)

    assert find_status(engine) == "refunded"
    with transaction(engine) as tx:
        by = tx.execute(text("select staff_label from audit_events order by id"))
        assert [*by.scalars()] == ["ada", "shopify edit", "shopify webhook"]


def test_the_body_of_the_tests_is_that_of_an_order() -> None:
    assert json.loads(OLD)["financial_status"] == "paid" != json.loads(NEW)["financial_status"]
