"""A signed delivery must name this shop and its id, and must not contradict itself."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ingress.app import Ingress
from services.ledger.webhook_refusals import find_first_refusal
from services.providers.openphone import sign_openphone
from services.providers.shopify import sign_shopify
from services.providers.standard_webhooks import sign_standard
from services.providers.stripe import sign_stripe
from services.shops.shops import set_shop
from tests.ingress.conftest import QUO_SECRET, SHOPIFY_SECRET, STRIPE_SECRET
from tests.ingress.rsgi import Client, Reply

BODY = b'{"id":7,"type":"charge.succeeded"}'


def signed(domain: str = "acme.myshopify.com", *, secret: str = SHOPIFY_SECRET) -> dict[str, str]:
    return sign_shopify(BODY, secret.encode(), topic="orders/create", webhook_id="w-1", domain=domain)


def post(client: Client, headers: Any, path: str = "shopify/acme") -> Reply:
    return client.post(f"/webhooks/{path}", data=BODY, headers=headers)


def select_rows(engine: Engine, query: str) -> list[Any]:
    with transaction(engine) as tx:
        return list(tx.execute(text(query)))


@pytest.fixture
def domain(engine: Engine, shop_id: int) -> str:
    """The domain of shop ``acme``."""
    name = "acme.myshopify.com"
    with transaction(engine) as tx:
        set_shop(tx, "acme", {"shopify_domain": name}, now=utc_now())
    return name


def test_signed_delivery_of_another_shop_is_refused_by_name(
    domain: str, client: Client, ingress: Ingress, engine: Engine
) -> None:
    reply = post(client, signed("other.myshopify.com"))

    assert (reply.status_code, reply.json) == (401, {"error": "wrong_shop"})
    assert select_rows(engine, "select * from inbound_events") == []
    ingress.stats.flush()
    (count,) = select_rows(
        engine, "select shop, provider, outcome, count from request_counts where shop <> ''"
    )
    assert tuple(count) == ("acme", "shopify", "wrong_shop", 1)


def test_domain_is_compared_in_any_case_and_only_where_both_have_one(
    client: Client, ingress: Ingress, engine: Engine, shop_id: int
) -> None:
    assert post(client, signed("anything.example")).status_code == 200
    with transaction(engine) as tx:
        set_shop(tx, "acme", {"shopify_domain": "Acme.MyShopify.com"}, now=utc_now())
    ingress.secrets.reload()

    assert post(client, signed("other.myshopify.com")).json == {"error": "wrong_shop"}
    assert post(client, signed("ACME.myshopify.COM")).status_code == 200
    nameless = {k: v for k, v in signed().items() if k != "X-Shopify-Shop-Domain"}
    assert post(client, nameless).status_code == 200


def test_former_domain_stays_valid(domain: str, client: Client, engine: Engine) -> None:
    with transaction(engine) as tx:
        set_shop(tx, "acme", {"shopify_domain": "renamed.myshopify.com"}, now=utc_now())

    assert post(client, signed("renamed.myshopify.com")).status_code == 200
    assert post(client, signed(domain)).status_code == 200


def test_new_domain_is_used_at_once(domain: str, client: Client, engine: Engine) -> None:
    assert post(client, signed()).status_code == 200
    with transaction(engine) as tx:
        set_shop(tx, "acme", {"shopify_domain": "new.myshopify.com"}, now=utc_now())

    assert post(client, signed("new.myshopify.com")).status_code == 200


def test_stored_domain_of_an_old_form_is_not_compared(client: Client, engine: Engine, shop_id: int) -> None:
    with transaction(engine) as tx:
        tx.execute(text("update shop_config set shopify_domain = 'shop.acme.example'"))

    assert post(client, signed("acme.myshopify.com")).status_code == 200


@pytest.mark.parametrize("name", ["X-Shopify-Topic", "X-Shopify-Webhook-Id"])
def test_missing_header_is_named_only_in_signed_requests(
    domain: str, client: Client, engine: Engine, name: str
) -> None:
    def without(headers: dict[str, str]) -> dict[str, str]:
        return {k: v for k, v in headers.items() if k != name}

    known = post(client, without(signed()))
    assert (known.status_code, known.json) == (400, {"error": "missing_header"})
    unsigned = post(client, without(signed("other.myshopify.com", secret="a guess")))
    assert (unsigned.status_code, unsigned.json) == (401, {"error": "invalid_signature"})
    nowhere = post(client, without(signed()), "shopify/nowhere")
    assert (nowhere.status_code, nowhere.json) == (404, {"error": "unknown_shop"})
    assert select_rows(engine, "select * from inbound_events") == []


STANDARD = {"secret": QUO_SECRET.encode(), "webhook_id": "m-1"}
SENDERS = {
    "shopify/acme": ("X-Shopify-Topic", signed),
    "stripe/acme": ("Stripe-Signature", lambda: sign_stripe(BODY, STRIPE_SECRET.encode(), now=utc_now())),
    "openphone/acme": (
        "openphone-signature", lambda: sign_openphone(BODY, QUO_SECRET.encode(), now=utc_now())
    ),
    "standard/acme/till": ("webhook-id", lambda: sign_standard(BODY, now=utc_now(), **STANDARD)),
}  # fmt: skip


@pytest.mark.parametrize("path", SENDERS)
def test_header_that_contradicts_itself_is_refused_by_name(client: Client, engine: Engine, path: str) -> None:
    name, sign = SENDERS[path]
    headers = list(sign().items())

    reply = post(client, [(name, "another"), *headers], path)

    assert (reply.status_code, reply.json) == (400, {"error": "duplicate_header"})
    assert select_rows(engine, "select * from inbound_events") == []
    forged = [(k, v if k != "X-Shopify-Hmac-Sha256" else "forged") for k, v in headers]
    if path == "shopify/acme":
        assert post(client, [(name, "another"), *forged], path).json == {"error": "invalid_signature"}
    # The same value twice, and headers that identify nothing, are no contradiction.
    same = [*headers, (name, dict(headers)[name]), ("Accept", "a"), ("Accept", "b")]
    assert post(client, same, path).status_code == 200


def test_header_of_the_newer_quo_counts_too(client: Client) -> None:
    headers = sign_standard(BODY, QUO_SECRET.encode(), webhook_id="m-1", now=utc_now())

    reply = post(client, [("webhook-timestamp", "1"), *headers.items()], "openphone/acme")

    assert reply.json == {"error": "duplicate_header"}


def test_first_refusal_of_a_shop_opens_one_incident_a_day_and_bounds_the_backfill(
    domain: str, client: Client, ingress: Ingress, engine: Engine, shop_id: int
) -> None:
    began = utc_now()
    for _ in range(3):
        post(client, signed("other.myshopify.com"))
        ingress.stats.flush()
    post(client, {k: v for k, v in signed().items() if k != "X-Shopify-Topic"})
    post(client, signed(secret="a guess"))
    ingress.stats.flush()

    wrong, missing = select_rows(engine, "select * from incidents order by id")
    assert (wrong.shop_id, wrong.rule, wrong.severity, wrong.status) == (
        shop_id, "webhook_wrong_shop", "P2", "open",
    )  # fmt: skip
    assert "other.myshopify.com" in wrong.summary
    assert "acme.myshopify.com" in wrong.summary
    assert (missing.rule, missing.severity) == ("webhook_missing_header", "P2")
    assert "X-Shopify-Topic" in missing.summary
    with transaction(engine) as tx:
        first = find_first_refusal(tx, shop_id)
    assert first is not None
    assert began <= first <= utc_now()


def test_refusals_are_recorded_after_a_database_outage(
    domain: str, client: Client, ingress: Ingress, engine: Engine, database_proxy: Any
) -> None:
    post(client, signed("other.myshopify.com"))
    database_proxy.cut()
    ingress.stats.flush()
    assert select_rows(engine, "select * from incidents") == []
    database_proxy.restore()
    ingress.stats.flush()

    assert [row.rule for row in select_rows(engine, "select rule from incidents")] == ["webhook_wrong_shop"]
