"""The samples of ``fleet send`` are valid for the effects."""

import random
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from services.cli.samples import SAMPLES, make_sample
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import HandlerMode, plan_topic
from services.providers.mail_events import BATCH
from tests.ledger_rows import accept, new_event
from tests.shopify.sample_payloads import add_shop

ALL = [(provider, topic) for provider, samples in SAMPLES.items() for topic in samples]
NOW = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(("provider", "topic"), ALL)
def test_sample_becomes_its_effect(
    engine: Engine, environment: dict[str, str], provider: str, topic: str
) -> None:
    from tasks.handlers import HANDLERS

    add_shop(engine, domain="sample.myshopify.com")
    event_topic = BATCH if provider == "sendgrid" else topic
    plan = plan_topic("openphone" if provider == "quo" else provider, event_topic)
    assert plan is not None
    body = make_sample(provider, topic, "CAD", random.Random(1), NOW)
    assert body is not None
    event = new_event(
        1, provider="openphone" if provider == "quo" else provider, topic=event_topic, body=body
    )
    accept(engine, event)
    if plan.mode is HandlerMode.EXTERNAL:
        return

    report = TransactionalRunner(engine, "tester", random.Random(1)).run_batch(plan, HANDLERS[plan.name])

    assert report.done == 1
