"""Event webhooks of mail services at the ingress: a shop's account and the fleet's."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings
from services.ledger.work import FLEET
from services.providers.mail_events import sign_resend
from services.shops.secrets import record_secret
from services.shops.shops import ShopInvalid, add_shop
from tests.fakes.mail_events import SendGridAccount, resend_body, sendgrid_body, sendgrid_event
from tests.ingress.conftest import QUO_SECRET
from tests.ingress.rsgi import Client, Reply, running
from tests.mail.mails import mail_settings
from tests.shopify.sample_payloads import rows

SHOPS, FLEETS = SendGridAccount(), SendGridAccount()
BODY = sendgrid_body(sendgrid_event("e1", "delivered"), sendgrid_event("e2", "bounce"))


@pytest.fixture
def own_client(
    engine: Engine, settings: Settings, shop_id: int, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    """An ingress with accounts of the shop ``acme`` and of the fleet."""
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "sendgrid-webhook-key", SHOPS.key, utc_now())
        record_secret(tx, shop_id, "resend-webhook", QUO_SECRET, utc_now())
    with (
        mail_settings(monkeypatch, SENDGRID_WEBHOOK_KEY=FLEETS.key, RESEND_WEBHOOK_SECRET=QUO_SECRET),
        running(settings) as app,
    ):
        yield Client(app)


def post(client: Client, shop: str, account: SendGridAccount, body: bytes = BODY) -> Reply:
    return client.post(f"/webhooks/sendgrid/{shop}", data=body, headers=account.sign(body))


def test_a_body_is_stored_once_for_its_account(own_client: Client, engine: Engine, shop_id: int) -> None:
    answers = [
        post(own_client, shop, account)
        for shop, account in (("acme", SHOPS), ("fleet", FLEETS), ("acme", SHOPS), ("fleet", FLEETS))
    ]

    assert [answer.status_code for answer in answers] == [200] * 4
    statuses = [answer.json["status"] for answer in answers]
    assert statuses == ["accepted", "accepted", "duplicate", "duplicate"]
    assert rows(engine, "select shop_id, topic, duplicate_count from inbound_events order by id") == [
        (shop_id, "events", 1), (FLEET, "events", 1),
    ]  # fmt: skip
    work = rows(engine, "select shop_id, queue, topic, status from work_queue order by id")
    assert work == [(shop, "email", "mail_event", "pending") for shop in (shop_id, FLEET)]


def test_resend_is_deduplicated_by_its_svix_id(own_client: Client, engine: Engine, shop_id: int) -> None:
    body = resend_body("email.complained")
    for shop in ("acme", "fleet", "acme"):
        headers = sign_resend(body, QUO_SECRET.encode(), webhook_id="1", now=utc_now())
        answer = own_client.post(f"/webhooks/resend/{shop}", data=body, headers=headers)
        assert answer.status_code == 200, answer.data
    assert rows(engine, "select shop_id, delivery_key, duplicate_count from inbound_events order by id") == [
        (shop_id, "msg_1", 1), (FLEET, "msg_1", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shop", "account", "status", "error"),
    [
        ("acme", FLEETS, 401, "invalid_signature"),
        ("fleet", SHOPS, 401, "invalid_signature"),
        ("acme", SendGridAccount(), 401, "invalid_signature"),
        ("unknown", SHOPS, 404, "unknown_shop"),
    ],
)
def test_another_key_is_refused_and_nothing_is_stored(
    own_client: Client, engine: Engine, shop: str, account: SendGridAccount, status: int, error: str
) -> None:
    answer = post(own_client, shop, account)

    assert (answer.status_code, answer.json) == (status, {"error": error})
    assert rows(engine, "select count(*) from inbound_events") == [(0,)]


def test_a_changed_body_is_refused(own_client: Client) -> None:
    answer = own_client.post(
        "/webhooks/sendgrid/acme", data=BODY.replace(b"e2", b"e3"), headers=SHOPS.sign(BODY)
    )
    assert (answer.status_code, answer.json) == (401, {"error": "invalid_signature"})


def test_without_a_setting_the_fleet_has_no_account(client: Client) -> None:
    """The-Leetcode-City 475: a handler without its secret accepted everything."""
    for shop, account in (("fleet", FLEETS), ("acme", SHOPS)):
        answer = post(client, shop, account)
        assert (answer.status_code, answer.json) == (401, {"error": "invalid_signature"})


def test_no_shop_has_the_slug_of_the_fleet(engine: Engine) -> None:
    with transaction(engine) as tx, pytest.raises(ShopInvalid, match="'fleet' is the fleet itself"):
        add_shop(tx, slug="fleet", name="F", timezone="UTC", currency="CAD", now=utc_now())
