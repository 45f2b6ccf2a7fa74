"""Quo's two systems: the header decides which one, and a shop may have a secret of each."""

import base64
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import WebhookRejected
from services.providers.openphone import openphone_object_key, read_openphone_delivery, sign_openphone
from services.providers.standard_webhooks import sign_standard

LEGACY = base64.b64encode(b"\xff\x00 any bytes at all \x80")
NEWER = b"whsec_" + base64.b64encode(b"n" * 24)
EVENT = {
    "id": "EV1",
    "createdAt": "2026-11-21T11:59:00.500Z",
    "type": "message.received",
    "data": {"object": {"id": "AC1"}},
}
BODY = orjson.dumps(EVENT)


def signed(now, body=BODY, secret=LEGACY):
    return {"openphone-signature": sign_openphone(body, secret, now=now)["openphone-signature"]}


def test_genuine_legacy_event_is_read(now):
    delivery = read_openphone_delivery(signed(now), BODY, [LEGACY], now)

    assert (delivery.topic, delivery.delivery_key, delivery.key) == ("message.received", "EV1", "AC1")
    assert delivery.occurred_at == datetime(2026, 11, 21, 11, 59, 0, 500_000, tzinfo=UTC)


def test_genuine_newer_event_has_its_webhook_id_as_key(now):
    headers = sign_standard(BODY, NEWER, webhook_id="msg_1", now=now)

    delivery = read_openphone_delivery(headers, BODY, [NEWER], now)

    assert (delivery.delivery_key, delivery.key) == ("msg_1", "AC1")


def test_shop_may_have_a_secret_of_each_system(now):
    secrets = [NEWER, LEGACY]

    assert read_openphone_delivery(signed(now), BODY, secrets, now).delivery_key == "EV1"
    newer = sign_standard(BODY, NEWER, webhook_id="msg_1", now=now)
    assert read_openphone_delivery(newer, BODY, secrets, now).delivery_key == "msg_1"


def test_several_entries_need_one_that_matches(now):
    valid = signed(now)["openphone-signature"]
    headers = {"openphone-signature": f"hmac;1;123;AAAA, {valid},hmac;2;1;zz,junk"}

    assert read_openphone_delivery(headers, BODY, [LEGACY], now).readable


@pytest.mark.parametrize(("seconds", "accepted"), [(-300, True), (-301, False), (300, True), (301, False)])
def test_timestamp_may_be_300_s_off(seconds, accepted, now, refusal):
    headers = signed(now + timedelta(seconds=seconds))

    if accepted:
        assert read_openphone_delivery(headers, BODY, [LEGACY], now).readable
    else:
        refusal(lambda: read_openphone_delivery(headers, BODY, [LEGACY], now))


@pytest.mark.parametrize(
    "header", ["", "hmac;1;;", "hmac;1;1", "hmac;2;1;AAAA", "hmac;1;x;AAAA", "é", "x" * 9999]
)
def test_malformed_header_is_refused(header, now, refusal):
    refusal(lambda: read_openphone_delivery({"openphone-signature": header}, BODY, [LEGACY], now))


def test_missing_headers_are_refused(now, refusal):
    assert "missing" in refusal(lambda: read_openphone_delivery({}, BODY, [LEGACY], now))


def test_empty_key_verifies_nothing(now, refusal):
    refusal(lambda: read_openphone_delivery(signed(now, secret=b""), BODY, [b""], now))


@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_any_flipped_byte_is_refused(position, flip):
    now = datetime(2026, 11, 21, tzinfo=UTC)
    changed = bytearray(BODY)
    changed[position % len(BODY)] ^= flip

    with pytest.raises(WebhookRejected):
        read_openphone_delivery(signed(now), bytes(changed), [LEGACY], now)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"id":"EV1"}', b'{"type":"a"}', b'{"id":"","type":"a"}'])
def test_signed_legacy_body_without_an_event_has_its_digest_as_key(body, now):
    delivery = read_openphone_delivery(signed(now, body), body, [LEGACY], now)

    assert (delivery.readable, delivery.topic) == (False, "unreadable")
    assert delivery.delivery_key.startswith("sha256:")


@pytest.mark.parametrize("name", ["callSummary", "call.summary.completed"])
def test_both_names_of_a_topic_become_one(name, now):
    body = orjson.dumps(EVENT | {"type": name, "data": {"object": {"callId": "AC9"}}})

    delivery = read_openphone_delivery(signed(now, body), body, [LEGACY], now)

    assert (delivery.topic, delivery.key) == ("call.summary.completed", "AC9")


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"resource": {"id": "AC1"}}, "AC1"),
        ({"resource": {"callId": "AC2"}}, "AC2"),
        ({"object": {"id": "AC3"}}, "AC3"),
        ({"resource": None}, ""),
        (None, ""),
    ],
)
def test_key_is_the_id_of_the_call_message_or_task(data, key):
    assert openphone_object_key({"data": data}) == key
