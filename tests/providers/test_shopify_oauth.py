"""The outcome of each answer to a token refresh: from the sandbox over HTTP, the others scripted."""

from datetime import timedelta

import httpx
import pytest

from services.core.errors import Misconfigured, RetryLater
from services.providers.oauth import request_grant
from services.providers.shopify_oauth import SHOPIFY_TOKENS

SHOP = "ada.myshopify.com"
OAUTH = {"client_id": "app", "client_secret": "shpss_right", "refresh_token": "shprt_first"}
SECRETS = ("shpss_right", "shprt_first", "shpat_", "shprt_")


def refresh(answer, base=f"https://{SHOP}", **other):
    changes = {name: OAUTH[name] for name in ("client_id", "client_secret", "refresh_token")} | other
    with httpx.Client(transport=httpx.MockTransport(answer) if answer else None) as http:
        return request_grant(SHOPIFY_TOKENS, http, base, {"grant_type": "refresh_token", **changes})


def test_refresh_returns_a_new_pair_and_the_old_one_is_valid_until_it_is_used(sandbox):
    sandbox.state.control({"shop": SHOP, "oauth": OAUTH})
    base = f"{sandbox.url}/shopify/{SHOP}"

    first = refresh(None, base=base)
    repeated = refresh(None, base=base)

    assert first.expires_in == timedelta(hours=1)
    assert first.refresh_expires_in == timedelta(days=30)
    assert first.refresh_token != "shprt_first"
    assert repeated.access_token != first.access_token
    assert not any(secret in repr(first) for secret in SECRETS)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"refresh_token": "shprt_gone"}, "shopify.refresh_refused"),
        ({"client_secret": "shpss_no"}, "shopify.client_refused"),
    ],
)
def test_refusal_describes_the_repair_without_a_secret(sandbox, changes, code):
    sandbox.state.control({"shop": SHOP, "oauth": OAUTH})

    with pytest.raises(Misconfigured) as caught:
        refresh(None, base=f"{sandbox.url}/shopify/{SHOP}", **changes)

    assert caught.value.code == code
    assert "fleet shops secret" in caught.value.detail
    assert not any(secret in caught.value.detail for secret in (*SECRETS, *changes.values()))


@pytest.mark.parametrize(
    ("response", "kind", "code"),
    [
        (httpx.Response(400, json={"error": "invalid_grant"}), Misconfigured, "shopify.refresh_refused"),
        (httpx.Response(400, content=b"<html>"), Misconfigured, "shopify.refresh_refused"),
        (httpx.Response(401, json={}), Misconfigured, "shopify.client_refused"),
        (
            httpx.Response(400, json={"error": "application_cannot_be_found"}),
            Misconfigured,
            "shopify.client_refused",
        ),
        (httpx.Response(404), Misconfigured, "shopify.address_wrong"),
        (httpx.Response(302, headers={"location": "x"}), Misconfigured, "shopify.address_wrong"),
        (httpx.Response(429), RetryLater, "shopify.unavailable"),
        (httpx.Response(503), RetryLater, "shopify.unavailable"),
        (httpx.Response(200, content=b"<html>"), RetryLater, "shopify.no_answer"),
        (httpx.Response(200, json={"access_token": "shpat_1"}), RetryLater, "shopify.no_answer"),
        (
            httpx.Response(200, json={"access_token": "a", "refresh_token": "b", "expires_in": True}),
            RetryLater,
            "shopify.no_answer",
        ),
    ],
)  # fmt: skip
def test_each_answer_has_its_error(response, kind, code):
    with pytest.raises(kind) as caught:
        refresh(lambda request: response)
    assert caught.value.code == code


def test_refresh_without_an_answer_is_retried():
    def silence(request):
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(RetryLater):
        refresh(silence)


def test_address_without_a_scheme_is_misconfigured():
    with pytest.raises(Misconfigured) as caught:
        refresh(None, base="ada.myshopify.com")
    assert caught.value.code == "shopify.address_wrong"
