"""The outcome of each scripted answer of the Admin API."""

from datetime import timedelta

import httpx
import pytest

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.providers.shopify_admin import (
    ShopifyAdmin,
)
from services.providers.shopify_answers import (
    ShopifyThrottled,
)
from tests.providers.shopify_admin_calls import SHOP, available, push


def scripted(answer):
    """An Admin API with scripted answers."""
    return ShopifyAdmin(
        httpx.Client(transport=httpx.MockTransport(answer)), f"https://{SHOP}", "shpat_secret"
    )


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"<html>", OutcomeUnknown, "shopify.no_answer"),
        (b"{}", OutcomeUnknown, "shopify.no_answer"),
        (
            b'{"errors":[{"message":"x","extensions":{"code":"ACCESS_DENIED"}}]}',
            Misconfigured,
            "shopify.access_denied",
        ),
        (
            b'{"errors":[{"message":"x","extensions":{"code":"THROTTLED"}}]}',
            ShopifyThrottled,
            "shopify.throttled",
        ),
        (b'{"errors":[{"message":"x"}]}', Refused, "shopify.document_refused"),
        (b'{"errors":"Not Found"}', Refused, "shopify.document_refused"),
        (
            b'{"errors":[{"extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}',
            OutcomeUnknown,
            "shopify.no_answer",
        ),
        (
            b'{"data":{"inventorySetQuantities":{"userErrors":[{"code":"IDEMPOTENCY_CONCURRENT_REQUEST","message":"m"}]}}}',
            RetryLater,
            "shopify.idempotency_concurrent_request",
        ),
        (
            b'{"data":{"inventorySetQuantities":{"userErrors":[{"code":"INVALID_LOCATION","field":["input"],"message":"m"}]}}}',
            Refused,
            "shopify.invalid_location",
        ),
    ],
)
def test_each_error_in_a_200_answer_is_classified(body, kind, code):
    with pytest.raises(kind) as caught:
        push(scripted(lambda request: httpx.Response(200, content=body)))
    assert caught.value.code == code


def test_without_an_answer_a_change_is_unknown_and_a_read_is_retried():
    def silence(request):
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(OutcomeUnknown):
        push(scripted(silence))
    with pytest.raises(RetryLater):
        available(scripted(silence))


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        *(("2.0", 2), ("7", 7), ("", 2), ("soon", 2), ("1e99", 3600), ("inf", 3600)),
        *(("nan", 2), ("-inf", 2), ("-1e400", 2), ("-1e20", 2), ("2, 3", 2)),
        ("Sat, 21 Nov 99999999999999999999 12:00:30 GMT", 2),
        ("Sat, 21 Nov 2026 12:00:30 +99999999999999", 2),
        ("Sat, 21 Nov 2026 12:00:30 -0000", 2),
    ],
)
def test_retry_after_is_used_up_to_a_limit(stated, seconds):
    with pytest.raises(ShopifyThrottled) as caught:
        push(scripted(lambda request: httpx.Response(429, headers={"Retry-After": stated})))
    assert caught.value.wait == timedelta(seconds=seconds)


def test_retry_after_as_a_date_counts_from_the_date_of_the_answer():
    headers = {"Date": "Sat, 21 Nov 2026 12:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}

    with pytest.raises(ShopifyThrottled) as caught:
        push(scripted(lambda request: httpx.Response(429, headers=headers)))
    assert caught.value.wait == timedelta(seconds=30)


def test_token_is_not_sent_to_a_redirect():
    def elsewhere(request):
        assert request.url.host == SHOP
        return httpx.Response(302, headers={"Location": "https://evil.example/"})

    with pytest.raises(Misconfigured):
        push(scripted(elsewhere))
