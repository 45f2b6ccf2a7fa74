"""Rows of ``request_counts`` and the snapshot of the secrets are read back by column name."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.latency import BOUNDS_MS
from services.ingress.app import Ingress
from services.ingress.metrics import read_totals
from services.ingress.request_stats import RequestStats
from services.ingress.secret_cache import SecretSnapshot, read_snapshot
from services.shops.secrets import list_webhook_keys, record_secret
from tests.ingress.conftest import SHOPIFY_SECRET
from tests.ingress.posting import post_order
from tests.ingress.rsgi import Client

NEW_SECRET = "the-new-secret"
BUCKETS = [*(f"to_{bound}_ms" for bound in BOUNDS_MS), "over_10000_ms"]
NOW = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
MINUTE = NOW.replace(second=0)


def histogram(**counts: int) -> list[int]:
    assert counts.keys() <= {*BUCKETS}
    return [counts.get(name, 0) for name in BUCKETS]


@pytest.mark.usefixtures("shop_id")
def test_counts_are_read_back_by_name_and_add_up(engine: Engine) -> None:
    stats = RequestStats(engine)
    for times in (2, 3):
        for n in range(times):
            stats.count(NOW, "acme", "shopify", "accepted", "/webhooks/shopify", 200, 1.5 + n)
        stats.count(NOW, "nobody", "stripe", "unavailable", "/webhooks/stripe", 503, 90_000)
        stats.count(NOW, "acme", "", "answered", "/cron/<job>", 202, 200)
        stats.flush()

    with transaction(engine) as tx:
        found = tx.execute(
            text("select * from request_counts where minute > '1970-01-01Z' order by shop, provider")
        ).all()
        totals = read_totals(tx)
    names = ("minute", "shop", "provider", "outcome", "route", "status", "count", "latency")
    assert [row._asdict() for row in found] == [
        dict(zip(names, (MINUTE, *values), strict=True))
        for values in (
            ("?", "stripe", "unavailable", "/webhooks/stripe", 503, 2, histogram(over_10000_ms=2)),
            ("acme", "", "answered", "/cron/<job>", 202, 2, histogram(to_200_ms=2)),
            ("acme", "shopify", "accepted", "/webhooks/shopify", 200, 5, histogram(to_2_ms=2, to_5_ms=3)),
        )
    ]
    (requests,) = (family for family in totals if family.name == "shopfleet_requests")
    assert {(s.labels["provider"], s.labels["outcome"]): s.value for s in requests.samples} == {
        ("shopify", "accepted"): 5,
        ("stripe", "unavailable"): 2,
    }


@pytest.mark.usefixtures("shop_id")
def test_requests_are_counted_in_their_own_minute_in_any_order(engine: Engine) -> None:
    stats = RequestStats(engine)
    for second in (0, 59.999, 60, 3, 119.999, 120, 60):
        stats.count(MINUTE + timedelta(seconds=second), "acme", "shopify", "accepted", "/webhooks", 200, 1)
    stats.flush()

    with transaction(engine) as tx:
        found = tx.execute(
            text("select minute, count from request_counts where shop = 'acme' order by minute")
        )
        assert [(row.minute - MINUTE, row.count) for row in found] == [
            (timedelta(0), 3),
            (timedelta(minutes=1), 3),
            (timedelta(minutes=2), 1),
        ]


def test_an_accepted_delivery_is_a_use_of_the_secret_that_signed_it(
    engine: Engine, client: Client, ingress: Ingress, shop_id: int
) -> None:
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-webhook", NEW_SECRET, utc_now(), timedelta(days=1))
    assert ingress.secrets.reload()
    assert post_order(client, webhook_id="w-1").status_code == 200
    assert post_order(client, webhook_id="w-2", secret="of another shop").status_code == 401
    assert ingress.stats.flush()
    assert read_used_secrets(engine) == [(SHOPIFY_SECRET, True), (NEW_SECRET, False)]

    assert post_order(client, webhook_id="w-3", secret=NEW_SECRET).status_code == 200
    assert ingress.stats.flush()

    assert read_used_secrets(engine) == [(SHOPIFY_SECRET, True), (NEW_SECRET, True)]


def read_used_secrets(engine: Engine) -> list[tuple[str, bool]]:
    """Return each value of ``shopify-webhook``, the oldest first, and whether it was used."""
    with transaction(engine) as tx:
        (key,) = (key for key in list_webhook_keys(tx) if key.name == "shopify-webhook")
        used = tx.execute(text("select id from shop_secrets where last_used_at is not null")).scalars().all()
    return sorted((value, row_id in used) for value, row_id in zip(key.values, key.ids, strict=True))


def test_pauses_and_domains_are_read_back_by_name(engine: Engine, shop_id: int) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into pauses (queue, topic, shop_id, mode, created_by) values "
                "('webhooks', null, null, 'refuse', 'ada'), (null, 'order_ingest', :shop, 'refuse', 'ada'), "
                "('email', null, null, 'hold', 'ada')"
            ),
            {"shop": shop_id},
        )
        tx.execute(
            text(
                "update shop_config set shopify_domain = 'New.myshopify.com', "
                "former_shopify_domains = '{Old.myshopify.com}' where shop_id = :shop"
            ),
            {"shop": shop_id},
        )

    snapshot = read_snapshot(engine, SecretSnapshot())

    assert set(snapshot.refusals) == {
        ("webhooks", None, None),
        (None, "order_ingest", shop_id),
    }
    assert snapshot.domains == {shop_id: ("old.myshopify.com", "new.myshopify.com")}
    assert snapshot.shop_ids == {"acme": shop_id}
    assert read_snapshot(engine, snapshot) is snapshot
