"""The addresses that send webhooks with a wrong signature: recorded, bounded, and named in the incident."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest
from sqlalchemy import Engine

from services.alerts.evaluate import describe
from services.alerts.own_figures import collect_figures
from services.alerts.rules import FIGURE_RULES
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings
from services.ingress.app import Ingress
from services.ingress.request_stats import RequestStats
from services.ledger.webhook_senders import MOST_ENDPOINTS, MOST_IN_MEMORY, MOST_SENDERS, WebhookSenders
from tests.ingress.posting import ORDER, post_order
from tests.ingress.rsgi import Client, running
from tests.jobs.job_rows import runs

SENDERS = "select shop, provider, address, count from webhook_senders order by count desc, address"
RULE = "signature_failures"


def forge(stats: RequestStats, address: str, times: int = 1) -> None:
    for _ in range(times):
        stats.count(
            utc_now(), "acme", "stripe", "invalid_signature", "/webhooks/stripe", 401, 1.0, sender=address
        )


def test_a_wrong_signature_is_recorded_with_its_address_and_an_accepted_request_is_not(
    engine: Engine, ingress: Ingress, client: Client
) -> None:
    assert post_order(client).status_code == 200
    for _ in range(2):
        assert post_order(client, secret="another").status_code == 401
    assert post_order(client, secret="another", shop="nowhere").status_code == 404
    ingress.stats.flush()

    assert runs(engine, SENDERS) == [("acme", "shopify", "192.0.2.9", 2)]


@pytest.mark.parametrize(
    ("trusted", "sender"), [(True, "203.0.113.5"), (False, "192.0.2.9")], ids=["proxy", "client"]
)
def test_a_trusted_proxy_names_the_sender_and_a_client_does_not(
    engine: Engine, settings: Settings, shop_id: int, broker_url: str, trusted: bool, sender: str
) -> None:
    proxies = (ip_network("192.0.2.0/24"),) if trusted else ()
    with running(replace(settings, trusted_proxies=proxies)) as app:
        forged = {"X-Forwarded-For": "10.9.9.9, 203.0.113.5", "X-Shopify-Hmac-Sha256": "AAAA"}
        reply = Client(app).post("/webhooks/shopify/acme", data=ORDER, headers=forged)
        assert reply.status_code == 401
        app.stats.flush()

    assert [row[2] for row in runs(engine, SENDERS)] == [sender]


def test_sources_that_do_not_exist_are_one_provider_of_the_statistics(
    engine: Engine, ingress: Ingress, client: Client
) -> None:
    for number in range(30):
        assert client.post(f"/webhooks/standard/acme/x{number}", data=b"{}").status_code == 401
    assert client.post("/webhooks/standard/acme/till", data=b"{}").status_code == 401
    ingress.stats.flush()

    counts = "select provider, count from request_counts where shop = 'acme' order by provider"
    assert runs(engine, counts) == [("standard:?", 30), ("standard:till", 1)]
    assert [row[1::2] for row in runs(engine, SENDERS)] == [("standard:?", 30), ("standard:till", 1)]


def test_memory_and_rows_are_bounded_and_the_most_frequent_addresses_stay(
    engine: Engine, shop_id: int
) -> None:
    stats = RequestStats(engine)
    forge(stats, "203.0.113.7", 5)
    for number in range(2000):
        forge(stats, f"2001:db8:0:{number:x}::1")
    assert stats.flush()
    assert len(runs(engine, SENDERS)) == MOST_SENDERS
    forge(stats, "198.51.100.1", 7)
    assert stats.flush()

    rows = runs(engine, SENDERS)
    assert rows[:2] == [("acme", "stripe", "198.51.100.1", 7), ("acme", "stripe", "203.0.113.7", 5)]
    assert len(rows) == MOST_SENDERS


def test_memory_is_bounded_by_endpoints_addresses_and_length() -> None:
    senders = WebhookSenders()
    for endpoint in range(MOST_ENDPOINTS + 50):
        for number in range(MOST_IN_MEMORY + 5):
            senders.add(utc_now(), "acme", f"p{endpoint}", f"192.0.2.{number}" + "x" * 9999 * (endpoint == 0))
    found = senders.take()

    assert len(found) == MOST_ENDPOINTS * MOST_IN_MEMORY
    assert max(len(address) for *_, address, _ in found) < 50
    assert senders.take() == []


def test_addresses_of_one_ipv6_network_are_one_sender(engine: Engine, shop_id: int) -> None:
    stats = RequestStats(engine)
    for number in range(50):
        forge(stats, f"2001:db8:1:2::{number:x}")
    forge(stats, "::ffff:198.51.100.1")
    assert stats.flush()

    assert [row[2:] for row in runs(engine, SENDERS)] == [("2001:db8:1:2::/64", 50), ("198.51.100.1", 1)]


def test_the_incident_names_the_senders(engine: Engine, shop_id: int) -> None:
    stats = RequestStats(engine)
    for place in range(12):
        forge(stats, f"203.0.113.{place}", 12 - place)
    assert stats.flush()

    with transaction(engine) as tx:
        (figure,) = collect_figures(tx, utc_now() + timedelta(seconds=1))[RULE]
    assert (figure.shop_id, figure.value) == (shop_id, 78)
    assert len(figure.detail["addresses"]) == MOST_SENDERS
    text = describe(FIGURE_RULES[RULE], 3, figure)
    assert text.endswith("most from 203.0.113.0 (12), 203.0.113.1 (11), 203.0.113.2 (10)")


def test_figures_of_before_have_no_addresses(engine: Engine, shop_id: int) -> None:
    stats = RequestStats(engine)
    forge(stats, "")
    assert stats.flush()

    with transaction(engine) as tx:
        (figure,) = collect_figures(tx, utc_now() + timedelta(seconds=1))[RULE]
    assert figure.detail["senders"] == "unknown addresses"
