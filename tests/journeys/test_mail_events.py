"""What mail services report: from a signed webhook to the next mail, which is not sent."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.core.clock import utc_now
from services.demo.shops import DemoShop
from services.ledger.accept import record_work
from services.mail.message import Mail
from services.mail.outbox import record_mails
from services.providers.registry import SENDERS, sign
from tests.fakes.mail_events import resend_body, sendgrid_body, sendgrid_event
from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

ADA, BO = "ada@reports.example", "bo@reports.example"
MAILS = """
select id, recipient, token, status, error_code, provider_id, delivered_at, bounced_at, complained_at
  from mail_outbox where shop_id = :shop and recipient like '%@reports.example' order by created_at, recipient
"""
WORK = """
select e.provider, w.status, w.result from work_queue w left join inbound_events e on e.id = w.event_id
 where w.topic = 'mail_event' and w.shop_id = :shop order by w.id
"""
SUPPRESSED = "select address, reason from mail_suppressions where shop_id = :shop order by address, reason"


def mail(fleet: JourneyFleet, shop: DemoShop, *recipients: str) -> list[dict[str, Any]]:
    """Put a commercial mail to each of ``recipients`` into the outbox; return all once they have a result."""
    mails = [
        Mail(
            shop_id=fleet.shop_ids[shop.slug], kind="outreach_mail", period=uuid4().hex, recipient=recipient,
            subject="Hello", text="Hello\n", html="<p>Hello</p>", list_unsubscribe="https://hooks.example.com/u/1",
        )
        for recipient in recipients
    ]  # fmt: skip
    with fleet.engine.begin() as tx:
        record_work(tx, record_mails(tx, mails, utc_now()), utc_now())
    wait_for(lambda: all(row["status"] in ("sent", "refused") for row in list_mails(fleet, shop)))
    return list_mails(fleet, shop)


def list_mails(fleet: JourneyFleet, shop: DemoShop) -> list[dict[str, Any]]:
    names = ("id", "recipient", "token", "status", "error_code", "provider_id", "delivered_at", "bounced_at",
             "complained_at")  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in fleet.select(MAILS, shop=fleet.shop_ids[shop.slug])]


def post(fleet: JourneyFleet, shop: DemoShop, provider: str, body: bytes) -> int:
    """Post ``body`` as the provider signs it; return the status of the answer."""
    key = shop.secrets[SENDERS[provider].webhook_secret.name]
    headers = sign(provider, body, key, topic="", webhook_id=uuid4().hex, domain=shop.domain, now=utc_now())
    url = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}/webhooks/{provider}/{shop.slug}"
    return httpx.post(url, content=body, headers=headers).status_code


def test_events_become_work_of_their_own_and_stop_the_next_mail(fleet: JourneyFleet) -> None:
    shop = fleet.shops[1]
    shop_id = fleet.shop_ids[shop.slug]
    ada, bo = mail(fleet, shop, ADA, BO)
    assert {ada["status"], bo["status"]} == {"sent"}
    seen = len(fleet.select(WORK, shop=shop_id))
    bounce = sendgrid_event("journey-2", "bounce", ada, type="bounce", status="5.1.1", reason="550 gone")
    body = sendgrid_body(
        sendgrid_event("journey-1", "delivered", ada),
        bounce,
        sendgrid_event("journey-3", "open", ada),
        bounce,
    )
    complaint = resend_body("email.complained", bo)

    assert post(fleet, shop, "sendgrid", body.replace(b"550", b"551")) == 200
    assert post(fleet, shop, "resend", complaint) == 200
    for _ in range(2):  # the services repeat what they reported, in other bodies too
        assert post(fleet, shop, "sendgrid", body) == 200
        assert post(fleet, shop, "resend", complaint) == 200

    wait_for(lambda: len(fleet.select(SUPPRESSED, shop=shop_id)) == 2)
    wait_for(lambda: not fleet.count_open_work())
    results = sorted(result for _, _, result in fleet.select(WORK, shop=shop_id)[seen:])
    assert results == ["bounced", "complained", "delivered", "duplicate", "duplicate", "split", "split"]
    assert fleet.select(SUPPRESSED, shop=shop_id) == [(ADA, "bounced"), (BO, "complained")]
    ada, bo = list_mails(fleet, shop)
    assert None not in (ada["delivered_at"], ada["bounced_at"], bo["complained_at"])

    *_, to_ada, to_bo = mail(fleet, shop, ADA, BO)
    assert [(one["status"], one["error_code"]) for one in (to_ada, to_bo)] == [
        ("refused", "mail.suppressed")
    ] * 2
    wait_for(lambda: not fleet.count_open_work())
    dead = "select 1 from work_queue where shop_id = :shop and topic like 'mail_%' and status = 'dead'"
    assert fleet.select(dead, shop=shop_id) == []
