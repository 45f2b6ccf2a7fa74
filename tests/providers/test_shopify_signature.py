"""Shopify's webhooks: only genuine bytes become a delivery."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import WebhookRejected
from services.providers.shopify import read_shopify_delivery, shopify_object_key, sign_shopify

SECRET = b"hush"
ORDER = {
    "id": 820982911946154508,
    "admin_graphql_api_id": "gid://shopify/Order/820982911946154508",
    "updated_at": "2026-11-21T04:00:00-08:00",
}


def signed(body, secret=SECRET, **changed):
    values = {"topic": "orders/create", "webhook_id": "b54557e4", "domain": "ada.myshopify.com"}
    return {name.lower(): value for name, value in sign_shopify(body, secret, **(values | changed)).items()}


def test_genuine_order_is_read(now):
    body = orjson.dumps(ORDER)

    delivery = read_shopify_delivery(signed(body), body, [SECRET], now)

    assert (delivery.topic, delivery.delivery_key) == ("orders/create", "b54557e4")
    assert delivery.key == "gid://shopify/Order/820982911946154508"
    assert delivery.occurred_at == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert delivery.readable


def test_signature_matches_the_documentation(now):
    body = b'{"id":1}'

    headers = signed(body)

    expected = base64.b64encode(hmac.new(SECRET, body, hashlib.sha256).digest()).decode()
    assert headers["x-shopify-hmac-sha256"] == expected


@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_any_flipped_byte_is_refused(position, flip):
    body = orjson.dumps(ORDER)
    changed = bytearray(body)
    changed[position % len(body)] ^= flip

    with pytest.raises(WebhookRejected):
        read_shopify_delivery(signed(body), bytes(changed), [SECRET], datetime.now(UTC))


def test_previous_secret_is_still_valid(now):
    body = orjson.dumps(ORDER)

    assert read_shopify_delivery(signed(body, b"old"), body, [b"new", b"old"], now).readable


@pytest.mark.parametrize("secrets", [[], [b""], [b"other"], [b"other", b""]])
def test_without_the_right_secret_nothing_is_genuine(secrets, now, refusal):
    body = orjson.dumps(ORDER)

    assert "none of the shop's secrets" in refusal(
        lambda: read_shopify_delivery(signed(body), body, secrets, now)
    )


def test_empty_secret_verifies_nothing(now, refusal):
    body = orjson.dumps(ORDER)

    refusal(lambda: read_shopify_delivery(signed(body, b""), body, [b""], now))


def test_empty_body_is_refused(now, refusal):
    assert "empty" in refusal(lambda: read_shopify_delivery(signed(b""), b"", [SECRET], now))


def test_hex_signature_is_refused(now, refusal):
    body = orjson.dumps(ORDER)
    headers = signed(body) | {"x-shopify-hmac-sha256": hmac.new(SECRET, body, hashlib.sha256).hexdigest()}

    refusal(lambda: read_shopify_delivery(headers, body, [SECRET], now))


@pytest.mark.parametrize("name", ["hmac-sha256", "topic", "webhook-id"])
@pytest.mark.parametrize("value", [None, "", "a\x00b", "x" * 5000, "é", "a\r\nb"])
def test_missing_or_unstorable_header_is_refused(name, value, now, refusal):
    body = orjson.dumps(ORDER)
    headers = signed(body)
    del headers[f"x-shopify-{name}"]
    if value is not None:
        headers[f"x-shopify-{name}"] = value

    with pytest.raises(WebhookRejected) as refused:
        read_shopify_delivery(headers, body, [SECRET], now)
    assert refused.value.code == ("invalid_signature" if name == "hmac-sha256" else "missing_header")
    refusal(lambda: read_shopify_delivery(headers, body, [b"another"], now))


def test_domain_of_the_sender_is_read_in_lower_case(now):
    body = orjson.dumps(ORDER)

    delivery = read_shopify_delivery(signed(body, domain="Ada.MyShopify.com"), body, [SECRET], now)

    assert delivery.shop_domain == "ada.myshopify.com"


def test_unprefixed_headers_of_the_events_preview_are_read(now):
    body = orjson.dumps(ORDER)
    headers = {name.removeprefix("x-"): value for name, value in signed(body).items()}

    assert read_shopify_delivery(headers, body, [SECRET], now).delivery_key == "b54557e4"


@pytest.mark.parametrize("body", [b"{", b"[1]", b"null", b'{"a":NaN}', b"\xff\xfe"])
def test_signed_body_that_is_not_an_object_is_unreadable(body, now):
    delivery = read_shopify_delivery(signed(body), body, [SECRET], now)

    assert not delivery.readable
    assert (delivery.topic, delivery.delivery_key, delivery.key) == ("orders/create", "b54557e4", "")


def test_triggered_at_may_have_nanoseconds(now):
    body = orjson.dumps(ORDER)
    headers = signed(body) | {"x-shopify-triggered-at": "2023-03-29T18:00:27.877041743Z"}

    delivery = read_shopify_delivery(headers, body, [SECRET], now)

    assert delivery.occurred_at == datetime(2023, 3, 29, 18, 0, 27, 877041, tzinfo=UTC)


def test_signed_time_is_read_back(now):
    body = orjson.dumps(ORDER)
    at = now - timedelta(microseconds=1)

    assert read_shopify_delivery(signed(body, now=at), body, [SECRET], now).occurred_at == at


def test_stored_headers_contain_no_signature_and_no_credentials(now):
    body = orjson.dumps(ORDER)
    headers = signed(body) | {"authorization": "Bearer x", "cookie": "a=b", "user-agent": "Captain\x00Hook"}

    kept = read_shopify_delivery(headers, body, [SECRET], now).headers

    assert kept == {"x-shopify-shop-domain": "ada.myshopify.com", "x-shopify-api-version": "2026-07"}


@pytest.mark.parametrize(
    ("topic", "payload", "key"),
    [
        ("orders/delete", {"id": 7}, "gid://shopify/Order/7"),
        ("orders/edited", {"order_edit": {"order_id": 7}}, "gid://shopify/Order/7"),
        ("refunds/create", {"id": 1, "order_id": 2**62}, f"gid://shopify/Order/{2**62}"),
        ("order_transactions/create", {"id": 1, "order_id": 7}, "gid://shopify/Order/7"),
        ("inventory_levels/update", {"inventory_item_id": 2**60, "location_id": 5}, f"{2**60}:5"),
        ("inventory_levels/update", {"inventory_item_id": None}, ""),
        ("products/update", {"id": 9}, "9"),
        ("refunds/create", {"order_id": [1]}, ""),
        ("orders/create", {"admin_graphql_api_id": "a\x00b"}, ""),
        ("app/uninstalled", {}, ""),
    ],
)
def test_key_is_the_id_of_the_object(topic, payload, key):
    assert shopify_object_key(topic, payload) == key
