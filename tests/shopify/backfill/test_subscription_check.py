"""The watchdog against a sandbox that loses subscriptions without notice, as Shopify does."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.audit.append import append_all
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.core.settings import get_settings
from services.jobs.handler import JobResult
from services.shopify.backfill import run as backfill_run
from services.shopify.shop_access import open_admin
from services.shopify.subscriptions.check import check_subscriptions, fetch_subscriptions
from services.shopify.subscriptions.plan import WANTED, topic_to_enum
from tests.shopify.backfill.fake_shop import (
    DOMAIN,
    Shops,
    contents,
    control,
    job_run,
    put_order,
    receive,
    work_off,
)
from tests.shopify.backfill.sample_day import EVENING, Webhook, make_day

PUBLIC = "https://hooks.example.com"
OURS = f"{PUBLIC}/webhooks/shopify/holed"
HOUR = timedelta(hours=1)


@pytest.fixture
def public_url(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PUBLIC_URL", PUBLIC + "/")
    get_settings.cache_clear()
    return PUBLIC


def watch(shops: Shops, now: datetime) -> JobResult:
    """Run the job and record its result."""
    finished = check_subscriptions(job_run(shops.holed, "subscription-watchdog"), lambda: now)
    if finished.record is not None:
        with transaction(shops.engine) as tx:
            append_all(tx, finished.record(tx).audit, now)
    work_off(shops.engine)
    return finished


def lose(shops: Shops, *topics: str) -> None:
    control(shops.url, shop=DOMAIN, delete_subscriptions=[topic_to_enum(topic) for topic in topics])


def listed(shops: Shops) -> dict[str, str]:
    return {entry.topic: entry.uri for entry in fetch_subscriptions(open_admin(shops.holed))}


def incidents(shops: Shops) -> list[Any]:
    with transaction(shops.engine) as tx:
        return list(
            tx.execute(text("select rule, status, severity, summary, detail from incidents order by id"))
        )


def kept(shops: Shops) -> dict[str, Any]:
    with transaction(shops.engine) as tx:
        rows = tx.execute(text("select * from webhook_subscriptions where shop_id = :s"), {"s": shops.holed})
        return {row.topic: row for row in rows}


def test_with_a_public_url_the_wanted_set_is_complete_from_the_first_check_on(
    shops: Shops, public_url: str
) -> None:
    finished = watch(shops, EVENING)

    assert listed(shops) == dict.fromkeys(WANTED, OURS)
    assert finished.stats["made"] == len(WANTED)
    assert set(kept(shops)) == set(WANTED)
    assert incidents(shops) == []
    assert watch(shops, EVENING + HOUR).stats["made"] == 0


def test_topics_for_which_the_app_has_no_scope_are_left_out_and_requested_again(
    shops: Shops, public_url: str
) -> None:
    lacking = {topic for topic in WANTED if topic.startswith(("returns/", "disputes/"))}
    control(shops.url, shop=DOMAIN, denied_topics=[topic_to_enum(topic) for topic in lacking])

    finished = watch(shops, EVENING)

    assert set(listed(shops)) == set(WANTED) - lacking
    assert (finished.result, finished.stats["refused"]) == ("well", len(lacking))
    assert incidents(shops) == []
    control(shops.url, shop=DOMAIN, denied_topics=[])
    assert watch(shops, EVENING + HOUR).stats["made"] == len(lacking)


def test_what_shopify_deleted_is_made_again_and_its_outage_imported_at_once(
    shops: Shops, public_url: str
) -> None:
    watch(shops, EVENING)
    came = EVENING + timedelta(minutes=10)
    receive(shops.engine, shops.holed, [Webhook("orders/create", make_day(3, orders=1).orders[0], came)])
    lose(shops, "orders/create", "orders/updated")
    put_order(shops, EVENING + timedelta(minutes=30), 7)

    finished = watch(shops, EVENING + HOUR)

    assert listed(shops) == dict.fromkeys(WANTED, OURS)
    assert (finished.stats["lost"], finished.stats["made"], finished.stats["imported"]) == (2, 2, 1)
    assert any('"#7"' in row for row in contents(shops.engine, shops.holed)["orders"])
    (incident,) = incidents(shops)
    assert (incident.rule, incident.status, incident.severity) == ("webhook_subscription_lost", "open", "P2")
    assert "orders/create, orders/updated" in incident.summary
    assert "1 were imported; all exist again" in incident.summary
    assert all(row.lost_at is None and row.imported_at is None for row in kept(shops).values())

    watch(shops, EVENING + 2 * HOUR)

    assert [one.status for one in incidents(shops)] == ["resolved"]


def test_an_outage_is_imported_from_before_the_cursor(shops: Shops, public_url: str) -> None:
    """The hourly backfill has its own cursor and does not detect a silent topic."""
    watch(shops, EVENING)
    lose(shops, "orders/create")
    put_order(shops, EVENING - 4 * HOUR, 8)
    with transaction(shops.engine) as tx:
        tx.exec_driver_sql(
            "insert into sync_cursors values (%(s)s, 'shopify', 'orders', %(at)s, %(at)s)",
            {"s": shops.holed, "at": EVENING + HOUR},
        )

    assert watch(shops, EVENING + HOUR).stats["imported"] == 1


def test_a_run_after_a_crash_still_imports_the_outage(shops: Shops, public_url: str) -> None:
    watch(shops, EVENING)
    lose(shops, "orders/create")
    put_order(shops, EVENING, 9)

    def cut(_shop_id: int) -> Any:
        raise RetryLater("shopify.no_answer", "cut")

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(backfill_run, "open_admin", cut)
        with pytest.raises(RetryLater):
            watch(shops, EVENING + HOUR)
    assert set(listed(shops)) == set(WANTED)

    finished = watch(shops, EVENING + HOUR)

    assert finished.stats["imported"] == 1
    assert [one.rule for one in incidents(shops)] == ["webhook_subscription_lost"]


def test_without_a_public_url_nothing_is_created_and_a_loss_is_reported_and_imported_once(
    shops: Shops,
) -> None:
    control(shops.url, shop=DOMAIN, subscriptions=[{"topic": "ORDERS_CREATE", "uri": OURS, "format": "JSON"}])
    watch(shops, EVENING)
    assert set(kept(shops)) == {"orders/create"}
    lose(shops, "orders/create")
    put_order(shops, EVENING, 5)

    first = watch(shops, EVENING + HOUR)

    assert (first.stats["made"], first.stats["lost"], first.stats["imported"]) == (0, 1, 1)
    assert "set PUBLIC_URL" in incidents(shops)[0].summary
    assert listed(shops) == {}
    again = watch(shops, EVENING + 2 * HOUR)
    assert again.stats["lost"] == 0
    assert [one.status for one in incidents(shops)] == ["open"]


@pytest.mark.parametrize(
    ("uri", "kind"), [("https://elsewhere.example/x", "JSON"), (OURS, "XML")], ids=["elsewhere", "xml"]
)
def test_subscription_with_another_address_or_xml_is_reported_and_left_alone(
    shops: Shops, public_url: str, uri: str, kind: str
) -> None:
    control(shops.url, shop=DOMAIN, subscriptions=[{"topic": "ORDERS_CREATE", "uri": uri, "format": kind}])

    watch(shops, EVENING)

    (incident,) = [one for one in incidents(shops) if one.rule == "webhook_subscription_wrong"]
    assert incident.severity == "P3"
    assert f"orders/create as {kind} to {uri}" in incident.summary


def test_refused_token_needs_a_person(shops: Shops, public_url: str) -> None:
    control(shops.url, shop=DOMAIN, token="shpat_" + "ff" * 16)

    with pytest.raises(Misconfigured):
        watch(shops, EVENING)


def test_shop_without_credentials_is_skipped(shops: Shops) -> None:
    run = job_run(shops.whole, "subscription-watchdog")

    assert check_subscriptions(run, lambda: EVENING).result == "not_connected"


def test_created_and_lost_subscriptions_are_audited(shops: Shops, public_url: str) -> None:
    def summaries() -> list[str]:
        with transaction(shops.engine) as tx:
            return list(
                tx.execute(
                    text(
                        "select m.summary from audit_mutations m where m.table_name = 'webhook_subscriptions'"
                    )
                ).scalars()
            )

    watch(shops, EVENING)
    assert f"subscribed to {WANTED[0]} at Shopify" in summaries()
    lose(shops, "orders/create")

    watch(shops, EVENING + HOUR)

    assert "Shopify no longer has the subscription to orders/create" in summaries()
    assert "subscribed again to orders/create at Shopify" in summaries()
