"""Signatures of other Python libraries are accepted, and ours by them."""

import base64
import importlib
import random
from datetime import UTC, datetime, timedelta

import pytest
import stripe
from stripe import WebhookSignature

from services.core.clock import utc_now
from services.core.errors import WebhookRejected
from services.providers.openphone import read_openphone_delivery
from services.providers.standard_webhooks import read_standard_delivery, sign_standard
from services.providers.stripe import read_stripe_delivery, sign_stripe
from services.sandbox.payloads.quo import make_message
from services.sandbox.payloads.stripe import make_charge, make_event
from services.sandbox.payloads.templates import dump

STANDARD_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
STRIPE_SECRET = "whsec_5f2a9c"


@pytest.fixture
def event() -> bytes:
    rng, at = random.Random(1), datetime(2026, 11, 21, tzinfo=UTC)
    charge = make_charge(rng, amount_cents=1999, currency="EUR", created_at=at)
    return dump(make_event(rng, "charge.succeeded", charge, created_at=at))


@pytest.fixture(params=["standardwebhooks", "svix.webhooks"])
def library(request):
    """The class of each library that signs and verifies. To import svix takes 1.7 s."""
    return importlib.import_module(request.param).Webhook


@pytest.fixture
def message() -> bytes:
    return dump(make_message(random.Random(1), sent_at=datetime(2026, 11, 21, tzinfo=UTC)))


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


def test_stripe_signs_and_we_accept(event):
    header = WebhookSignature.generate_signature_header(event.decode(), STRIPE_SECRET)

    delivery = read_stripe_delivery({"stripe-signature": header}, event, [STRIPE_SECRET.encode()], utc_now())

    assert delivery.topic == "charge.succeeded"
    with pytest.raises(WebhookRejected):
        read_stripe_delivery(
            {"stripe-signature": header}, event[:-1] + b" ", [STRIPE_SECRET.encode()], utc_now()
        )


def test_we_sign_and_stripe_accepts(event):
    header = sign_stripe(event, STRIPE_SECRET.encode(), now=utc_now())["Stripe-Signature"]

    assert stripe.Webhook.construct_event(event, header, STRIPE_SECRET)["type"] == "charge.succeeded"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(event[:-1] + b" ", header, STRIPE_SECRET)


def test_standard_libraries_sign_and_we_accept(library, message):
    now = utc_now()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": library(STANDARD_SECRET).sign("msg_1", now, message.decode()),
    }
    secrets = [STANDARD_SECRET.encode()]

    assert read_standard_delivery(headers, message, secrets, now).delivery_key == "msg_1"
    assert read_openphone_delivery(headers, message, secrets, now).topic == "message.received"
    with pytest.raises(WebhookRejected):
        read_standard_delivery(headers, message[:-1] + b" ", secrets, now)


def test_we_sign_and_standard_libraries_accept(library, message):
    headers = sign_standard(message, STANDARD_SECRET.encode(), webhook_id="msg_1", now=utc_now())

    library(STANDARD_SECRET).verify(message, lower(headers))
    with pytest.raises(Exception, match=r"(?i)signature"):
        library(STANDARD_SECRET).verify(message[:-1] + b" ", lower(headers))


@pytest.mark.parametrize("minutes", [-6, 6])
def test_we_and_standard_libraries_refuse_the_same_timestamps(library, minutes, message):
    now = utc_now()
    headers = lower(
        sign_standard(
            message, STANDARD_SECRET.encode(), webhook_id="msg_1", now=now + timedelta(minutes=minutes)
        )
    )

    with pytest.raises(Exception, match=r"(?i)timestamp"):
        library(STANDARD_SECRET).verify(message, headers)
    with pytest.raises(WebhookRejected, match="timestamp"):
        read_standard_delivery(headers, message, [STANDARD_SECRET.encode()], now)


def test_stripe_accepts_the_far_future_and_we_do_not(event):
    now = utc_now()
    headers = sign_stripe(event, STRIPE_SECRET.encode(), now=now + timedelta(hours=3))

    assert stripe.Webhook.construct_event(event, headers["Stripe-Signature"], STRIPE_SECRET)
    with pytest.raises(WebhookRejected, match="ahead"):
        read_stripe_delivery(lower(headers), event, [STRIPE_SECRET.encode()], now)
