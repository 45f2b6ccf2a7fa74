"""Standard Webhooks: the specification's vector, rotation, tolerance in both directions, and random input."""

import base64
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import WebhookRejected
from services.providers.standard_webhooks import read_standard_delivery, sign_standard

SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = b"whsec_" + base64.b64encode(b"o" * 32)
BODY = orjson.dumps({"type": "invoice.paid", "timestamp": "2026-11-21T11:59:59Z", "data": {"id": "in_1"}})


def signed(now, body=BODY, secret=SECRET):
    headers = sign_standard(body, secret, webhook_id="msg_1", now=now)
    return {name.lower(): value for name, value in headers.items()}


def test_vector_of_the_specification_is_genuine():
    at = datetime.fromtimestamp(1614265330, UTC)
    body = b'{"test": 2432232314}'
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    delivery = read_standard_delivery(headers, body, [SECRET], at)

    assert (delivery.topic, delivery.delivery_key) == ("untyped", "msg_p5jXN8AQM9LWM0D4loKWxJek")
    assert delivery.occurred_at == at


def test_genuine_message_is_read(now):
    delivery = read_standard_delivery(signed(now), BODY, [SECRET], now)

    assert delivery.topic == "invoice.paid"
    assert (delivery.key, delivery.occurred_at) == ("in_1", now - timedelta(seconds=1))


def test_list_of_signatures_needs_one_that_matches(now, refusal):
    headers = signed(now)
    valid = headers["webhook-signature"]

    headers["webhook-signature"] = f"v1a,xyz nocomma v1,AAAA {valid} v2,zzz"
    assert read_standard_delivery(headers, BODY, [SECRET], now).readable
    headers["webhook-signature"] = valid.replace("v1,", "v1a,")
    refusal(lambda: read_standard_delivery(headers, BODY, [SECRET], now))


def test_both_secrets_of_a_rotation_are_valid(now):
    for secret in (SECRET, OTHER):
        assert read_standard_delivery(signed(now, secret=secret), BODY, [OTHER, SECRET], now).readable


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix(b"whsec_")])
def test_prefix_of_the_secret_may_be_missing(secret, now):
    assert read_standard_delivery(signed(now), BODY, [secret], now).readable


def test_padding_of_the_secret_may_be_missing(now):
    padded = b"whsec_" + base64.b64encode(b"k" * 25)

    assert read_standard_delivery(signed(now, secret=padded), BODY, [padded.rstrip(b"=")], now).readable


@pytest.mark.parametrize("secret", [b"", b"whsec_"])
def test_empty_key_verifies_nothing(secret, now, refusal):
    refusal(lambda: read_standard_delivery(signed(now, secret=secret), BODY, [secret], now))


@pytest.mark.parametrize(("seconds", "accepted"), [(-300, True), (-301, False), (300, True), (301, False)])
def test_timestamp_may_be_300_s_off_either_way(seconds, accepted, now, refusal):
    headers = signed(now + timedelta(seconds=seconds))

    if accepted:
        assert read_standard_delivery(headers, BODY, [SECRET], now).readable
    else:
        refusal(lambda: read_standard_delivery(headers, BODY, [SECRET], now))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "a\x00b", "x" * 5000, "é", "1.5", "-1"])
def test_missing_or_malformed_header_is_refused(name, value, now, refusal):
    headers = signed(now)
    del headers[name]
    if value is not None:
        headers[name] = value

    refusal(lambda: read_standard_delivery(headers, BODY, [SECRET], now))


def test_changed_id_is_refused_because_it_is_signed(now, refusal):
    refusal(lambda: read_standard_delivery(signed(now) | {"webhook-id": "msg_2"}, BODY, [SECRET], now))


def test_older_svix_header_names_mean_the_same(now):
    headers = {name.replace("webhook-", "svix-"): value for name, value in signed(now).items()}

    assert read_standard_delivery(headers, BODY, [SECRET], now).delivery_key == "msg_1"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"type":5}', b'{"type":""}', b"\xff"])
def test_signed_body_that_is_not_a_message_has_the_webhook_id_as_key(body, now):
    delivery = read_standard_delivery(signed(now, body), body, [SECRET], now)

    assert not delivery.readable
    assert (delivery.topic, delivery.delivery_key) == ("unreadable", "msg_1")


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=200))
def test_random_input_is_refused_without_another_error(webhook_id, sent_at, signatures):
    headers = {"webhook-id": webhook_id, "webhook-timestamp": sent_at, "webhook-signature": signatures}

    with pytest.raises(WebhookRejected):
        read_standard_delivery(headers, BODY, [SECRET], datetime.now(UTC))
